"""The codecs by name: for each nature of a slot the code that it is kept in.

Ours keep the root of what is never negative, never round it to 0, and round at random. The `_nearest` ones are the
forms of bitsandbytes and torchao: there small second moments become 0, and the next step divides by it; and a second
moment that decays by less than half a unit a step does not decay. They are here to be compared with.
"""

from dataclasses import dataclass, replace

from jaxopt_lectures.storage.codes import Code
from jaxopt_lectures.storage.levels import dynamic, floats, geometric, linear


@dataclass(frozen=True)
class Codec:
    """What a word like "int8" stands for.

    Attributes:
      name: the word.
      summary: one line.
      source: where it is from.
      signed: the code of slots of either sign; None keeps them as they are.
      nonnegative: the code of slots that are never negative; None keeps them as they are.
      block: elements that share a scale, where the user does not say.
    """

    name: str
    summary: str
    source: str
    signed: Code | None
    nonnegative: Code | None
    block: int = 256

    def code(self, nature: str) -> Code | None:
        """The code of slots of that nature; None for "weights", which are to be evaluated and not only stepped by."""
        return {"signed": self.signed, "nonnegative": self.nonnegative}.get(nature)

    @property
    def indifferent(self) -> bool:
        """Whether it keeps both natures alike."""
        return not any(code and code.levels for code in (self.signed, self.nonnegative))


_DETTMERS = "T. Dettmers et al., ICLR 2022, arXiv:2110.02861"
_LI = "B. Li, J. Chen, J. Zhu, NeurIPS 2023, arXiv:2309.01507"
_FP8 = "P. Micikevicius et al., FP8 formats for deep learning, 2022, arXiv:2209.05433"
_OCTAVES = 8  # of the 4-bit root: as far down as the smallest first moment, so that no quotient of the two explodes


def _pair(signed: Code, **changes: object) -> tuple[Code, Code]:
    """A code, and that of non-negative numbers."""
    rest = {"nature": "nonnegative", "turned": False, **changes}
    return signed, replace(signed, name=signed.name.replace("signed", "nonnegative"), **rest)  # type: ignore[arg-type]


def _bfloat16(name: str, stochastic: bool) -> tuple[Code, Code]:
    return _pair(Code(f"{name} signed", "bfloat16", "signed", stochastic=stochastic))


def _fp8(name: str, dtype: str) -> tuple[Code, Code]:
    return _pair(Code(f"{name} signed", "uint8", "signed", floats(dtype)), root=True, never_zero=True)


_INT8 = Code("int8 signed", "uint8", "signed", dynamic(8, signed=True), turned=True)
_INT4 = Code("int4 signed", "uint8", "signed", dynamic(4, signed=True), width=4, turned=True)
_INT8_NEAREST = replace(_INT8, name="int8_nearest signed", stochastic=False, turned=False)
_INT4_NEAREST = replace(_INT4, name="int4_nearest signed", stochastic=False, turned=False)

_BOTH = (
    Codec("f32", "as it is: nothing is encoded", "-", None, None),
    Codec("bf16", "half the bytes, rounded at random", "bfloat16", *_bfloat16("bf16", True)),
    Codec(
        "bf16_nearest",
        "half the bytes, rounded to nearest: what decays slowly stops decaying",
        "bfloat16",
        *_bfloat16("bf16_nearest", False),
    ),
    Codec("fp8", "a quarter: e4m3 floats, a scale a block", _FP8, *_fp8("fp8", "float8_e4m3fn")),
    Codec("fp8_e5m2", "a quarter: e5m2 floats, a scale a block", _FP8, *_fp8("fp8_e5m2", "float8_e5m2")),
    Codec(
        "int8",
        "a quarter: dynamic map, root of what is never negative, rounded at random",
        _DETTMERS,
        *_pair(_INT8, levels=dynamic(8, signed=False), root=True, never_zero=True),
    ),
    Codec(
        "int8_nearest",
        "a quarter, as bitsandbytes and torchao keep it",
        _DETTMERS,
        *_pair(_INT8_NEAREST, levels=dynamic(8, signed=False)),
    ),
    Codec(
        "int4",
        "an eighth: dynamic map; geometric one for the root of what is never negative; rounded at random",
        _LI,
        *_pair(_INT4, levels=geometric(4, _OCTAVES), root=True, never_zero=True),
        block=128,
    ),
    Codec(
        "int4_nearest",
        "an eighth, as torchao keeps it",
        _LI,
        *_pair(_INT4_NEAREST, levels=linear(4)),
        block=128,
    ),
)
CODECS = {codec.name: codec for codec in _BOTH}


def codec(given: str | Codec) -> Codec:
    """The codec of that name, or the one that was given.

    Raises:
      TypeError: neither a name nor a `Codec`.
      ValueError: no codec has that name.
    """
    if isinstance(given, Codec):
        return given
    if not isinstance(given, str):
        raise TypeError(f"a codec is a name or a Codec, got {type(given).__name__} {given!r}")
    if given not in CODECS:
        raise ValueError(f"no codec is called {given!r}; known: {', '.join(CODECS)}")
    return CODECS[given]

"""Character models of program text: the source files of Python's own standard library, which every reader has.

The files differ from one Python version to the next, and so does what is learnt from them: `sources` gives every
file's sha256, and results of different files must not be compared. All files are there in Python 3.11 to 3.14.

Sources: A. Radford et al., "Language models are unsupervised multitask learners", 2019 (the transformer);
S. Hochreiter, J. Schmidhuber, 1997 (LSTM); K. Cho et al., arXiv:1406.1078 (GRU).
"""

import functools
import hashlib
import importlib.util
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxopt_lectures.models.recurrent import Recurrent
from jaxopt_lectures.models.transformer import GPT
from jaxopt_lectures.tasks.measures import cross_entropy
from jaxopt_lectures.tasks.task import Data, Examples, Task

MODULES = (  # one file each, written in Python, in every version
    "argparse",
    "calendar",
    "csv",
    "difflib",
    "fractions",
    "heapq",
    "random",
    "shlex",
    "statistics",
    "textwrap",
    "tokenize",
)
ALPHABET = string.digits + string.ascii_letters + string.punctuation + " \n"  # one token each
VOCABULARY = len(ALPHABET) + 1  # and one for every other character
CONTEXT = 64  # characters of a window
_VALIDATION = 0.1  # the last tenth of every file
_JUDGED = 256  # windows to validate on, spread over all there are


class Source(NamedTuple):
    """A file: the module's name, where it is, the sha256 of its bytes in hexadecimal."""

    name: str
    path: Path
    sha256: str


@functools.cache
def sources() -> tuple[Source, ...]:
    """The files that are learnt from, in order.

    Raises:
      FileNotFoundError: this Python has no source of a module; the message names it.
    """
    return tuple(Source(name, path := _find(name), hashlib.sha256(path.read_bytes()).hexdigest()) for name in MODULES)


def encode(text: str) -> np.ndarray:
    """Every character's place in `ALPHABET`; its length for a character that is not there. int32."""
    place = {character: token for token, character in enumerate(ALPHABET)}
    return np.array([place.get(character, len(ALPHABET)) for character in text], np.int32)


def data() -> Data:
    """Windows of 64 characters, and as targets the same windows one character later; (n, 64) int32 both.

    The first nine tenths of every file are cut into training windows, which do not overlap; from the last tenths come
    256 validation windows.
    """
    train, validation = [], []
    for source in sources():
        tokens = encode(source.path.read_text(encoding="utf-8"))
        cut = round(len(tokens) * (1 - _VALIDATION))
        train.append(_windows(tokens[:cut]))
        validation.append(_windows(tokens[cut:]))
    later = np.concatenate(validation)
    later = later[np.linspace(0, len(later) - 1, _JUDGED).round().astype(int)]
    parts = (Examples(windows[:, :-1], windows[:, 1:]) for windows in (np.concatenate(train), later))
    return Data(*parts, files={source.name: source.sha256 for source in sources()})


def bits(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The cross-entropy in bits per character: chance is log2(97) = 6.6."""
    return cross_entropy(model, x, y) / math.log(2)


def transformer(seed: int) -> nnx.Module:
    """Two layers of width 32, two heads each."""
    return GPT(VOCABULARY, context=CONTEXT, layers=2, heads=2, width=32, rngs=nnx.Rngs(seed))


def recurrent(cell: str, seed: int) -> nnx.Module:
    """One layer of 64 units that reads characters and gives the logits of each one's next."""
    return Recurrent(cell, VOCABULARY, 64, VOCABULARY, every_step=True, vocabulary=True, rngs=nnx.Rngs(seed))


def _find(name: str) -> Path:
    found = importlib.util.find_spec(name)
    path = Path(found.origin or "") if found else Path()
    if path.suffix != ".py" or not path.is_file():
        raise FileNotFoundError(
            f"this Python has no source file of its module {name!r} (looked for {path}); the character tasks read it"
        )
    return path


def _windows(tokens: np.ndarray) -> np.ndarray:
    """(n, 65): consecutive windows whose last character is the next one's first."""
    count = (len(tokens) - 1) // CONTEXT
    starts = CONTEXT * np.arange(count)
    return tokens[starts[:, None] + np.arange(CONTEXT + 1)]


def _task(kind: str, summary: str, model: Callable[[int], nnx.Module], target: float) -> Task:
    return Task(
        name=f"characters_{kind}",
        summary=f"program text by characters, {summary}",
        model=model,
        loss=cross_entropy,
        metric=bits,
        data=data,
        batch_size=16,
        target=target,
        metric_name="entropy",
        metric_unit="bits",
        larger_is_better=False,
    )


characters_transformer = _task("transformer", "transformer of 2 layers", transformer, 3.0)
characters_lstm = _task("lstm", "LSTM of 64 units", functools.partial(recurrent, "lstm"), 3.0)
characters_gru = _task("gru", "GRU of 64 units", functools.partial(recurrent, "gru"), 3.0)

"""`store`: any optimizer with its state in fewer bytes."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.transformation import Transformation, check_transformation
from jaxopt_lectures.storage.codecs import Codec, codec
from jaxopt_lectures.storage.foreign import Found, around, found_in, known_nature
from jaxopt_lectures.storage.policy import Policy


def store(
    tx: optax.GradientTransformation,
    codecs: str | Codec | Mapping[str, str | Codec],
    key: jax.Array | None = None,
    *,
    block: int | None = None,
    min_size: int = 4096,
    keep: str | None = None,
    nonnegative: str | Sequence[str] | None = None,
) -> Transformation:
    """Keeps the slots of `tx` in fewer bytes: `store(adam(1e-3), "int8")` keeps 2.03 bytes a parameter instead of 8.

    Every step reads the slots, takes the step on fresh float32 numbers, and stores the new ones, rounded at random so
    that their mean is exact. What is never negative is kept as its square root and never rounded to 0. The state has
    the structure it had, with an `Encoded` for each array: plain arrays that shard, donate, save and resume as others.

    Chains and wrappers of this library are entered: what is kept is the state of their parts. So are optax's
    transformations, whose state has arrays shaped like the parameters; they are decoded whole, ours in chunks.

    Args:
      tx: the transformation, ours or optax's.
      codecs: a name of `jaxopt_lectures.storage.codecs`: f32, bf16, fp8, int8, int4 ...; or one for each slot by its
        name, `{"mu": "int8", "nu": "bf16"}`, where slots not named are kept as they are.
      key: of the random bits, which depend on it, the step and the leaf only; that of seed 0 if None.
      block: elements that share a scale, about; 256 (int8, fp8) or 128 (int4) if None.
      min_size: parameters with fewer elements keep their slots as they are.
      keep: regular expression; parameters in whose path ("encoder/0/kernel") it is found keep their slots as they are.
      nonnegative: which slots of transformations that declare none, optax's, are never negative: a regular expression
        found in their name, or a list of names, empty for none. Ours declare theirs.

    Raises:
      TypeError: `tx` is not a transformation, or a codec neither a name nor a `Codec`.
      ValueError: an unknown codec or slot; a slot of which it is not known whether it can be negative.
    """
    check_transformation(tx, "store's argument")
    for name, size in (("block", block), ("min_size", min_size)):
        if size is not None:
            whole(name, size, 1)
    named: Mapping[Any, str | Codec] = codecs if isinstance(codecs, Mapping) else {None: codecs}
    chosen = {name: codec(given) for name, given in named.items()}
    pattern = None if keep is None else re.compile(keep)
    streams = itertools.count()
    known: list[str] = []

    def policy(elementwise: bool) -> Policy:
        return Policy(chosen, key, next(streams), block, min_size, pattern, elementwise)

    made = _stored(tx, policy, _sign(nonnegative), known)
    unknown = [name for name in chosen if name is not None and name not in known]
    if unknown and "?" not in known:
        slots = ", ".join(dict.fromkeys(known)) or "no slots shaped like the parameters"
        raise ValueError(f"no slot is called {unknown[0]!r}; {tx!r} keeps {slots}")
    return made


def _stored(tx: Any, policy: Callable[[bool], Policy], sign: Any, known: list[str]) -> Transformation:
    """The transformation with its state encoded; adds the names of its slots to `known`."""
    ours = isinstance(tx, Transformation)
    if ours and tx.keeping is not None:
        raise ValueError(f"{tx!r} is stored already: call store once, with a codec for each slot")
    if ours and tx.kept is not None:
        shaped = [name for name, slot in tx.slots.items() if slot.shape == "parameter"]
        known += shaped
        alone = len(shaped) == len([slot for slot in tx.slots.values() if slot.shape != "tree"])
        return tx.kept(policy(tx.couples == "element" and alone), wide=False) if shaped else tx
    if ours and tx.again is not None:
        return tx.again(*[_stored(part, policy, sign, known) for part in tx.parts])
    found, asked = _probed(tx), policy(False)
    if found is None:
        known.append("?")
    else:
        known += [slot.name.rpartition("/")[2] for slot in found]
        for slot in found:
            known_nature(slot, asked, sign)
    return tx if found == [] else around(tx, asked, sign)


def _probed(tx: optax.GradientTransformation) -> list[Found] | None:
    """The slots of a transformation that declares none, seen on a tree of one matrix; None if it takes no such tree."""
    probe = {"probe": jax.ShapeDtypeStruct((3, 5), jnp.float32)}
    try:
        return found_in(jax.eval_shape(tx.init, probe), probe)
    except Exception:  # an init that wants certain names, masks or shapes: the real parameters will tell
        return None


def _sign(nonnegative: str | Sequence[str] | None) -> Callable[[str], bool] | None:
    """Whether a slot is never negative, by its name; None if nothing was said."""
    if nonnegative is None:
        return None
    if isinstance(nonnegative, str):
        pattern = re.compile(nonnegative)
        return lambda name: pattern.search(name) is not None
    names = set(nonnegative)
    return lambda name: name in names or name.rpartition("/")[2] in names

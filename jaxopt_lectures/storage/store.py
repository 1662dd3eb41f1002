"""`store`: any optimizer with its state in fewer bytes."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import check_key, sizes
from jaxopt_lectures.core.transformation import Transformation, check_transformation
from jaxopt_lectures.storage.codecs import Codec, codec
from jaxopt_lectures.storage.foreign import Sign, around, found_in, is_masked, known_nature
from jaxopt_lectures.storage.policy import Policy

PROBE = {"probe": jax.ShapeDtypeStruct((3, 5), jnp.float32)}
"""On which transformations that declare nothing are asked what they keep."""


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

    Every step reads the slots, takes the step on fresh float32 numbers, and stores the new ones. What is never negative
    is kept as its square root and never rounded to 0. What is kept is rounded at random so that its mean is exact, down
    to the smallest level. The state has the structure it had, with an `Encoded` for each array: plain arrays that
    shard, donate, save and resume as others. Derivatives go through the step, not through what is stored.

    Chains and wrappers of this library are entered: what is kept is the state of their parts. So are optax's
    transformations, whose state has arrays shaped like the parameters; they are decoded whole, ours in chunks.
    Slots that are weights themselves, all of `schedule_free_sgd`, are not encoded.

    Args:
      tx: the transformation, ours or optax's.
      codecs: a name of `jaxopt_lectures.storage.codecs`: f32, bf16, fp8, int8, int4 ...; or one for each slot by its
        name, `{"mu": "int8", "nu": "bf16"}`, where slots not named are kept as they are.
      key: of the random bits, which depend on it, the step and the leaf only; that of seed 0 if None.
      block: elements that share a scale, about; 256 (int8, fp8) or 128 (int4) if None.
      min_size: parameters with fewer elements keep their slots as they are.
      keep: regular expression; parameters in whose path ("encoder/0/kernel") it is found keep their slots as they are.
      nonnegative: which slots of transformations that declare none, optax's, are never negative: a regular expression
        found in their name ("nu"), or a list of names, with their path or not ("0/nu"), empty for none.

    Raises:
      TypeError: `tx` is not a transformation, or a codec neither a name nor a `Codec`.
      ValueError: an unknown codec or slot; a slot of which it is not known whether it can be negative.
    """
    check_transformation(tx, "store's argument")
    check_key(key)
    if isinstance(codecs, Mapping) and not codecs:
        raise ValueError("no codec is given for any slot")
    sizes(block=block, min_size=min_size)
    named: Mapping[Any, str | Codec] = codecs if isinstance(codecs, Mapping) else {None: codecs}
    chosen = {name: codec(given) for name, given in named.items()}
    pattern = None if keep is None else re.compile(keep)
    streams, sign = itertools.count(), Sign(nonnegative)
    known: list[str | None] = []

    def policy(elementwise: bool) -> Policy:
        return Policy(chosen, key, next(streams), block, min_size, pattern, elementwise)

    made = _stored(tx, policy, sign, known)
    slots = [name.rpartition("/")[2] for name in known if name is not None]
    unknown = [name for name in chosen if name is not None and name not in slots]
    if None not in known:
        if unknown:
            kept = ", ".join(dict.fromkeys(slots)) or "no slots shaped like the parameters"
            raise ValueError(f"no slot is called {unknown[0]!r}; {tx!r} keeps {kept}")
        if nonnegative and not any(name and sign(name) for name in known):
            raise ValueError(
                f"nonnegative={nonnegative!r} is found in none of the slots {', '.join(slots) or '(none)'}"
            )
    return made


def _stored(tx: Any, policy: Callable[[bool], Policy], sign: Sign, known: list[str | None]) -> Any:
    """The transformation with its state encoded; adds the names of its slots to `known`, None where they are not."""
    ours = isinstance(tx, Transformation)
    if ours and tx.keeping is not None:
        raise ValueError(f"{tx!r} is stored already: call store once, with a codec for each slot")
    if ours and tx.kept is not None:
        shaped = [name for name, slot in tx.slots.items() if slot.shape == "parameter"]
        stored = [name for name in shaped if tx.slots[name].nature != "weights"]
        known += stored
        alone = len(shaped) == len([slot for slot in tx.slots.values() if slot.shape != "tree"])
        return tx.kept(policy(tx.couples == "element" and alone), wide=False) if stored else tx
    if ours and tx.again is not None:
        return tx.again(*[_stored(part, policy, sign, known) for part in tx.parts])
    state, asked = _probed(tx), policy(False)
    if state is not None and not jax.tree.leaves(state, is_leaf=is_masked):
        return tx  # it keeps nothing at all
    found = found_in(state, PROBE)
    # masks and labels by path or shape may keep slots of the real parameters that the probe has not
    known += [slot.name for slot in found]
    if state is None or any(map(is_masked, jax.tree.leaves(state, is_leaf=is_masked))) or not found:
        known.append(None)
    for slot in found:
        known_nature(slot, asked, sign)
    return around(tx, asked, sign)


def _probed(tx: optax.GradientTransformation) -> Any:
    """The state for a tree of one matrix; None if it takes no such tree."""
    try:
        return jax.eval_shape(tx.init, PROBE)
    except Exception:  # an init that wants certain names, masks or shapes: the real parameters will tell
        return None

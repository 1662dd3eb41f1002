"""Weights in bfloat16 or float16 without a copy in float32: rounded at random, or with the remainder kept.

A bfloat16 weight of 1 lies between 0.996 and 1.008; an update of 1e-3 rounds to nothing, a thousand times over.

Sources: S. Gupta et al., "Deep learning with limited numerical precision", ICML 2015, arXiv:1502.02551, section 3;
P. Zamirai et al., "Revisiting BFloat16 training", 2020, arXiv:2010.06192, algorithms 2 and 3; W. Kahan, "Further
remarks on reducing truncation errors", CACM 8(1), 1965, p. 40.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.passes import Passes
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.core.transformation import Transformation, couples_of
from jaxopt_lectures.storage.codes import everywhere
from jaxopt_lectures.storage.rounding import bits, summed, words
from jaxopt_lectures.wrappers.wrapped import needed, wrapped


class RoundStochasticState(NamedTuple):
    """Steps taken, () int32, and the state of the wrapped transformation. Nothing is kept per parameter."""

    count: jax.Array
    inner_state: Any


class CompensateState(NamedTuple):
    """What rounding took from the weights so far, `remainder`, in their dtype, and the wrapped transformation's state.

    Weight and remainder together are a number of twice the digits. Wider weights have a scalar 0.
    """

    remainder: Signed
    inner_state: Any


def round_stochastic(tx: optax.GradientTransformation, key: jax.Array | None = None) -> Transformation:
    """Lets `tx` step bfloat16 or float16 weights: the sum of weight and update is rounded up or down at random.

    `w <- low with probability (high - x) / (high - low), else high`, where `x = w + u` lies between its neighbours
    low and high: on average nothing is lost. The update that is returned is the difference of the new weight and the
    old, in float32, and `optax.apply_updates` adds it exactly; whatever scales it afterwards undoes that, so this goes
    last. `tx` steps in float32, and keeps its slots in it, whatever the weights are. Wider weights are left alone.

    Args:
      tx: the transformation, ours or optax's.
      key: of the random bits, which depend on it, the step and the leaf only; that of seed 0 if None.

    Raises:
      TypeError: `tx` is not a transformation.
      ValueError: `update` is not given the parameters.
    """
    inner = _in_float32(tx, "round_stochastic")

    def init(params: Any) -> RoundStochasticState:
        return RoundStochasticState(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: Any, state: RoundStochasticState, params: Any = None, **extra: Any) -> Any:
        needed(params, "round_stochastic")
        updates, new = inner.update(updates, state.inner_state, params, **extra)
        word = words(key, state.count, (len(jax.tree.leaves(params)),))
        after = _summed(params, updates, word)
        return _differences(params, after, updates), RoundStochasticState(optax.safe_increment(state.count), new)

    def passes(updates: Any, state: RoundStochasticState, params: Any, **extra: Any) -> Passes:
        needed(params, "round_stochastic")
        parts, after, _ = inner.passes(updates, state.inner_state, params, **extra)
        word = words(key, state.count, (len(jax.tree.leaves(params)),))
        count = optax.safe_increment(state.count)
        return Passes(parts, lambda new: RoundStochasticState(count, after(new)), word)

    return Transformation(
        init,
        update,
        couples=couples_of(tx),
        parts=(tx,),
        again=functools.partial(round_stochastic, key=key),
        title="round_stochastic",
        passes=passes if getattr(inner, "passes", None) else None,
    )


def compensate(tx: optax.GradientTransformation) -> Transformation:
    """Lets `tx` step bfloat16 or float16 weights: what rounding takes from one step is added to the next.

    `y = u + c, w' = round(w + y), c' = round(y - (w' - w))`, Kahan's sum, with `c` kept beside each weight in its
    dtype. As in `round_stochastic` the update is returned in float32, added exactly, and must not be changed
    afterwards. Two bytes a parameter more, and no randomness.

    Args:
      tx: the transformation, ours or optax's.

    Raises:
      TypeError: `tx` is not a transformation.
      ValueError: `update` is not given the parameters.
    """
    inner = _in_float32(tx, "compensate")

    def init(params: Any) -> CompensateState:
        return CompensateState(jax.tree.map(_nothing, params), inner.init(params))

    def update(updates: Any, state: CompensateState, params: Any = None, **extra: Any) -> Any:
        needed(params, "compensate")
        updates, new = inner.update(updates, state.inner_state, params, **extra)
        owed = jax.tree.map(lambda u, c: u.astype(_wide(u, c)) + c.astype(_wide(u, c)), updates, state.remainder)
        after = _summed(params, owed, None)
        remainder = jax.tree.map(_remainder, params, owed, after)
        return _differences(params, after, updates), CompensateState(remainder, new)

    return Transformation(init, update, couples=couples_of(tx), parts=(tx,), again=compensate, title="compensate")


def apply_updates(
    params: Any, updates: Any, rounding: Literal["nearest", "stochastic"] = "nearest", key: jax.Array | None = None
) -> Any:
    """The parameters with the updates added, in their own dtypes: `optax.apply_updates` with a choice of rounding.

    Args:
      params: a tree of arrays; None stays None.
      updates: one for each parameter; may be wider than it.
      rounding: "stochastic" rounds sums of narrow parameters up or down at random, so that small updates count.
      key: of the random bits of this step, for "stochastic": `jax.random.fold_in(key, step)`.

    Raises:
      ValueError: an unknown rounding, or a stochastic one without a key.
    """
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f"rounding must be 'nearest' or 'stochastic', got {rounding!r}")
    if rounding == "nearest":
        return _summed(params, updates, None)
    if key is None:
        raise ValueError("stochastic rounding needs a key, another one at each step: jax.random.fold_in(key, step)")
    return _summed(params, updates, words(key, jnp.uint32(0), (len(jax.tree.leaves(params)),)))


def _summed(params: Any, updates: Any, word: jax.Array | None) -> Any:
    """Parameters and updates, added in float32 or wider and rounded to the parameter's dtype."""
    places = iter(range(len(jax.tree.leaves(params))))

    def one(p: Any, u: Any) -> Any:
        if p is None:
            return None
        place, p = next(places), jnp.asarray(p)
        random = None if word is None or not _narrow(p) else bits(word[place], everywhere(p.shape))
        return summed(p, jnp.asarray(u), random)

    return jax.tree.map(one, params, updates, is_leaf=lambda x: x is None)


def _differences(params: Any, after: Any, updates: Any) -> Any:
    """What to add to the parameters to make them `after`, exactly: float32 for narrow ones."""

    def one(p: jax.Array, new: jax.Array, u: jax.Array) -> jax.Array:
        return new.astype(jnp.float32) - p.astype(jnp.float32) if _narrow(p) else u

    return jax.tree.map(one, params, after, updates)


def _remainder(p: jax.Array, owed: jax.Array, after: jax.Array) -> jax.Array:
    if not _narrow(p):
        return _nothing(p)
    return (owed - (after.astype(jnp.float32) - p.astype(jnp.float32))).astype(p.dtype)


def _nothing(p: Any) -> jax.Array:
    return jnp.zeros_like(p) if _narrow(p) else jnp.zeros((), arithmetic_dtype(jnp.result_type(p)))


def _narrow(p: Any) -> bool:
    return jnp.result_type(p) in (jnp.bfloat16, jnp.float16)


def _wide(*arrays: jax.Array) -> Any:
    return arithmetic_dtype(*[a.dtype for a in arrays])


def _in_float32(tx: Any, what: str) -> Any:
    wrapped(tx, f"{what}'s argument")
    return optax.with_extra_args_support(widened(tx))


def widened(tx: Any) -> optax.GradientTransformation:
    """`tx` with updates and slots in float32, whatever the gradients and parameters are."""
    if isinstance(tx, Transformation) and tx.kept is not None:
        return tx.kept(tx.keeping, wide=True)
    if isinstance(tx, Transformation) and tx.again is not None:
        return tx.again(*map(widened, tx.parts))
    return _seeing_float32(tx)


def _seeing_float32(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """A transformation that has no rule, which would keep its slots as narrow as the parameters that it sees."""
    inner = optax.with_extra_args_support(tx)

    def seen(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.float32) if _narrow(x) else x, tree)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        return inner.update(seen(updates), state, seen(params), **extra)

    return optax.GradientTransformationExtraArgs(lambda params: inner.init(seen(params)), update)

"""What happens to each parameter, measured while it trains: sizes of gradients, updates and weights, and angles."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures import clipping
from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.numbers import arithmetic_dtype, hypotenuse, quotient
from jaxopt_lectures.core.transformation import Transformation, chain
from jaxopt_lectures.wrappers.wrapped import couples_of, either, needed, wrapped

MEASURES = (
    "grad_norm",
    "clipped_norm",
    "update_norm",
    "weight_norm",
    "update_to_weight",
    "effective_rate",
    "cosine_descent",
)


UNIT = 2.0**32
"""By what numbers are multiplied before they are squared: gradients are rather small than large."""


class ProbeState(NamedTuple):
    """The last measures.

    Attributes:
      probe_count: steps taken, () int32.
      measures: by name a tree like the parameters of () float32; 0 before the first step.
      last: the update that was measured last, bfloat16; None without `cosine_last`.
      inner_state: state of the wrapped transformation.
    """

    probe_count: jax.Array
    measures: Mapping[str, Any]
    last: Any
    inner_state: Any

    def metrics(self) -> Mapping[str, Any]:
        """What `jol.metrics` gives."""
        return self.measures


def probe(tx: optax.GradientTransformation, every: int = 1, cosine_last: bool = False) -> Transformation:
    """Measures each parameter beside the steps of `tx`, which it leaves as they are; `jol.metrics(state)` reads.

    | name | what |
    |---|---|
    | `grad_norm` | norm of the gradient as it comes in |
    | `clipped_norm` | of what the leading clips of a `jol.chain` leave of it; without any, the same |
    | `update_norm`, `weight_norm` | of the update, and of the weights before it |
    | `update_to_weight` | their ratio; about 1e-3 is usual |
    | `effective_rate` | `update_norm / grad_norm` |
    | `cosine_descent` | of the angle between update and negative gradient |
    | `cosine_last` | of that between this update and the one measured before |

    Norms are Euclidean, of one parameter each, and do not overflow on the way; elements below 1e-28 may count as 0. NaN
    and inf show. A quotient by 0 is 0. `optax.chain` hides its parts, clips among them: use `jol.chain`. Inside
    `shard_map` all are those of the device's shard.

    Args:
      tx: the transformation, ours or optax's.
      every: steps from one measurement to the next, the first step being one; >= 1. In between nothing is computed.
      cosine_last: measure it too, for which the update is kept, 2 bytes a parameter.

    Raises:
      TypeError: `tx` is not a transformation, or `every` not an integer.
      ValueError: `every` is below 1; or `update` is not given the parameters.
    """
    wrapped(tx, "probe's argument")
    whole("every", every, 1)
    names = (*MEASURES, "cosine_last") if cosine_last else MEASURES

    def init(params: Any) -> ProbeState:
        measures = {name: jax.tree.map(lambda p: jnp.zeros((), jnp.float32), params) for name in names}
        last = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=jnp.bfloat16), params) if cosine_last else None
        return ProbeState(jnp.zeros((), jnp.int32), measures, last, tx.init(params))

    def update(updates: Any, state: ProbeState, params: Any = None, **extra: Any) -> Any:
        needed(params, "probe")
        new_updates, clipped, new_inner = _watched(tx, updates, state.inner_state, params, extra)

        def measured() -> Any:
            trees = [updates, clipped, new_updates, params, *([state.last] if cosine_last else [])]
            columns, treedef = [jax.tree.leaves(tree) for tree in trees], jax.tree.structure(updates)
            rows = _measured(list(zip(*columns, strict=True)))
            last = jax.tree.map(lambda u: u.astype(jnp.bfloat16), new_updates) if cosine_last else None
            return {name: treedef.unflatten([row[name] for row in rows]) for name in names}, last

        before = state.measures, state.last
        new = measured() if every == 1 else either(state.probe_count % every == 0, measured, before)
        measures, last = new
        return new_updates, ProbeState(optax.safe_increment(state.probe_count), measures, last, new_inner)

    again = functools.partial(probe, every=every, cosine_last=cosine_last)
    return Transformation(init, update, couples=couples_of(tx), parts=(tx,), again=again, title="probe")


def _watched(tx: Any, updates: Any, state: Any, params: Any, extra: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The update, what the leading clips of a chain made of the gradient, and the new state."""
    entered = isinstance(tx, Transformation) and tx.again is chain
    parts = [wrapped(part, "a part") for part in (tx.parts if entered else (tx,))]
    clips = len(list(itertools.takewhile(_clips, parts)))
    states, clipped = list(state if entered else (state,)), updates
    for place, part in enumerate(parts):
        updates, states[place] = part.update(updates, states[place], params, **extra)
        clipped = updates if place < clips else clipped
    return updates, clipped, tuple(states) if entered else states[0]


def _clips(part: Any) -> bool:
    rule = getattr(part, "rule", None)
    return rule is not None and rule.__module__ == clipping.__name__


def _measured(arrays: list[tuple[Any, ...]]) -> list[dict[str, jax.Array]]:
    """The measures of each parameter; where a plain sum of squares left the range, all once more with care."""
    if not arrays:
        return []
    plain = [_measure(False, *row) for row in arrays]
    usual = jnp.all(jnp.stack([fits for _, fits in plain]))
    return jax.lax.cond(usual, lambda: [row for row, _ in plain], lambda: [_measure(True, *row)[0] for row in arrays])


@functools.partial(jax.jit, static_argnums=0)
def _measure(careful: bool, g: Any, clipped: Any, u: Any, p: Any, last: Any = None) -> Any:
    """All measures of one parameter, and whether no sum left the range. Equal parameters find their trace in the cache.

    Plain sums are of numbers times 2^32: what is too large gives inf and is seen, what is below 1e-28 counts as 0.
    """
    arrays = {"grad_norm": g, "clipped_norm": clipped, "update_norm": u, "weight_norm": p, "last": last}
    dtype = arithmetic_dtype(*[x.dtype for x in arrays.values() if x is not None])
    wide = {name: x.astype(dtype) for name, x in arrays.items() if x is not None}
    squares = {name: jnp.sum(jnp.square(x * UNIT)) for name, x in wide.items()}
    low = jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps
    fits = jnp.all(jnp.stack([jnp.isfinite(s) & ((s == 0) | (s > low)) for s in squares.values()]))
    norms = {name: norm_of(x) if careful else jnp.sqrt(squares[name]) / UNIT for name, x in wide.items()}

    def cosine(name: str) -> jax.Array:
        def scaled(name: str) -> jax.Array:
            return (
                quotient(wide[name], jnp.broadcast_to(norms[name], wide[name].shape)) if careful else wide[name] * UNIT
            )

        total = jnp.sum(scaled(name) * scaled("update_norm"))
        lengths = (norms[name] * UNIT) * (norms["update_norm"] * UNIT)
        return jnp.clip(total if careful else quotient(total, lengths), -1, 1)

    step = norms["update_norm"]
    found = {name: norms[name] for name in MEASURES if name in norms} | {
        "update_to_weight": quotient(step, norms["weight_norm"]),
        "effective_rate": quotient(step, norms["grad_norm"]),
        "cosine_descent": -cosine("grad_norm"),
    }
    found |= {} if last is None else {"cosine_last": cosine("last")}
    return {name: value.astype(jnp.float32) for name, value in found.items()}, fits


def norm_of(x: jax.Array) -> jax.Array:
    """The Euclidean norm of one array in one pass and without a branch: no square overflows or vanishes.

    Large, middling and small elements are summed apart, the first and last scaled.

    Source: J. Blue, "A portable Fortran program to find the Euclidean norm of a vector", ACM TOMS 4, 1978.
    """
    wide = jnp.abs(x.astype(arithmetic_dtype(x.dtype)))
    half = jnp.finfo(wide.dtype).maxexp // 2
    high, low, scale = 2.0 ** (half - 14), 2.0 ** (14 - half), 2.0 ** -(half + 14)
    is_large, is_small = wide > high, wide < low

    def size(chosen: jax.Array, unit: float) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(jnp.where(chosen, wide * unit, 0))))

    large, small = size(is_large, scale) / scale, size(is_small, 1 / scale) * scale
    return hypotenuse(hypotenuse(large, size(~(is_large | is_small), 1.0)), small)

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
from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.core.transformation import Transformation, chain, couples_of
from jaxopt_lectures.wrappers.wrapped import either, needed, wrapped

MEASURES = (
    "grad_norm",
    "clipped_norm",
    "update_norm",
    "weight_norm",
    "update_to_weight",
    "effective_rate",
    "cosine_descent",
)


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

    Norms are Euclidean, of one parameter each, by plain sums: in float32 what is above 1e19 shows as inf, what is below
    1e-19 as 0. NaN shows. A quotient by 0 is 0. `optax.chain` hides its parts, clips among them: use `jol.chain`.
    Inside `shard_map` all are those of the device's shard.

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
            rows = [_measured(*row) for row in zip(*columns, strict=True)]
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


@jax.jit
def _measured(g: Any, clipped: Any, u: Any, p: Any, last: Any = None) -> dict[str, jax.Array]:
    """All measures of one parameter. Equal parameters find their trace in the cache."""
    arrays = {"grad_norm": g, "clipped_norm": clipped, "update_norm": u, "weight_norm": p}
    norms = {name: jnp.sqrt(_inner(x, x)) for name, x in arrays.items()}
    grad, step = norms["grad_norm"], norms["update_norm"]
    found = norms | {
        "update_to_weight": quotient(step, norms["weight_norm"]),
        "effective_rate": quotient(step, grad),
        "cosine_descent": -jnp.clip(quotient(_inner(g, u), grad * step), -1, 1),
    }
    if last is not None:
        found["cosine_last"] = jnp.clip(quotient(_inner(u, last), step * jnp.sqrt(_inner(last, last))), -1, 1)
    return found


def _inner(a: Any, b: Any) -> jax.Array:
    """The sum of all products, () float32; as a product of arrays, which is the fastest sum there is."""
    axes = tuple(range(a.ndim))
    product = jax.lax.dot_general(
        a.astype(jnp.float32), b.astype(jnp.float32), ((axes, axes), ((), ())), precision="highest"
    )
    return product

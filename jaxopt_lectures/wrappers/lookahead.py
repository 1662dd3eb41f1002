"""Lookahead: k steps forward, one step back.

    w_{t,i+1} = w_{t,i} + A(w_{t,i}),  i = 0 ... k-1      fast weights, by any optimizer A
    phi_{t+1} = phi_t + alpha (w_{t,k} - phi_t)           slow weights
    w_{t+1,0} = phi_{t+1}

Source: M. Zhang, J. Lucas, G. Hinton, J. Ba, "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019,
arXiv:1907.08610, algorithm 1, which returns phi: it evaluates the slow weights.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import HyperLike, interval, whole
from jaxopt_lectures.core.given import value_at
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.core.transformation import Transformation, along, couples_of
from jaxopt_lectures.wrappers.narrow_weights import apply_updates
from jaxopt_lectures.wrappers.wrapped import needed, wrapped


class LookaheadState(NamedTuple):
    """The slow weights.

    Attributes:
      steps: steps of the fast weights so far, () int32.
      slow: phi, float32 (float64 for float64 parameters).
      inner_state: state of the wrapped transformation.
    """

    steps: jax.Array
    slow: Signed
    inner_state: Any

    def eval_params(self, params: Any) -> Any:
        """`phi`, in the dtype of the parameters."""
        return along(lambda p, slow: slow.astype(p.dtype), params, self.slow)


def lookahead(
    tx: optax.GradientTransformation, sync_period: int = 6, slow_step_size: HyperLike = 0.5
) -> Transformation:
    """Lookahead around `tx`: each `sync_period` steps `phi <- phi + slow_step_size (w - phi)`, and `w <- phi`.

    The parameters are the fast weights w, which need no type of their own; `jol.eval_params(state, params)` gives the
    slow weights, as the paper evaluates them. What scales the updates afterwards would part the two, so this goes last.
    It takes 4 bytes a parameter.

    Args:
      tx: the transformation that steps the fast weights, ours or optax's. Its state is kept across synchronisations.
      sync_period: k, fast steps for each slow one; >= 1.
      slow_step_size: alpha, share of the way that the slow weights go, in [0, 1]; 1 is `tx` alone. A number, a traced
        scalar or a schedule of the number of synchronisations so far.

    Raises:
      TypeError: `tx` is not a transformation, or `sync_period` not an integer.
      ValueError: a number outside its range; or `update` is not given the parameters.
    """
    inner, hyper = wrapped(tx, "lookahead's argument"), interval("slow_step_size", slow_step_size, 0, 1, closed=True)
    whole("sync_period", sync_period, 1)

    def init(params: Any) -> LookaheadState:
        # copies: parameters and state may both be donated
        slow = jax.tree.map(lambda p: jnp.array(p, arithmetic_dtype(jnp.result_type(p))), params)
        return LookaheadState(jnp.zeros((), jnp.int32), slow, inner.init(params))

    def update(updates: Any, state: LookaheadState, params: Any = None, **extra: Any) -> Any:
        needed(params, "lookahead")
        updates, new_inner = inner.update(updates, state.inner_state, params, **extra)
        steps = optax.safe_increment(state.steps)
        meet = steps % sync_period == 0
        alpha = jnp.asarray(value_at(hyper, state.steps // sync_period))

        def drawn(slow: jax.Array, fast: jax.Array) -> jax.Array:
            return jnp.where(meet, slow + alpha.astype(slow.dtype) * (fast.astype(slow.dtype) - slow), slow)

        def back(u: jax.Array, p: jax.Array, slow: jax.Array) -> jax.Array:
            return jnp.where(meet, (slow - p.astype(slow.dtype)).astype(u.dtype), u)

        slow = jax.tree.map(drawn, state.slow, apply_updates(params, updates))
        return jax.tree.map(back, updates, params, slow), LookaheadState(steps, slow, new_inner)

    again = functools.partial(lookahead, sync_period=sync_period, slow_step_size=slow_step_size)
    return Transformation(init, update, couples=couples_of(tx), parts=(tx,), again=again, title="lookahead")

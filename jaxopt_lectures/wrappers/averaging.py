"""An average of the weights, to evaluate and to publish; the optimizer goes on from the weights themselves.

    ema     a_n = decay a_{n-1} + (1 - decay) w_n, divided by 1 - decay^n
    polyak  a_n = (w_1 + ... + w_n) / n
    swa     the same, with one iterate each `every` steps

Sources: B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30,
1992; P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018,
arXiv:1803.05407, algorithm 1; bias correction: D. Kingma, J. Ba, ICLR 2015, arXiv:1412.6980, section 7.2.
"""

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import HyperLike, interval, whole
from jaxopt_lectures.core.given import value_at
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.core.transformation import Transformation, along, couples_of, eval_params
from jaxopt_lectures.wrappers.narrow_weights import apply_updates
from jaxopt_lectures.wrappers.wrapped import needed, unboxed, wrapped

Kind = Literal["ema", "polyak", "swa"]


class AverageState(NamedTuple):
    """The average so far.

    Attributes:
      step: steps taken, () int32.
      averaged: iterates in the average, () int32.
      weight: their weight before the correction, `1 - decay^averaged`, () float32; 1 for uniform means.
      mean: the average, corrected, float32 (float64 for float64 parameters); 0 before the first iterate.
      inner_state: state of the wrapped transformation.
    """

    step: jax.Array
    averaged: jax.Array
    weight: jax.Array
    mean: Signed
    inner_state: Any

    def eval_params(self, params: Any) -> Any:
        """The average, in the dtype of the parameters; before the first iterate, what `tx` would evaluate."""
        begun = unboxed(self.averaged) > 0
        if jnp.ndim(begun):
            raise ValueError(f"the state is one of {jnp.shape(begun)} runs: use jax.vmap over it and the parameters")
        now = eval_params(self.inner_state, params)
        return along(lambda p, a: jnp.where(begun, a.astype(p.dtype), p), now, self.mean)


def average(
    tx: optax.GradientTransformation, kind: Kind = "ema", decay: HyperLike = 0.999, start: int = 0, every: int = 1
) -> Transformation:
    """Keeps an average of the weights that `tx` steps; `jol.eval_params(state, params)` returns it.

    Averaged are the weights after each update, as `optax.apply_updates` rounds them, so this goes around all that
    changes updates; where `tx` steps other weights than it evaluates, the latter. The updates are those of `tx`. It
    takes 4 bytes a parameter, and moves 12 at each iterate averaged.

    Args:
      tx: the transformation, ours or optax's.
      kind: "ema": weights that fall by `decay`, corrected for the start. "polyak", "swa": all weigh the same; the
        second is the name used with a constant or cyclic rate and `every` of a cycle's length.
      decay: for "ema": share of the average kept at each iterate, in [0, 1); a number, a traced scalar or a schedule
        of the number of iterates averaged so far. 0.999 is the mean of about the last 1000.
      start: steps before the first iterate that counts; >= 0. Until then `eval_params` returns the weights.
      every: steps from one averaged iterate to the next; >= 1.

    Raises:
      TypeError: `tx` is not a transformation, `start` or `every` not an integer.
      ValueError: an unknown kind, a number outside its range; or `update` is not given the parameters.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(map(repr, get_args(Kind)))}, got {kind!r}")
    inner, hyper = wrapped(tx, "average's argument"), interval("decay", decay, 0, 1)
    whole("start", start, 0)
    whole("every", every, 1)

    def init(params: Any) -> AverageState:
        mean = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=arithmetic_dtype(jnp.result_type(p))), params)
        step, averaged = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        return AverageState(step, averaged, jnp.zeros((), jnp.float32), mean, inner.init(params))

    def update(updates: Any, state: AverageState, params: Any = None, **extra: Any) -> Any:
        needed(params, "average")
        updates, new_inner = inner.update(updates, state.inner_state, params, **extra)
        step = optax.safe_increment(state.step)
        counts = (step > start) & ((step - start) % every == 0)

        def added() -> tuple[Any, ...]:
            averaged = optax.safe_increment(state.averaged)
            share = 1.0
            if kind == "ema":
                now = value_at(hyper, state.averaged)
                # 0.99999999 is 1 in float32: nothing would count, and the first mean be 0/0
                share = jnp.maximum(jnp.asarray(1 - now, jnp.float32), jnp.finfo(jnp.float32).epsneg)
            weight = state.weight + share * (1 - state.weight)  # 1 - decay^n
            rate = share / (weight if kind == "ema" else averaged.astype(jnp.float32))
            after = eval_params(new_inner, apply_updates(params, updates))
            mean = jax.tree.map(lambda a, w: a + rate.astype(a.dtype) * (w.astype(a.dtype) - a), state.mean, after)
            return averaged, weight, mean

        always, new = start == 0 and every == 1, added()
        if not always:  # a branch would copy what it passes on
            old = state.averaged, state.weight, state.mean
            new = jax.tree.map(lambda a, b: jnp.where(counts, a, b), new, old)
        averaged, weight, mean = new
        return updates, AverageState(step, averaged, weight, mean, new_inner)

    again = functools.partial(average, kind=kind, decay=decay, start=start, every=every)
    return Transformation(init, update, couples=couples_of(tx), parts=(tx,), again=again, title="average")

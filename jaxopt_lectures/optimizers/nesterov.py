"""Nesterov's accelerated gradient, as the lecture prints it and as frameworks run it.

Both step the velocity by a gradient taken ahead, at `w - gamma v`:

    v_t = gamma_t v_{t-1} + eta grad(w_{t-1} - gamma_t v_{t-1})
    w_t = w_{t-1} - v_t

An (init, update) pair is handed a gradient and cannot choose where it was taken. So either the caller asks
`jol.gradient_point(state, params)` where to take it (`lookahead=True`, the parameters are w), or the parameters held
are the look-ahead points themselves, phi_t = w_t - gamma_{t+1} v_t, and `jol.eval_params(state, params)` gives w.

Source: Y. Nesterov, Doklady AN SSSR 269, 1983; I. Sutskever et al., ICML 2013; lecture 002.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import HyperLike, interval
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import SharedNonNegative, Signed
from jaxopt_lectures.core.transformation import Transformation, along
from jaxopt_lectures.optimizers.momentum import velocity


class NesterovState(NamedTuple):
    """`trace`: the velocity; `ahead`: the momentum of the next step, (). The parameters are phi = w - ahead trace."""

    count: jax.Array
    trace: Signed
    ahead: SharedNonNegative

    def eval_params(self, params: Any) -> Any:
        """`w`, the weights that the method minimises, from `phi`."""
        return along(lambda phi, v: phi + shift(self.ahead, v, phi), params, self.trace)


class LookaheadState(NamedTuple):
    """`trace`: the velocity; `ahead`: the momentum of the next step, (). The parameters are w."""

    count: jax.Array
    trace: Signed
    ahead: SharedNonNegative

    def gradient_point(self, params: Any) -> Any:
        """`w - gamma v`, where the next gradient is wanted."""
        return along(lambda w, v: w - shift(self.ahead, v, w), params, self.trace)


def shift(ahead: Any, v: Any, p: Any) -> Any:
    """`ahead * v` in the parameter's dtype."""
    (ahead,) = jax.tree.leaves(ahead)  # a library may have boxed it
    if jnp.ndim(ahead):
        raise ValueError(f"the state is one of {jnp.shape(ahead)} runs: use jax.vmap over it and the parameters")
    dtype = arithmetic_dtype(v.dtype, p.dtype)
    return (ahead.astype(dtype) * v.astype(dtype)).astype(p.dtype)


def nesterov_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step of phi for one array; `s.now` is gamma_t, `s.ahead` gamma_{t+1}."""
    del p, t
    step = h.learning_rate * g
    trace = s.now * s.trace + step  # v_t = gamma_t v_{t-1} + eta grad(phi_{t-1})
    update = -step - s.ahead * trace  # phi_t - phi_{t-1} = gamma_t v_{t-1} - v_t - gamma_{t+1} v_t
    return update, {"trace": trace}


def lookahead_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step of w for one array, `g` taken at w - gamma_t v_{t-1}."""
    del p, t
    trace = s.now * s.trace + h.learning_rate * g  # v_t = gamma_t v_{t-1} + eta grad(w_{t-1} - gamma_t v_{t-1})
    return -trace, {"trace": trace}  # w_t = w_{t-1} - v_t


def next_momentum(gradients: Any, s: SimpleNamespace, h: SimpleNamespace) -> Any:
    """The momentum at which this gradient was taken, and that of the step to come."""
    del gradients
    return {"now": s.ahead, "ahead": h.momentum_next}


def nesterov(
    learning_rate: HyperLike,
    momentum: HyperLike = 0.9,
    *,
    lookahead: bool = False,
    initial_velocity: Any = 0.0,
    accumulator_dtype: Any = None,
) -> Transformation:
    """Nesterov's accelerated gradient: `v = gamma v + eta grad(w - gamma v); w <- w - v`.

    Momentum and rate may be schedules. A momentum that is changed from outside counts from the next step on, for this
    step's gradient was taken at the old one.

    Args:
      learning_rate: eta, in parameter units per gradient unit; >= 0. It stands inside the velocity.
      momentum: gamma, the share of the velocity kept each step, in [0, 1).
      lookahead: True: the parameters are w and `update` expects the gradient at `jol.gradient_point(state, params)`.
        False: the parameters are phi, the gradient is taken at them as usual, and `jol.eval_params` gives w.
      initial_velocity: v_0 with the sign of algorithm 8.2 (added to the weights). A number or a tree.
      accumulator_dtype: dtype of the velocity; float32 (float64 for float64 parameters) if None.

    Raises:
      ValueError: a number outside its range.
    """
    hypers, first = velocity(initial_velocity)
    return from_rule(
        lookahead_rule if lookahead else nesterov_rule,
        LookaheadState if lookahead else NesterovState,
        [interval("learning_rate", learning_rate, 0), interval("momentum", momentum, 0, 1), *hypers],
        initial={"trace": first, "ahead": _first_momentum},
        dtypes={"trace": accumulator_dtype},
        ahead=("momentum",),
        shared=next_momentum,
    )


def _first_momentum(h: SimpleNamespace) -> Any:
    return h.momentum


def _twin(learning_rate: Any, momentum: Any = 0.9) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum, nesterov=True))


CARDS = (
    Card(
        name="nesterov",
        factory=nesterov,
        summary="momentum with the gradient taken ahead, where the velocity will carry the weights",
        plain="v_t = gamma v_{t-1} + eta grad(w_{t-1} - gamma v_{t-1})\nw_t = w_{t-1} - v_t",
        latex=r"\begin{aligned} v_t &= \gamma v_{t-1} + \eta \nabla f(w_{t-1} - \gamma v_{t-1}) \\"
        r" w_t &= w_{t-1} - v_t \end{aligned}",
        source="Y. Nesterov, 1983; I. Sutskever, J. Martens, G. Dahl, G. Hinton, ICML 2013",
        lectures=("002 Nesterov Accelerated Gradient",),
        errata=(
            "002 takes the gradient at W_fut, where no function of (gradient, state) can go: ask gradient_point, "
            "or hold the look-ahead weights themselves and ask eval_params for w.",
            "002 calls it superior to momentum and leaves out where: the proof is for convex problems with exact "
            "gradients.",
        ),
        differs=("optax.sgd(nesterov=True) holds phi and has the rate outside: equal while both are constant.",),
        twin=Twin(
            "optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum, nesterov=True))", _twin
        ),
        learning_rate=0.05,
        space={"learning_rate": Range(1e-4, 1.0), "momentum": Range(0.5, 0.99, "linear")},
        off_neutral={"momentum": 0.8, "initial_velocity": 0.3},
        tags=("lecture", "first order"),
    ),
)

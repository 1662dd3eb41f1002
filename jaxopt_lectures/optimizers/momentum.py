"""Gradient descent, and its heavy-ball momentum in the two conventions that the lectures print.

Sources: A. Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées", 1847 (descent);
I. Goodfellow et al., "Deep Learning", 2016, algorithms 8.1 and 8.2 (lecture 001); B. Polyak, "Some methods of speeding
up the convergence of iteration methods", 1964 (momentum).
"""

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import HyperLike, interval
from jaxopt_lectures.core.first import is_number
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.core.transformation import Transformation


class DescentState(NamedTuple):
    """`count`: updates so far, () int32."""

    count: jax.Array


class MomentumState(NamedTuple):
    """`trace`: the velocity, shaped like the parameters; it points up the slope, as the gradient does."""

    count: jax.Array
    trace: Signed


def sgd_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step of gradient descent for one array."""
    del s, p, t
    return -h.learning_rate * g, {}  # w <- w - eta g


def sgd_momentum_rule(g: Any, s: Any, p: Any, h: Any, t: Any, *, nesterov: bool) -> Any:
    """One step for one array, learning rate outside the velocity."""
    del p, t
    trace = h.momentum * s.trace + g  # v_t = rho v_{t-1} + g_t
    step = g + h.momentum * trace if nesterov else trace
    return -h.learning_rate * step, {"trace": trace}  # w <- w - eta v_t


def momentum_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array, learning rate inside the velocity."""
    del p, t
    trace = h.momentum * s.trace + h.learning_rate * g  # v_t = gamma v_{t-1} + eta g_t
    return -trace, {"trace": trace}  # w <- w - v_t


def sgd(
    learning_rate: HyperLike,
    momentum: HyperLike | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> Transformation:
    """Stochastic gradient descent, algorithm 8.1: `w <- w - rho_k g`.

    With `momentum`, the learning rate stays outside the velocity, as in optax, torch and lecture 003:
    `v = momentum v + g; w <- w - rho_k v`; with `nesterov`, `w <- w - rho_k (g + momentum v)`.

    Args:
      learning_rate: step length, in parameter units per gradient unit; >= 0. A schedule is the sequence rho_1, rho_2...
        of algorithm 8.1, whose k counts from 1: rho_k is the schedule at count k - 1.
      momentum: share of the velocity kept each step, in [0, 1); None keeps no velocity at all.
      nesterov: see above.
      accumulator_dtype: dtype of the velocity; float32 (float64 for float64 parameters) if None.

    Raises:
      ValueError: a number outside its range.
    """
    rate = interval("learning_rate", learning_rate, 0)
    if momentum is None:
        return from_rule(sgd_rule, DescentState, [rate])
    return from_rule(
        sgd_momentum_rule,
        MomentumState,
        [rate, interval("momentum", momentum, 0, 1)],
        options={"nesterov": nesterov},
        dtypes={"trace": accumulator_dtype},
    )


def momentum(
    learning_rate: HyperLike,
    momentum: HyperLike = 0.9,
    *,
    learning_rate_inside: bool = True,
    initial_velocity: Any = 0.0,
    accumulator_dtype: Any = None,
) -> Transformation:
    """Gradient descent with momentum, algorithm 8.2: `v <- alpha v - rho g; w <- w + v`.

    The learning rate stands inside the velocity (lectures 000, 001, 002, 004). With `learning_rate_inside=False` it
    stands outside (lecture 003, torch, optax): `v = alpha v + g; w <- w - rho v`. Both take the same steps while the
    rate is constant. Under a schedule they differ: inside, a velocity remembers the rates at which it was gathered.

    Args:
      learning_rate: step length, in parameter units per gradient unit; >= 0.
      momentum: alpha (also gamma), the share of the velocity kept each step, in [0, 1).
      learning_rate_inside: which of the two.
      initial_velocity: v_0 that algorithm 8.2 requires, with its sign: the first step moves the weights by
        `momentum * v_0` (outside: `learning_rate * momentum * v_0`). A number or a tree like the parameters.
      accumulator_dtype: dtype of the velocity; float32 (float64 for float64 parameters) if None.

    Raises:
      ValueError: a number outside its range.
    """
    hypers, first = velocity(initial_velocity)
    return from_rule(
        momentum_rule if learning_rate_inside else sgd_momentum_rule,
        MomentumState,
        [interval("learning_rate", learning_rate, 0), interval("momentum", momentum, 0, 1), *hypers],
        options={} if learning_rate_inside else {"nesterov": False},
        initial={"trace": first},
        dtypes={"trace": accumulator_dtype},
    )


def velocity(initial: Any) -> tuple[list[Any], Any]:
    """Declares `initial_velocity`: a hyper-parameter if it is a number, otherwise a tree; the slot has its negative."""
    if not is_number(initial):
        return [], jax.tree.map(lambda v: -v, initial)
    return [interval("initial_velocity", initial, -math.inf)], _negative_velocity


def _negative_velocity(h: SimpleNamespace) -> Any:
    return 0 - h.initial_velocity  # not -0.0


def _momentum_twin(learning_rate: Any, momentum: Any = 0.9) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum))


CARDS = (
    Card(
        name="sgd",
        factory=sgd,
        summary="gradient descent on mini-batches",
        plain="w <- w - eta g",
        latex=r"w \leftarrow w - \eta\, g",
        source="A. Cauchy, 1847; Goodfellow, Bengio, Courville, Deep Learning, 2016, algorithm 8.1",
        lectures=("000 gradient descent", "001 algorithm 8.1", "003 W = w - wi * LR", "004 w <- w - eta grad C"),
        errata=(
            "001 prints theta^{k+1} on both sides of the mini-batch update; the right one is theta^k.",
            "003 first prints w = w - w', a learning rate of 1, on the way to W = w - wi * LR.",
            "004 defines C as a mean over N samples and differentiates the sum: a step N times too long.",
        ),
        differs=("torch.optim.SGD and optax.sgd agree.",),
        twin=Twin("optax.sgd(learning_rate, momentum, nesterov)", optax.sgd),
        learning_rate=0.2,
        space={"learning_rate": Range(1e-3, 10.0)},
        tags=("lecture", "first order"),
    ),
    Card(
        name="momentum",
        factory=momentum,
        summary="gradient descent with a velocity (heavy ball)",
        plain="v_t = gamma v_{t-1} + eta g_t\nw <- w - v_t",
        latex=r"\begin{aligned} v_t &= \gamma v_{t-1} + \eta\, g_t \\ w &\leftarrow w - v_t \end{aligned}",
        source="B. Polyak, 1964; Goodfellow, Bengio, Courville, Deep Learning, 2016, algorithm 8.2",
        lectures=("000 momentum", "001 algorithm 8.2", "002 V_t", "003 SGD + Momentum", "004 solution: momentum"),
        errata=(
            "001 and 004 write v <- alpha v - rho g, w <- w + v: the same with the sign of v turned.",
            "003 keeps the learning rate outside the velocity: another method as soon as the rate changes.",
            "Only 003 names a default (0.9); 001 calls the learning rate rho and the momentum alpha, 002 the reverse.",
        ),
        differs=("optax.sgd(momentum=) and torch.optim.SGD keep the rate outside; optax.rmsprop(momentum=) inside.",),
        twin=Twin("optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum))", _momentum_twin),
        learning_rate=0.05,
        space={"learning_rate": Range(1e-4, 1.0), "momentum": Range(0.5, 0.99, "linear")},
        off_neutral={"momentum": 0.8, "initial_velocity": 0.3},
        tags=("lecture", "first order"),
    ),
)

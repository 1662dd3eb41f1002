"""AdaDelta: RMSProp whose learning rate is the running size of its own updates.

Source: M. Zeiler, "ADADELTA: an adaptive learning rate method", 2012, arXiv:1212.5701, algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import HyperLike, interval, known_number
from jaxopt_lectures.core.numbers import quotient, root
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative
from jaxopt_lectures.core.transformation import Transformation


class AdaDeltaState(NamedTuple):
    """Running means of the squared gradients `e_g` and of the squared updates `e_x`, shaped like the parameters."""

    count: jax.Array
    e_g: NonNegative
    e_x: NonNegative


def adadelta_rule(g: Any, s: Any, p: Any, h: Any, t: Any, *, eps_in_sqrt: bool, numerator: bool) -> Any:
    """One step for one array."""
    del t

    def rms(mean_square: Any) -> Any:  # RMS[y] = sqrt(E[y^2] + eps)
        return root(mean_square + h.eps) if eps_in_sqrt else root(mean_square) + h.eps

    g = g if p is None else g + h.weight_decay * p
    e_g = h.rho * s.e_g + (1 - h.rho) * g * g  # E[g^2]_t = rho E[g^2]_{t-1} + (1 - rho) g_t^2
    dx = -quotient(g, rms(e_g))
    if not numerator:
        return h.learning_rate * dx, {"e_g": e_g}
    dx = dx * rms(s.e_x)  # dx_t = -RMS[dx]_{t-1} / RMS[g]_t g_t
    e_x = h.rho * s.e_x + (1 - h.rho) * dx * dx  # E[dx^2]_t = rho E[dx^2]_{t-1} + (1 - rho) dx_t^2
    return h.learning_rate * dx, {"e_g": e_g, "e_x": e_x}


def adadelta(
    learning_rate: HyperLike = 1.0,
    rho: HyperLike = 0.9,
    eps: HyperLike = 1e-6,
    weight_decay: HyperLike = 0.0,
    weight_decay_mask: Any = None,
    *,
    eps_in_sqrt: bool = True,
    numerator: bool = True,
) -> Transformation:
    """AdaDelta: `dx = -RMS[dx] / RMS[g] g; w <- w + dx`, without a learning rate to tune.

    The default rate of 1 is Zeiler's method. (optax's default, None, leaves out the minus sign and ascends.)

    Args:
      learning_rate: factor on the update, no unit; >= 0.
      rho: decay of both means, in [0, 1). The paper's is 0.95.
      eps: sets the first step's length, about `sqrt(eps)`; in squared units inside the root; >= 0.
      weight_decay: added to the gradient as `weight_decay * w`, before the means; >= 0.
      weight_decay_mask: tree of bools, or a function of the parameters that gives one: which weights decay.
      eps_in_sqrt: False is the text of lecture 002, `RMS = sqrt(E) + eps`: its first steps are sqrt(eps) times shorter.
      numerator: False leaves out RMS[dx]: RMSProp at a learning rate of 1. With `eps_in_sqrt=False` it is the listing
        of lecture 002, but for the minus sign, which the listing lacks too.

    Raises:
      ValueError: a number outside its range.
    """
    return from_rule(
        adadelta_rule,
        AdaDeltaState,
        [
            interval("learning_rate", learning_rate, 0),
            interval("rho", rho, 0, 1),
            interval("eps", eps, 0),
            interval("weight_decay", weight_decay, 0),
        ],
        options={"eps_in_sqrt": eps_in_sqrt, "numerator": numerator},
        without=() if numerator else ("e_x",),
        powers=2,
        needs_params=callable(weight_decay) or known_number("weight_decay", weight_decay) != 0,
        params_mask=weight_decay_mask,
    )


CARDS = (
    Card(
        name="adadelta",
        factory=adadelta,
        summary="RMSProp whose learning rate is the running size of its own updates",
        plain="E[g^2]_t = rho E[g^2]_{t-1} + (1 - rho) g_t^2\n"
        "dx_t = -sqrt(E[dx^2]_{t-1} + eps) / sqrt(E[g^2]_t + eps) g_t\n"
        "E[dx^2]_t = rho E[dx^2]_{t-1} + (1 - rho) dx_t^2\n"
        "w <- w + dx_t",
        latex=r"\begin{aligned} E[g^2]_t &= \rho E[g^2]_{t-1} + (1-\rho) g_t^2 \\ \Delta x_t &= "
        r"-\frac{\sqrt{E[\Delta x^2]_{t-1} + \epsilon}}{\sqrt{E[g^2]_t + \epsilon}}\, g_t \\"
        r" E[\Delta x^2]_t &= \rho E[\Delta x^2]_{t-1} + (1-\rho) \Delta x_t^2 \\ w &\leftarrow w + \Delta x_t"
        r" \end{aligned}",
        source="M. Zeiler, 2012, arXiv:1212.5701, algorithm 1",
        lectures=("002 AdaDelta and its algorithm 1",),
        errata=(
            "002's text has eps outside the root: at rho 0.95, halving w on w^2/2 takes 4739 steps, not 131.",
            "002's listing lacks the numerator RMS[dx] and the minus sign: on w^2/2 from 1 it reaches 96 in 50.",
            "The listing stands on the slide headed Adam, and cites arXiv:1212.25701 for 1212.5701.",
        ),
        differs=(
            "optax.adadelta() without a learning rate ascends; here the default is 1.",
            "torch.optim.Adadelta agrees with this default.",
        ),
        twin=Twin("optax.adadelta(learning_rate, rho, eps, weight_decay, weight_decay_mask)", optax.adadelta),
        learning_rate=1.0,
        space={"learning_rate": Range(1e-1, 30.0), "rho": Range(0.85, 0.99, "linear")},
        off_neutral={"rho": 0.8, "eps": 0.05, "weight_decay": 0.1},
        tags=("lecture", "first order", "adaptive"),
    ),
)

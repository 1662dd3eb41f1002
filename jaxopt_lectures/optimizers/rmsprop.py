"""RMSProp: AdaGrad with a running mean instead of a sum, so that the steps do not die out.

Sources: G. Hinton, N. Srivastava, K. Swersky, lecture 6e of "Neural Networks for Machine Learning", 2012;
A. Graves, "Generating sequences with recurrent neural networks", 2013, arXiv:1308.0850, equations 38-45 (centred).
"""

from typing import Any, NamedTuple

import jax
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import HyperLike, interval
from jaxopt_lectures.core.numbers import quotient, root
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation


class RMSPropState(NamedTuple):
    """Running means of g (`mu`, if centred) and g^2 (`nu`), velocity `trace` (with momentum), mean log decay."""

    count: jax.Array
    nu: NonNegative
    mu: Signed
    trace: Signed
    log_decay: Shared


def rmsprop_rule(
    g: Any,
    s: Any,
    p: Any,
    h: Any,
    t: Any,
    *,
    eps_in_sqrt: bool,
    centered: bool,
    momentum: bool,
    nesterov: bool,
    bias_correction: bool,
) -> Any:
    """One step for one array."""
    del p, t
    weight = h.decay_weight if bias_correction else 1
    nu = h.decay * s.nu + (1 - h.decay) * g * g  # E[g^2]_t = beta E[g^2]_{t-1} + (1 - beta) g_t^2
    new, mean_square = {"nu": nu}, nu / weight
    if centered:
        new["mu"] = h.decay * s.mu + (1 - h.decay) * g
        mean_square = mean_square - (new["mu"] / weight) ** 2  # the variance: E[g^2] - E[g]^2
    scale = root(mean_square + h.eps) if eps_in_sqrt else root(mean_square) + h.eps
    step = h.learning_rate * quotient(g, scale)  # eta g_t / sqrt(E[g^2]_t + eps)
    if momentum:
        new["trace"] = h.momentum * s.trace + step  # the rate stands inside the velocity
        step = step + h.momentum * new["trace"] if nesterov else new["trace"]
    return -step, new


def rmsprop(
    learning_rate: HyperLike,
    decay: HyperLike = 0.9,
    eps: HyperLike = 1e-8,
    initial_scale: HyperLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: HyperLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Transformation:
    """RMSProp: `E = decay E + (1 - decay) g^2; w <- w - eta g / sqrt(E + eps)`.

    The lectures place eps in three ways: inside the root (004, the default), outside, `sqrt(E) + eps`
    (`eps_in_sqrt=False`; torch), and nowhere (002: `eps=0`, where a coordinate without gradient takes no step).

    Args:
      learning_rate: eta, in parameter units; >= 0.
      decay: beta, in [0, 1).
      eps: in squared gradient units inside the root, in gradient units outside; >= 0.
      initial_scale: E_0, in squared gradient units; >= 0.
      eps_in_sqrt: see above.
      centered: divide by the standard deviation of the gradient instead of its root mean square (Graves 2013).
      momentum: share of a velocity kept each step, in [0, 1), the learning rate inside it; None keeps none.
      nesterov: step by `step + momentum * velocity`.
      bias_correction: divide the means by the weight 1 - decay^t that they have seen.

    Raises:
      ValueError: a number outside its range.
    """
    hypers = [
        interval("learning_rate", learning_rate, 0),
        interval("decay", decay, 0, 1),
        interval("eps", eps, 0),
        interval("initial_scale", initial_scale, 0),
    ]
    with_momentum = momentum is not None
    if momentum is not None:
        hypers.append(interval("momentum", momentum, 0, 1))
    live = {"mu": centered, "trace": with_momentum, "log_decay": bias_correction}
    return from_rule(
        rmsprop_rule,
        RMSPropState,
        hypers,
        options={
            "eps_in_sqrt": eps_in_sqrt,
            "centered": centered,
            "momentum": with_momentum,
            "nesterov": nesterov,
            "bias_correction": bias_correction,
        },
        initial={"nu": lambda h: h.initial_scale},
        without=[name for name, wanted in live.items() if not wanted],
        decays=("decay",) if bias_correction else (),
        powers=2,
    )


CARDS = (
    Card(
        name="rmsprop",
        factory=rmsprop,
        summary="the gradient divided by its running root mean square",
        plain="E_t = beta E_{t-1} + (1 - beta) g_t^2\nw <- w - eta g_t / sqrt(E_t + eps)",
        latex=r"\begin{aligned} E[g^2]_t &= \beta E[g^2]_{t-1} + (1-\beta) g_t^2 \\"
        r" w &\leftarrow w - \frac{\eta}{\sqrt{E[g^2]_t + \epsilon}}\, g_t \end{aligned}",
        source="G. Hinton, N. Srivastava, K. Swersky, lecture 6e, 2012; A. Graves, 2013, arXiv:1308.0850 (centred)",
        lectures=("002 RMSProp", "003 RMSProp", "004 solution: RMSProp"),
        errata=(
            "002 has no eps: a first gradient of 0 gives 0/0.",
            "003 prints + for * before the gradient, no square and no root: (w-3)^2/2 from 0 stands at -1.06 after "
            "1000 steps at 0.01, where the method is at 3.",
            "004 prints an inner product, one number for all weights, instead of the square of each gradient.",
        ),
        differs=(
            "torch's defaults are decay (alpha) 0.99 and eps outside the root; optax (and this): 0.9 and inside: "
            "0.5 apart after 30 steps at 1e-2. With momentum, torch keeps the rate outside the velocity.",
        ),
        twin=Twin(
            "optax.rmsprop(learning_rate, decay, eps, initial_scale, eps_in_sqrt, centered, momentum, nesterov)",
            optax.rmsprop,
        ),
        learning_rate=2e-3,
        space={"learning_rate": Range(1e-5, 1e-1), "decay": Range(0.8, 0.999, "linear")},
        off_neutral={"decay": 0.8, "eps": 0.05, "initial_scale": 0.2, "momentum": 0.7},
        tags=("lecture", "first order", "adaptive"),
    ),
)

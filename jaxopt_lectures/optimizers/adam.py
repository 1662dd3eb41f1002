"""Adam: steps scaled by running means of the gradient and of its square; AdamW and NAdam, its close kin.

Sources: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980, algorithm 1;
I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv:1711.05101, algorithm 2;
T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, algorithm 2.
"""

from typing import Any, NamedTuple

import jax
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import Hyper, HyperLike, interval
from jaxopt_lectures.core.numbers import quotient, root
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation


class AdamState(NamedTuple):
    """Running means of the gradient, `mu`, and of its square, `nu`; `log_b1`, `log_b2`: mean logarithms of the decays.

    `count` is () int32. With a constant decay, `log_b1` is log b1; `1 - exp(count * log_b1)` corrects the bias.
    """

    count: jax.Array
    mu: Signed
    nu: NonNegative
    log_b1: Shared
    log_b2: Shared


def adam_rule(g: Any, s: Any, p: Any, h: Any, t: Any, *, nesterov: bool, bias_correction: bool) -> Any:
    """One step for one array. `h.b1_weight` is 1 - b1^t, the weight that the mean has seen so far."""
    del p, t
    b1_weight, b2_weight = (h.b1_weight, h.b2_weight) if bias_correction else (1, 1)
    mu = h.b1 * s.mu + (1 - h.b1) * g  # m_t = b1 m_{t-1} + (1 - b1) g_t
    nu = h.b2 * s.nu + (1 - h.b2) * g * g  # v_t = b2 v_{t-1} + (1 - b2) g_t^2
    mu_hat = mu / b1_weight  # both start at 0: divide by the weight seen
    if nesterov:
        next_weight = 1 - h.b1 * (1 - b1_weight)  # 1 - b1^{t+1}
        mu_hat = h.b1 * mu / next_weight + (1 - h.b1) * g / b1_weight
    nu_hat = nu / b2_weight
    return -h.learning_rate * quotient(mu_hat, root(nu_hat + h.eps_root) + h.eps), {"mu": mu, "nu": nu}


def adamw_rule(g: Any, s: Any, p: Any, h: Any, t: Any, **options: bool) -> Any:
    """Adam's step for one array, and the weights drawn to 0 beside it, not through the means."""
    update, slots = adam_rule(g, s, p, h, t, **options)
    return update - h.learning_rate * h.weight_decay * p, slots  # w <- w - eta (adam + lambda w)


def moments(learning_rate: HyperLike, b1: HyperLike, b2: HyperLike, **eps: HyperLike) -> list[Hyper]:
    """The hyper-parameters of the Adam family, with their ranges."""
    return [
        interval("learning_rate", learning_rate, 0),
        interval("b1", b1, 0, 1),
        interval("b2", b2, 0, 1),
        *[interval(name, value, 0) for name, value in eps.items()],
    ]


def adam(
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    b2: HyperLike = 0.999,
    eps: HyperLike = 1e-8,
    eps_root: HyperLike = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    bias_correction: bool = True,
) -> Transformation:
    """Adam: `w <- w - eta m_hat / (sqrt(v_hat) + eps)`.

    Args:
      learning_rate: eta, step length in parameter units (the gradient's unit cancels); >= 0.
      b1: decay of the mean of the gradient, in [0, 1).
      b2: decay of the mean of its square, in [0, 1).
      eps: added to the root, in gradient units; >= 0.
      eps_root: added inside the root, in squared gradient units; >= 0.
      mu_dtype: dtype in which `mu` is kept; float32 (float64 for float64 parameters) if None. `nu` is never narrower:
        in bfloat16 it would stall at half its value.
      nesterov: NAdam's first moment.
      bias_correction: False leaves the means as they are (lecture 003): the first step is then 3.16 times too long.

    Each numeric argument is a number, a traced scalar or a schedule of the count.

    Raises:
      ValueError: a number outside its range.
    """
    return adam_like(
        adam_rule, moments(learning_rate, b1, b2, eps=eps, eps_root=eps_root), mu_dtype, nesterov, bias_correction
    )


def adamw(
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    b2: HyperLike = 0.999,
    eps: HyperLike = 1e-8,
    eps_root: HyperLike = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperLike = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> Transformation:
    """AdamW: Adam with decoupled weight decay, `w <- w - eta (m_hat / (sqrt(v_hat) + eps) + weight_decay w)`.

    Args:
      learning_rate: eta, step length in parameter units; >= 0. It multiplies the decay too.
      b1: decay of the mean of the gradient, in [0, 1).
      b2: decay of the mean of its square, in [0, 1).
      eps: added to the root, in gradient units; >= 0.
      eps_root: added inside the root, in squared gradient units; >= 0.
      mu_dtype: dtype in which `mu` is kept; float32 (float64 for float64 parameters) if None.
      weight_decay: share of each weight taken away per unit of learning rate; >= 0.
      mask: tree of bools, or a function of the parameters that gives one: which weights decay.
      nesterov: NAdam's first moment.

    Raises:
      ValueError: a number outside its range; or `update` is not given the parameters.
    """
    hypers = moments(learning_rate, b1, b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)
    return adam_like(adamw_rule, hypers, mu_dtype, nesterov, True, needs_params=True, params_mask=mask)


def nadam(
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    b2: HyperLike = 0.999,
    eps: HyperLike = 1e-8,
    eps_root: HyperLike = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> Transformation:
    """NAdam: Adam that already applies the next step's momentum; arguments as in `adam`.

    `m_hat = b1 m_t / (1 - b1^{t+1}) + (1 - b1) g_t / (1 - b1^t)`, optax's form, without torch's momentum decay.

    Raises:
      ValueError: a number outside its range.
    """
    return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)


def adam_like(
    rule: Any, hypers: list[Hyper], mu_dtype: Any, nesterov: bool, bias_correction: bool, **params: Any
) -> Transformation:
    """A rule with Adam's state, lifted; `params`: what else `from_rule` is to know."""
    return from_rule(
        rule,
        AdamState,
        hypers,
        options={"nesterov": nesterov, "bias_correction": bias_correction},
        dtypes={"mu": mu_dtype},
        without=() if bias_correction else ("log_b1", "log_b2"),
        decays=("b1", "b2") if bias_correction else (),
        powers=2,
        **params,
    )


_PLAIN = (
    "m_t = b1 m_{t-1} + (1 - b1) g_t\n"
    "v_t = b2 v_{t-1} + (1 - b2) g_t^2\n"
    "m_hat = m_t / (1 - b1^t)\n"
    "v_hat = v_t / (1 - b2^t)\n"
)
_LATEX = (
    r"\begin{aligned} m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t \\ v_t &= \beta_2 v_{t-1} + (1-\beta_2) g_t^2 \\"
    r" \hat m_t &= \frac{m_t}{1-\beta_1^t}, \quad \hat v_t = \frac{v_t}{1-\beta_2^t} \\"
)
_SPACE = {"learning_rate": Range(1e-5, 1e-1), "b1": Range(0.8, 0.99, "linear"), "b2": Range(0.9, 0.9999, "linear")}
_OFF_NEUTRAL = {"b1": 0.8, "b2": 0.95, "eps": 0.05, "eps_root": 0.02}
_TAGS = ("first order", "adaptive")

CARDS = (
    Card(
        name="adam",
        factory=adam,
        summary="steps scaled by running means of the gradient and of its square",
        plain=_PLAIN + "w <- w - eta m_hat / (sqrt(v_hat) + eps)",
        latex=_LATEX + r" w &\leftarrow w - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} \end{aligned}",
        source="D. Kingma, J. Ba, ICLR 2015, arXiv:1412.6980, algorithm 1",
        lectures=("000 Adaptive Moment Estimation", "002 Adeptive Moment Estimation (Adam)", "003 ADAM"),
        errata=(
            "000 steps by the previous hats, which are 0/0 at the first step.",
            "003 has no squares, no root, no bias correction and adds 1e-7 to the weights: its first step is -0.1 for "
            "a gradient of +2 and of -2, and (w-3)^2/2 from 0 stands at -6.4 after 1000 steps at 1e-3 (correct: 0.92).",
            "003 calls it adaptive momentum; it is adaptive moment estimation.",
        ),
        differs=("optax.adam and torch.optim.Adam agree in float64; in float32 their 1 - b^t cancels, ours does not.",),
        twin=Twin("optax.adam(learning_rate, b1, b2, eps, eps_root)", optax.adam),
        learning_rate=2e-3,
        space=_SPACE,
        off_neutral=_OFF_NEUTRAL,
        tags=("lecture", *_TAGS),
    ),
    Card(
        name="adamw",
        factory=adamw,
        summary="Adam with weight decay beside the means, not through them",
        plain=_PLAIN + "w <- w - eta (m_hat / (sqrt(v_hat) + eps) + lambda w)",
        latex=_LATEX + r" w &\leftarrow w - \eta \left( \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda w \right)"
        r" \end{aligned}",
        source="I. Loshchilov, F. Hutter, ICLR 2019, arXiv:1711.05101, algorithm 2",
        lectures=("004 risk of overfitting (named only)",),
        differs=(
            "torch's weight_decay is 1e-2 by default, optax's (and this) 1e-4: 0.0075 apart after 30 steps at 1e-2.",
        ),
        twin=Twin("optax.adamw(learning_rate, b1, b2, eps, eps_root, weight_decay=weight_decay)", optax.adamw),
        learning_rate=2e-3,
        space=_SPACE | {"weight_decay": Range(1e-5, 1.0)},
        off_neutral=_OFF_NEUTRAL | {"weight_decay": 0.1},
        tags=_TAGS,
    ),
    Card(
        name="nadam",
        factory=nadam,
        summary="Adam that already applies the next step's momentum",
        plain="m_t, v_t and v_hat as in adam\n"
        "m_hat = b1 m_t / (1 - b1^{t+1}) + (1 - b1) g_t / (1 - b1^t)\n"
        "w <- w - eta m_hat / (sqrt(v_hat) + eps)",
        latex=r"\begin{aligned} \hat m_t &= \frac{\beta_1 m_t}{1-\beta_1^{t+1}}"
        r" + \frac{(1-\beta_1) g_t}{1-\beta_1^t} \\"
        r" w &\leftarrow w - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} \end{aligned}",
        source="T. Dozat, ICLR workshop 2016, algorithm 2",
        lectures=(),
        differs=("torch.optim.NAdam warms its momentum up from b1 / 2: 0.045 apart after 30 steps at 1e-2.",),
        twin=Twin("optax.nadam(learning_rate, b1, b2, eps, eps_root)", optax.nadam),
        learning_rate=2e-3,
        space=_SPACE,
        off_neutral=_OFF_NEUTRAL,
        tags=_TAGS,
    ),
)

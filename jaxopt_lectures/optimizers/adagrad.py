"""AdaGrad: each coordinate's step shrinks with the squares it has seen; AdaGrad-Norm: one step length for all.

Sources: J. Duchi, E. Hazan, Y. Singer, JMLR 12, 2011, figure 1 (diagonal); R. Ward, X. Wu, L. Bottou, "AdaGrad
stepsizes: sharp convergence over nonconvex landscapes", ICML 2019, arXiv:1806.01811, algorithm 1 (norm).
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import HyperLike, interval
from jaxopt_lectures.core.numbers import finite, hypotenuse, norm, quotient, root
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, NonNegativeScalar, SharedNonNegative
from jaxopt_lectures.core.transformation import Transformation


class AdaGradState(NamedTuple):
    """`sum_of_squares`: of the gradients so far, shaped like the parameters."""

    count: jax.Array
    sum_of_squares: NonNegative


class AdaGradNormState(NamedTuple):
    """`norm`: root of the sum of all squares so far, () (its square need not be finite)."""

    count: jax.Array
    norm: SharedNonNegative


class AdaGradLeafNormState(NamedTuple):
    """`norm`: as above, one () for each parameter array."""

    count: jax.Array
    norm: NonNegativeScalar


def adagrad_rule(g: Any, s: Any, p: Any, h: Any, t: Any, *, eps_in_sqrt: bool) -> Any:
    """One step for one array."""
    del p, t
    r = s.sum_of_squares + g * g  # r_t = r_{t-1} + g_t^2
    scale = root(r + h.eps) if eps_in_sqrt else root(r) + h.eps
    return -h.learning_rate * quotient(g, scale), {"sum_of_squares": r}  # w <- w - eta g / sqrt(r_t + eps)


def adagrad_norm_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array, when `s.norm` has seen the gradients of all arrays already."""
    del p, t
    return -h.learning_rate * quotient(
        finite(g), hypotenuse(s.norm, root(h.eps))
    ), {}  # w <- w - eta g / sqrt(eps + b^2)


def adagrad_leaf_norm_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array that knows only its own gradients."""
    grown = SimpleNamespace(norm=finite(hypotenuse(s.norm, norm([g]))))
    return adagrad_norm_rule(g, grown, p, h, t)[0], {"norm": grown.norm}


def grow_norm(gradients: Any, s: SimpleNamespace, h: SimpleNamespace) -> Any:
    """b_t^2 = b_{t-1}^2 + |g_t|^2, on roots."""
    del h
    return {"norm": finite(hypotenuse(s.norm, norm(gradients).astype(s.norm.dtype)))}


def adagrad(
    learning_rate: HyperLike,
    initial_accumulator_value: HyperLike = 0.1,
    eps: HyperLike = 1e-7,
    *,
    eps_in_sqrt: bool = True,
) -> Transformation:
    """AdaGrad: `r = r + g^2; w <- w - eta g / sqrt(r + eps)`, coordinate by coordinate.

    Args:
      learning_rate: eta, in parameter units (the gradient's unit cancels); >= 0.
      initial_accumulator_value: r_0, in squared gradient units; >= 0. The paper and torch start at 0.
      eps: in squared gradient units inside the root, in gradient units outside; >= 0.
      eps_in_sqrt: True as in lecture 002 and optax, False as in torch and the Deep Learning book.

    Raises:
      ValueError: a number outside its range.
    """
    return from_rule(
        adagrad_rule,
        AdaGradState,
        [
            interval("learning_rate", learning_rate, 0),
            interval("initial_accumulator_value", initial_accumulator_value, 0),
            interval("eps", eps, 0),
        ],
        options={"eps_in_sqrt": eps_in_sqrt},
        initial={"sum_of_squares": lambda h: h.initial_accumulator_value},
        powers=2,
    )


def adagrad_norm(
    learning_rate: HyperLike,
    initial_accumulator_value: HyperLike = 0.0,
    eps: HyperLike = 1e-7,
    *,
    per_leaf: bool = False,
) -> Transformation:
    """AdaGrad-Norm: `b^2 = b^2 + |g|^2; w <- w - eta g / sqrt(eps + b^2)`, one b for all coordinates.

    Args:
      learning_rate: eta, in parameter units; >= 0.
      initial_accumulator_value: b_0^2, in squared gradient units; >= 0.
      eps: delta of lecture 004, in squared gradient units; >= 0.
      per_leaf: one b for each array instead of one for the whole tree (the paper's is for the whole).

    Raises:
      ValueError: a number outside its range.
    """
    return from_rule(
        adagrad_leaf_norm_rule if per_leaf else adagrad_norm_rule,
        AdaGradLeafNormState if per_leaf else AdaGradNormState,
        [
            interval("learning_rate", learning_rate, 0),
            interval("initial_accumulator_value", initial_accumulator_value, 0),
            interval("eps", eps, 0),
        ],
        initial={"norm": lambda h: root(jnp.asarray(h.initial_accumulator_value, jnp.result_type(float)))},
        shared=None if per_leaf else grow_norm,
        couples="array" if per_leaf else "tree",
    )


def _twin(learning_rate: Any, initial_accumulator_value: Any = 0.1, eps: Any = 1e-7) -> optax.GradientTransformation:
    return optax.adagrad(learning_rate, initial_accumulator_value, eps)


CARDS = (
    Card(
        name="adagrad",
        factory=adagrad,
        summary="each coordinate divided by the root of the squares it has seen",
        plain="r_t = r_{t-1} + g_t^2\nw <- w - eta g_t / sqrt(r_t + eps)",
        latex=r"\begin{aligned} r_t &= r_{t-1} + g_t^2 \\ w &\leftarrow w - \frac{\eta}{\sqrt{r_t + \epsilon}}\, g_t"
        r" \end{aligned}",
        source="J. Duchi, E. Hazan, Y. Singer, JMLR 12, 2011",
        lectures=("002 AdaGrad", "003 AdaGrad"),
        errata=(
            "002 never defines V_t; it is the sum of the squared gradients.",
            "003 sums the gradient, not its square, takes no root and adds 1e-7 to the weights: its first step is the "
            "learning rate whatever the gradient's sign; (w-3)^2/2 from 0 stands at -0.53 after 100 steps at 0.1.",
        ),
        differs=(
            "torch starts at 0 with eps=1e-10 outside the root; optax (and this) at 0.1 with eps=1e-7 inside: "
            "0.005 apart after 30 steps at 1e-2.",
        ),
        twin=Twin("optax.adagrad(learning_rate, initial_accumulator_value, eps)", _twin),
        learning_rate=0.1,
        space={"learning_rate": Range(1e-3, 1.0)},
        off_neutral={"initial_accumulator_value": 0.3, "eps": 0.05},
        tags=("lecture", "first order", "adaptive"),
    ),
    Card(
        name="adagrad_norm",
        factory=adagrad_norm,
        summary="one step length for all, divided by the root of all squares seen",
        plain="b_t^2 = b_{t-1}^2 + |g_t|^2\nw <- w - eta g_t / sqrt(eps + b_t^2)",
        latex=r"\begin{aligned} b_t^2 &= b_{t-1}^2 + \lVert g_t \rVert^2 \\"
        r" w &\leftarrow w - \frac{\eta}{\sqrt{\epsilon + b_t^2}}\, g_t \end{aligned}",
        source="R. Ward, X. Wu, L. Bottou, 2019, arXiv:1806.01811, algorithm 1",
        lectures=("004 solution: AdaGrad",),
        errata=(
            "004 prints r <- r + grad^T grad under the name AdaGrad: an inner product, so one number for all weights. "
            "On curvatures 100 and 1 the flat coordinate then stands at 0.42 after 200 steps at rate 0.5, where the "
            "elementwise form has reached 2e-49.",
        ),
        differs=("Neither optax nor torch has it.",),
        learning_rate=1.0,
        space={"learning_rate": Range(1e-2, 30.0)},
        off_neutral={"initial_accumulator_value": 0.3, "eps": 0.05},
        tags=("lecture", "first order", "adaptive"),
    ),
)

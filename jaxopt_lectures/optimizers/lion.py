"""Lion: every coordinate steps by the same length, along the sign of an interpolated momentum.

Source: X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, arXiv:2302.06675, program 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import HyperLike
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.optimizers.adam import moments


class LionState(NamedTuple):
    """`mu`: running mean of the gradient, shaped like the parameters."""

    count: jax.Array
    mu: Signed


def lion_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array."""
    del t
    direction = jnp.sign(h.b1 * s.mu + (1 - h.b1) * g)  # sign(b1 m_{t-1} + (1 - b1) g_t)
    mu = h.b2 * s.mu + (1 - h.b2) * g  # m_t = b2 m_{t-1} + (1 - b2) g_t
    return -h.learning_rate * (direction + h.weight_decay * p), {"mu": mu}  # w <- w - eta (direction + lambda w)


def lion(
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    b2: HyperLike = 0.99,
    mu_dtype: Any = None,
    weight_decay: HyperLike = 1e-3,
    mask: Any = None,
) -> Transformation:
    """Lion: `w <- w - eta (sign(b1 m + (1 - b1) g) + weight_decay w)`.

    Args:
      learning_rate: eta, the length of every step, in parameter units; >= 0. About a tenth of Adam's.
      b1: interpolation between momentum and gradient in the step, in [0, 1).
      b2: decay of the momentum, in [0, 1).
      mu_dtype: dtype in which `mu` is kept; float32 (float64 for float64 parameters) if None.
      weight_decay: share of each weight taken away per unit of learning rate; >= 0.
      mask: tree of bools, or a function of the parameters that gives one: which weights decay.

    Raises:
      ValueError: a number outside its range; or `update` is not given the parameters.
    """
    return from_rule(
        lion_rule,
        LionState,
        moments(learning_rate, b1, b2, weight_decay=weight_decay),
        dtypes={"mu": mu_dtype},
        needs_params=True,
        params_mask=mask,
    )


CARDS = (
    Card(
        name="lion",
        factory=lion,
        summary="steps of one length, along the sign of an interpolated momentum",
        plain="w <- w - eta (sign(b1 m_{t-1} + (1 - b1) g_t) + lambda w)\nm_t = b2 m_{t-1} + (1 - b2) g_t",
        latex=r"\begin{aligned} w &\leftarrow w - \eta \left( \operatorname{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t)"
        r" + \lambda w \right) \\ m_t &= \beta_2 m_{t-1} + (1-\beta_2) g_t \end{aligned}",
        source="X. Chen et al., NeurIPS 2023, arXiv:2302.06675, program 1",
        differs=("The paper's tables use weight_decay 0.1 to 1; optax's default (and this) is 1e-3. torch has none.",),
        twin=Twin("optax.lion(learning_rate, b1, b2, weight_decay=weight_decay)", optax.lion),
        learning_rate=5e-4,
        space={"learning_rate": Range(1e-6, 1e-2), "weight_decay": Range(1e-4, 1.0)},
        off_neutral={"b1": 0.8, "b2": 0.95, "weight_decay": 0.1},
        tags=("first order", "sign"),
    ),
)

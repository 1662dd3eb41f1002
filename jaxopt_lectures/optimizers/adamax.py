"""AdaMax: Adam with the largest gradient of late in the place of the root mean square.

Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980, algorithm 2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import HyperLike
from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.optimizers.adam import moments


class AdaMaxState(NamedTuple):
    """`mu`: running mean of the gradient; `nu`: decaying maximum of its size; `log_b1`: mean logarithm of b1."""

    count: jax.Array
    mu: Signed
    nu: NonNegative
    log_b1: Shared


def adamax_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array."""
    del p, t
    mu = h.b1 * s.mu + (1 - h.b1) * g  # m_t = b1 m_{t-1} + (1 - b1) g_t
    nu = jnp.maximum(h.b2 * s.nu, jnp.abs(g) + h.eps)  # u_t = max(b2 u_{t-1}, |g_t| + eps)
    return -h.learning_rate * quotient(mu / h.b1_weight, nu), {"mu": mu, "nu": nu}  # w <- w - eta m_hat / u_t


def adamax(
    learning_rate: HyperLike, b1: HyperLike = 0.9, b2: HyperLike = 0.999, eps: HyperLike = 1e-8
) -> Transformation:
    """AdaMax: `u = max(b2 u, |g| + eps); w <- w - eta m_hat / u`. The paper has no eps, and 0/0 at a first 0.

    Args:
      learning_rate: eta, the longest step, in parameter units; >= 0.
      b1: decay of the mean of the gradient, in [0, 1).
      b2: decay of the maximum, in [0, 1).
      eps: in gradient units; >= 0.

    Raises:
      ValueError: a number outside its range.
    """
    return from_rule(adamax_rule, AdaMaxState, moments(learning_rate, b1, b2, eps=eps), decays=("b1",), powers=1)


CARDS = (
    Card(
        name="adamax",
        factory=adamax,
        summary="Adam divided by the largest gradient of late",
        plain="m_t = b1 m_{t-1} + (1 - b1) g_t\n"
        "u_t = max(b2 u_{t-1}, |g_t| + eps)\n"
        "w <- w - eta m_t / (1 - b1^t) / u_t",
        latex=r"\begin{aligned} m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t \\"
        r" u_t &= \max(\beta_2 u_{t-1}, \lvert g_t \rvert + \epsilon) \\"
        r" w &\leftarrow w - \frac{\eta}{1-\beta_1^t} \frac{m_t}{u_t} \end{aligned}",
        source="D. Kingma, J. Ba, ICLR 2015, arXiv:1412.6980, algorithm 2",
        differs=("optax.adamax and torch.optim.Adamax agree.",),
        twin=Twin("optax.adamax(learning_rate, b1, b2, eps)", optax.adamax),
        learning_rate=4e-3,
        space={"learning_rate": Range(1e-5, 1e-1)},
        off_neutral={"b1": 0.8, "b2": 0.9, "eps": 0.05},
        tags=("first order", "adaptive"),
    ),
)

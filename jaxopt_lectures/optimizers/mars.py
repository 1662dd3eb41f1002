"""MARS: AdamW on a gradient that is corrected by how it changed since the last step, and clipped.

Source: H. Yuan et al., "MARS: unleashing the power of variance reduction for training large models", ICML 2025,
arXiv:2411.10438, algorithm 2 (AdamW), in its approximate form, which is the one the authors run: the last step's
gradient stands for this batch's gradient at the last step's weights.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.card import Card, Range
from jaxopt_lectures.core.checks import HyperLike, interval
from jaxopt_lectures.core.numbers import norm
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.optimizers.adam import adamw_rule, moments


class MarsState(NamedTuple):
    """Adam's state, of the corrected gradient, and the `previous` gradient as it was; 0 before the first step."""

    count: jax.Array
    mu: Signed
    nu: NonNegative
    previous: Signed
    log_b1: Shared
    log_b2: Shared


def mars_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array."""
    c = g + h.gamma * h.b1 / (1 - h.b1) * (g - s.previous)  # what the mean m has missed of the last change
    c = c / jnp.maximum(norm([c]), 1)
    update, slots = adamw_rule(c, s, p, h, t, nesterov=False, bias_correction=True)
    return update, slots | {"previous": g}


def mars(
    learning_rate: HyperLike,
    b1: HyperLike = 0.95,
    b2: HyperLike = 0.99,
    gamma: HyperLike = 0.025,
    eps: HyperLike = 1e-8,
    eps_root: HyperLike = 0.0,
    weight_decay: HyperLike = 0.0,
    mask: Any = None,
) -> Transformation:
    """MARS-AdamW: AdamW of `c = g + gamma b1 / (1 - b1) (g - g_previous)`, each array's c no longer than 1.

    All parameters are treated alike. The authors' code takes plain AdamW for those that are no matrices, at rates of
    its own; for that, pass some parameters to `adamw` by `optax.multi_transform`.

    Args:
      learning_rate: eta, step length in parameter units; >= 0. The authors' is 3e-3.
      b1: decay of the mean of c, in [0, 1).
      b2: decay of the mean of its square, in [0, 1).
      gamma: how much of the correction is taken; >= 0. 0: AdamW of gradients clipped to 1 array by array.
      eps: added to the root, in units of c, whose length is at most 1; >= 0.
      eps_root: added inside the root, in squared units of c; >= 0.
      weight_decay: share of each weight taken away per unit of learning rate; >= 0. 0 as in the authors' class; their
        runs take 0.01 for language models.
      mask: tree of bools, or a function of the parameters that gives one: which weights decay.

    Raises:
      ValueError: a number outside its range; or `update` is not given the parameters.
    """
    return from_rule(
        mars_rule,
        MarsState,
        [
            *moments(learning_rate, b1, b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay),
            interval("gamma", gamma, 0),
        ],
        decays=("b1", "b2"),
        couples="array",
        powers=2,
        needs_params=True,
        params_mask=mask,
    )


CARDS = (
    Card(
        name="mars",
        factory=mars,
        summary="AdamW of the gradient plus a share of how it changed, clipped",
        plain="c_t = g_t + gamma b1 / (1 - b1) (g_t - g_{t-1})\n"
        "c_t <- c_t / max(1, |c_t|)\n"
        "m_t = b1 m_{t-1} + (1 - b1) c_t\n"
        "v_t = b2 v_{t-1} + (1 - b2) c_t^2\n"
        "w <- w - eta (m_hat / (sqrt(v_hat) + eps) + lambda w)",
        latex=r"\begin{aligned} c_t &= g_t + \gamma \frac{\beta_1}{1-\beta_1} (g_t - g_{t-1}), \quad"
        r" c_t \leftarrow \frac{c_t}{\max(1, \lVert c_t \rVert)} \\"
        r" m_t &= \beta_1 m_{t-1} + (1-\beta_1) c_t, \quad v_t = \beta_2 v_{t-1} + (1-\beta_2) c_t^2 \\"
        r" w &\leftarrow w - \eta \left( \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda w \right)"
        r" \end{aligned}",
        source="H. Yuan et al., 2024, arXiv:2411.10438, algorithm 2",
        differs=(
            "Neither optax nor torch has it. The authors' code leaves parameters that are no matrices to AdamW; here "
            "all are treated alike.",
        ),
        learning_rate=3e-3,
        space={
            "learning_rate": Range(1e-5, 1e-1),
            "b1": Range(0.8, 0.99, "linear"),
            "b2": Range(0.9, 0.9999, "linear"),
            "gamma": Range(1e-3, 0.1),
        },
        off_neutral={"b1": 0.8, "b2": 0.95, "gamma": 0.1, "eps": 0.05, "eps_root": 0.02, "weight_decay": 0.1},
        tags=("first order", "adaptive", "variance reduction"),
    ),
)

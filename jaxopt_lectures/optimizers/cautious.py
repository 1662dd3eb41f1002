"""Cautious AdamW: the coordinates of Adam's step that the gradient of this step does not agree with wait.

Source: K. Liang et al., "Cautious optimizers: improving training with one line of code", 2024, arXiv:2411.16085,
algorithm 1 and the authors' code.
"""

from typing import Any

import jax.numpy as jnp

from jaxopt_lectures.core.card import Card, Range
from jaxopt_lectures.core.checks import HyperLike
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.optimizers.adam import adam_like, adam_rule, moments


def agreeing(u: Any, g: Any) -> Any:
    """The step `u` of one array where it leads down the slope `g`, 0 elsewhere, longer by what was left out.

    Signs are compared, not products, which could vanish. A NaN in either is not hidden.
    """
    dtype = arithmetic_dtype(u.dtype, g.dtype)
    u, g = u.astype(dtype), g.astype(dtype)
    against = jnp.sign(u) * jnp.sign(g) >= 0  # updates are added: downhill is where their sign is the other
    share = jnp.mean(~against, dtype=dtype)
    return jnp.where(against, 0, u) / jnp.maximum(share, 1e-3)


def cautious_adamw_rule(g: Any, s: Any, p: Any, h: Any, t: Any, **options: bool) -> Any:
    """One step for one array; weights decay everywhere, beside the mask."""
    step, slots = adam_rule(g, s, p, h, t, **options)
    return agreeing(step, g) - h.learning_rate * h.weight_decay * p, slots


def cautious_adamw(
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    b2: HyperLike = 0.999,
    eps: HyperLike = 1e-8,
    eps_root: HyperLike = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperLike = 1e-4,
    mask: Any = None,
) -> Transformation:
    """C-AdamW: AdamW, 0 where its step would not follow this gradient; arguments as in `adam` and `adamw`.

    What remains is divided by its share of the array's elements, 1/1000 at least. With `b1 = 0` nothing is ever left
    out but what has no gradient.

    Raises:
      ValueError: a number outside its range; or `update` is not given the parameters.
    """
    hypers = moments(learning_rate, b1, b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)
    return adam_like(
        cautious_adamw_rule, hypers, mu_dtype, False, True, couples="array", needs_params=True, params_mask=mask
    )


CARDS = (
    Card(
        name="cautious_adamw",
        factory=cautious_adamw,
        summary="AdamW that leaves out coordinates whose gradient points the other way",
        plain="u = m_hat / (sqrt(v_hat) + eps), as in adam\n"
        "mask = 1 where u g_t > 0, else 0\n"
        "w <- w - eta (u mask / max(mean(mask), 1/1000) + lambda w)",
        latex=r"\begin{aligned} u &= \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}, \quad"
        r" \phi = \mathbb{1}[u \, g_t > 0] \\ w &\leftarrow w - \eta \left("
        r" \frac{u \, \phi}{\max(\operatorname{mean} \phi, 10^{-3})} + \lambda w \right) \end{aligned}",
        source="K. Liang et al., 2024, arXiv:2411.16085, algorithm 1",
        differs=(
            "Neither optax nor torch has it. The paper divides by (sum of the mask + 1) / n, the authors' code and "
            "this by its mean.",
        ),
        learning_rate=2e-3,
        space={
            "learning_rate": Range(1e-5, 1e-1),
            "b1": Range(0.8, 0.99, "linear"),
            "b2": Range(0.9, 0.9999, "linear"),
            "weight_decay": Range(1e-5, 1.0),
        },
        off_neutral={"b1": 0.8, "b2": 0.95, "eps": 0.05, "eps_root": 0.02, "weight_decay": 0.1},
        tags=("first order", "adaptive"),
    ),
)

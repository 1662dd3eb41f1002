"""Schedule-Free: steps without momentum and without a rate that decays, and the mean of all points on the way.

    z <- z - eta_k (g + lambda y)       g taken at y, the parameters
    x <- (1 - c_k) x + c_k z            the mean: what is evaluated, `jol.eval_params(state, params)`
    y <- b1 x + (1 - b1) z              c_k = w_k / (w_0 + ... + w_k),  w_k = (k+1)^r max(eta_0 ... eta_k)^power

x and z are kept, so that parameters in bfloat16 lose nothing: each update leads from where they are to the new y.

Source: A. Defazio et al., "The road less scheduled", NeurIPS 2024, arXiv:2405.15682, equations 2-4, algorithm 1, and
the authors' package `schedulefree`.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.core.checks import Hyper, HyperLike, interval
from jaxopt_lectures.core.first import PARAMETER
from jaxopt_lectures.core.numbers import quotient, root
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import NonNegative, Shared, SharedNonNegative, Weights
from jaxopt_lectures.core.transformation import Transformation, along


class ScheduleFreeState(NamedTuple):
    """Where the steps have led, `z`, and the mean on the way, `x`; the parameters are y, between the two.

    `nu`: running mean of the squared gradient; `log_b2`: mean logarithm of its decay; None without Adam's steps.
    `weight_sum`: of all steps so far; `max_rate`: the largest of them; both ().
    """

    count: jax.Array
    x: Weights
    z: Weights
    nu: NonNegative
    weight_sum: SharedNonNegative
    max_rate: SharedNonNegative
    log_b2: Shared

    def eval_params(self, params: Any) -> Any:
        """`x`, in the parameters' dtypes."""
        return along(lambda y, x: x.astype(y.dtype), params, self.x)


def schedule_free_rule(u: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """From the step `u` of z to that of the parameters y, for one array; `s.share` is c_k."""
    del t
    z = s.z + u
    x = (1 - s.share) * s.x + s.share * z  # the mean of all z, weighted
    y = h.b1 * x + (1 - h.b1) * z  # b1 = 0: plain averaging; b1 = 1: gradients at the mean
    return y - p, {"x": x, "z": z}


def schedule_free_sgd_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array; `s.rate` is eta_k, warmed up."""
    return schedule_free_rule(-s.rate * (g + h.weight_decay * p), s, p, h, t)  # z <- z - eta_k (g + lambda y)


def schedule_free_adamw_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """One step for one array: Adam's without a first moment, for which the mean stands in."""
    nu = h.b2 * s.nu + (1 - h.b2) * g * g  # v_k = b2 v_{k-1} + (1 - b2) g_k^2
    direction = quotient(g, root(nu / h.b2_weight) + h.eps)
    update, slots = schedule_free_rule(-s.rate * (direction + h.weight_decay * p), s, p, h, t)
    return update, slots | {"nu": nu}


def shares(gradients: Any, s: SimpleNamespace, h: SimpleNamespace) -> dict[str, Any]:
    """The rate of step k = `s.count`, and c_k, the share of its z in the mean."""
    del gradients
    k = s.count.astype(h.learning_rate.dtype)
    rate = h.learning_rate * jnp.minimum((k + 1) / jnp.maximum(h.warmup_steps, 1), 1)
    max_rate = jnp.maximum(s.max_rate.astype(k.dtype), rate)
    weight = (k + 1) ** h.r * max_rate**h.weight_lr_power
    weight_sum = s.weight_sum.astype(k.dtype) + weight
    return {"rate": rate, "share": quotient(weight, weight_sum), "weight_sum": weight_sum, "max_rate": max_rate}


def averaging(
    learning_rate: HyperLike, warmup_steps: HyperLike, b1: HyperLike, weight_lr_power: HyperLike, **others: HyperLike
) -> list[Hyper]:
    """The hyper-parameters of the mean, and others that are not negative."""
    return [
        interval("learning_rate", learning_rate, 0),
        interval("warmup_steps", warmup_steps, 0),
        interval("b1", b1, 0, 1, closed=True),
        interval("weight_lr_power", weight_lr_power, 0),
        *[interval(name, value, 0) for name, value in others.items()],
    ]


def averaged(rule: Any, hypers: list[Hyper], without: Sequence[str] = ("nu", "log_b2"), **more: Any) -> Transformation:
    """The transformation of a rule that ends in `schedule_free_rule`."""
    starts = {"x": PARAMETER, "z": PARAMETER}
    declared: dict[str, Any] = {"initial": starts, "without": without, "shared": shares, "needs_params": True}
    return from_rule(rule, ScheduleFreeState, hypers, **declared, **more)


def schedule_free_sgd(
    learning_rate: HyperLike,
    warmup_steps: HyperLike = 0,
    b1: HyperLike = 0.9,
    weight_decay: HyperLike = 0.0,
    weight_lr_power: HyperLike = 2.0,
    *,
    r: HyperLike = 0.0,
) -> Transformation:
    """Schedule-Free SGD: `z <- z - eta (g + weight_decay y); x <- (1-c) x + c z; y <- b1 x + (1-b1) z`.

    The parameters that are stepped are y; evaluate, save and publish `jol.eval_params(state, params)`, which is x. It
    goes last in a chain, for what changes its updates is undone by the next.

    Args:
      learning_rate: eta, in parameter units per gradient unit; >= 0. No schedule is needed; the authors' is 1.0, ten
        times and more what SGD with momentum takes.
      warmup_steps: the rate of step k, from 0, is eta (k+1) / warmup_steps until it is eta; >= 0.
      b1: share of x in the point where the gradient is taken, in [0, 1]; 0.95 and 0.98 for long runs.
      weight_decay: share of y taken from z per unit of rate; >= 0.
      weight_lr_power: a step counts in the mean by the largest rate so far to this power; >= 0.
      r: a step counts in the mean by (k+1)^r besides; >= 0. 0: all alike.

    Raises:
      ValueError: a number outside its range; or `update` is not given the parameters.
    """
    hypers = averaging(learning_rate, warmup_steps, b1, weight_lr_power, r=r, weight_decay=weight_decay)
    return averaged(schedule_free_sgd_rule, hypers)


def schedule_free_adamw(
    learning_rate: HyperLike,
    warmup_steps: HyperLike = 0,
    b1: HyperLike = 0.9,
    b2: HyperLike = 0.999,
    eps: HyperLike = 1e-8,
    weight_decay: HyperLike = 0.0,
    weight_lr_power: HyperLike = 2.0,
    *,
    r: HyperLike = 0.0,
) -> Transformation:
    """Schedule-Free AdamW: as `schedule_free_sgd`, of `g / (sqrt(v_hat) + eps)` in place of g.

    Args:
      learning_rate: eta, step length in parameter units; >= 0. No schedule is needed; the authors' is 0.0025.
      warmup_steps: as in `schedule_free_sgd`.
      b1: share of x in the point where the gradient is taken, in [0, 1]; it is no decay of a first moment.
      b2: decay of the mean of the squared gradient, in [0, 1).
      eps: added to the root, in gradient units; >= 0.
      weight_decay: as in `schedule_free_sgd`.
      weight_lr_power: as in `schedule_free_sgd`.
      r: as in `schedule_free_sgd`.

    Raises:
      ValueError: a number outside its range; or `update` is not given the parameters.
    """
    hypers = averaging(learning_rate, warmup_steps, b1, weight_lr_power, r=r, weight_decay=weight_decay, eps=eps)
    hypers += [interval("b2", b2, 0, 1)]
    return averaged(schedule_free_adamw_rule, hypers, without=(), decays=("b2",), powers=2)


def _around(base: Any, learning_rate: Any, b1: Any, weight_lr_power: Any) -> optax.GradientTransformation:
    """optax's, which asks for the rate of a weight one count later than for that of its step."""
    rate = (lambda count: learning_rate(count - 1)) if callable(learning_rate) else learning_rate
    return optax.contrib.schedule_free(base, rate, b1, weight_lr_power)


def _twin_sgd(learning_rate: Any, b1: Any = 0.9, weight_decay: Any = 0.0, weight_lr_power: Any = 2.0) -> Any:
    base = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate))
    return _around(base, learning_rate, b1, weight_lr_power)


def _twin_adamw(
    learning_rate: Any,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    weight_lr_power: Any = 2.0,
) -> Any:
    base = optax.adamw(learning_rate, 0.0, b2, eps, weight_decay=weight_decay)
    return _around(base, learning_rate, b1, weight_lr_power)


_MEAN = "x <- (1 - c) x + c z,  c = w_k / (w_0 + ... + w_k),  w_k = max(eta_0 ... eta_k)^2\ny <- b1 x + (1 - b1) z"
_MEAN_LATEX = (
    r"x &\leftarrow (1 - c_k)\, x + c_k z, \quad c_k = \frac{w_k}{w_0 + \dots + w_k},"
    r" \quad w_k = \max(\eta_0, \dots, \eta_k)^2 \\ y &\leftarrow \beta_1 x + (1 - \beta_1) z \end{aligned}"
)
_SOURCE = "A. Defazio et al., The road less scheduled, NeurIPS 2024, arXiv:2405.15682, "
_DIFFERS = (
    "optax takes the weight of a step from the rate of the next one; the authors' package and this do not. Without "
    "warm-up or schedule all three agree.",
    "optax keeps z alone and makes x from y and z, which bfloat16 parameters do not survive; torch has none.",
)
_SPACE = {"b1": Range(0.8, 0.98, "linear")}
_OFF_NEUTRAL = {"warmup_steps": 5, "b1": 0.8, "weight_decay": 0.1, "weight_lr_power": 1.5, "r": 0.5}
_TAGS = ("first order", "averaging")

CARDS = (
    Card(
        name="schedule_free_sgd",
        factory=schedule_free_sgd,
        summary="gradient steps and the mean of where they led, without a schedule",
        plain="z <- z - eta_k (g(y) + lambda y)\n" + _MEAN,
        latex=r"\begin{aligned} z &\leftarrow z - \eta_k (\nabla f(y) + \lambda y) \\" + _MEAN_LATEX,
        source=_SOURCE + "equations 2-4",
        differs=_DIFFERS,
        twin=Twin(
            "optax.contrib.schedule_free_sgd(learning_rate, b1=b1, weight_decay=weight_decay, "
            "weight_lr_power=weight_lr_power)",
            _twin_sgd,
        ),
        learning_rate=0.5,
        space={"learning_rate": Range(1e-3, 10.0), **_SPACE},
        off_neutral=_OFF_NEUTRAL,
        tags=_TAGS,
    ),
    Card(
        name="schedule_free_adamw",
        factory=schedule_free_adamw,
        summary="Adam's steps without momentum and the mean of where they led, without a schedule",
        plain="v_k = b2 v_{k-1} + (1 - b2) g(y)^2\n"
        "z <- z - eta_k (g(y) / (sqrt(v_k / (1 - b2^{k+1})) + eps) + lambda y)\n" + _MEAN,
        latex=r"\begin{aligned} v_k &= \beta_2 v_{k-1} + (1-\beta_2) g_k^2, \quad g_k = \nabla f(y) \\ z &\leftarrow"
        r" z - \eta_k \left( \frac{g_k}{\sqrt{v_k / (1 - \beta_2^{k+1})} + \epsilon} + \lambda y \right) \\"
        + _MEAN_LATEX,
        source=_SOURCE + "algorithm 1",
        differs=(
            *_DIFFERS,
            "Algorithm 1 multiplies the rate by the root of 1 - b2^t, which then is in the weights too; the authors' "
            "package, optax and this divide v by 1 - b2^t.",
        ),
        twin=Twin(
            "optax.contrib.schedule_free_adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, "
            "weight_lr_power=weight_lr_power)",
            _twin_adamw,
        ),
        learning_rate=5e-3,
        space={"learning_rate": Range(1e-5, 1e-1), **_SPACE, "b2": Range(0.9, 0.9999, "linear")},
        off_neutral=_OFF_NEUTRAL | {"b2": 0.95, "eps": 0.05},
        tags=("adaptive", *_TAGS),
    ),
)

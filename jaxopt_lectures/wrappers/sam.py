"""Sharpness-aware minimization: the gradient of a step is taken a little uphill, where narrow valleys are steep.

Sources: P. Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021,
arXiv:2010.01412, algorithm 1; J. Kwon et al., "ASAM", ICML 2021, arXiv:2102.11600, equation 7 (adaptive).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.card import Card, Range
from jaxopt_lectures.core.checks import HyperLike, Number, interval
from jaxopt_lectures.core.numbers import arithmetic_dtype, finite, quotient, scaled_norm
from jaxopt_lectures.core.transformation import Transformation, check_transformation, gradient_point
from jaxopt_lectures.optimizers import momentum as velocity


def uphill(params: Any, gradients: Any, rho: Number, adaptive: bool = False) -> Any:
    """`w + rho g / |g|`, the norm over all parameters; adaptive: `w + rho w^2 g / |w g|`, whatever the weights' scale.

    w where g is 0 everywhere.
    """
    leaves, treedef = jax.tree.flatten(params)
    pairs = [(p, g) for p, g in zip(map(jnp.asarray, leaves), jax.tree.leaves(gradients), strict=True)]
    wide = [arithmetic_dtype(p.dtype, g.dtype) for p, g in pairs]
    scales = [jnp.abs(p.astype(d)) if adaptive else jnp.ones((), d) for (p, _), d in zip(pairs, wide, strict=True)]
    slopes = [finite(s * g.astype(d)) for s, (_, g), d in zip(scales, pairs, wide, strict=True)]
    unit, size = scaled_norm(slopes)

    def one(p: Any, scale: Any, slope: Any) -> Any:
        way = quotient(slope / unit.astype(slope.dtype), size.astype(slope.dtype))
        return (p.astype(slope.dtype) + jnp.asarray(rho, slope.dtype) * scale * way).astype(p.dtype)

    return treedef.unflatten([one(p, s, v) for (p, _), s, v in zip(pairs, scales, slopes, strict=True)])


def sam(tx: optax.GradientTransformation, rho: Number = 0.05, adaptive: bool = False) -> Transformation:
    """Gives `tx` the gradient at `w + rho g / |g|` instead of g, the one at w: SAM, and with `adaptive` ASAM.

    One `update` is one step, at twice the price: the second gradient is taken inside, of the extra argument `value_fn`,
    a function of the parameters whose value is the loss on the batch of g, `tx.update(g, state, w, value_fn=loss)`.
    `jol.fit`, `jol.make_step` and sweeps pass it. The state is that of `tx`.

    Where a batch comes in pieces, SAM goes around: `sam(accumulate(tx, every))` climbs on each piece by itself, which
    the paper calls m-sharpness. Inside `by_path`, a part climbs by its own parameters and the norm of their gradients.

    bfloat16 parameters round most of `rho g / |g|` away: keep them in float32 and compute in bfloat16.

    Args:
      tx: the transformation, ours or optax's.
      rho: how far uphill, in parameter units (adaptive: relative to each weight); >= 0, a number, traced or not. The
        papers' choices are 0.05, and 0.5 to 2 for `adaptive`.
      adaptive: scales both by the weights' sizes; ASAM with eta = 0, so that weights at 0 stay there on the way up.

    Raises:
      TypeError: `tx` is not a transformation, `rho` not a number.
      ValueError: `rho` below 0; from `update`, the parameters or `value_fn` are missing.
    """
    check_transformation(tx, "sam's argument")
    if callable(rho):
        raise TypeError(
            f"rho must be a number or a scalar array, got {rho!r}: sam keeps no count to ask a schedule with"
        )
    hypers = {**getattr(tx, "hypers", {}), "rho": interval("rho", rho, 0)}
    inner = optax.with_extra_args_support(tx)

    def update(
        updates: Any, state: Any, params: Any = None, *, value_fn: Callable[[Any], Any] | None = None, **extra: Any
    ) -> Any:
        if params is None:
            raise ValueError("sam reads the parameters: call update(gradients, state, params, value_fn=loss)")
        if value_fn is None:
            raise ValueError(
                "sam takes a second gradient: call update(gradients, state, params, value_fn=loss), where loss(params) "
                "is the value on the same batch"
            )
        point = uphill(gradient_point(state, params), updates, rho, adaptive)
        second = jax.tree.map(lambda s, g: s.astype(g.dtype), jax.grad(value_fn)(point), updates)
        return inner.update(second, state, params, value_fn=value_fn, **extra)

    again = functools.partial(sam, rho=rho, adaptive=adaptive)
    return Transformation(inner.init, update, parts=(tx,), again=again, hypers=hypers, title="sam")


def sam_sgd(
    learning_rate: HyperLike, momentum: HyperLike = 0.9, rho: Number = 0.05, *, adaptive: bool = False
) -> Transformation:
    """SAM as its paper runs it: `v = momentum v + grad(w + rho g / |g|); w <- w - eta v`.

    `update` needs `value_fn`, see `sam`.

    Args:
      learning_rate: eta, in parameter units per gradient unit; >= 0.
      momentum: share of the velocity kept each step, in [0, 1); the rate stands outside of it.
      rho: how far uphill the gradient is taken, in parameter units; >= 0. No schedule.
      adaptive: ASAM.

    Raises:
      ValueError: a number outside its range; from `update`, the parameters or `value_fn` are missing.
    """
    return sam(velocity.momentum(learning_rate, momentum, learning_rate_inside=False), rho, adaptive)


CARDS = (
    Card(
        name="sam_sgd",
        factory=sam_sgd,
        summary="momentum with the gradient taken uphill of the weights, away from narrow valleys",
        plain="e = rho grad(w) / |grad(w)|\nv <- m v + grad(w + e)\nw <- w - eta v",
        latex=r"\begin{aligned} \epsilon &= \rho \frac{\nabla f(w)}{\lVert \nabla f(w) \rVert} \\"
        r" v &\leftarrow \mu v + \nabla f(w + \epsilon), \quad w \leftarrow w - \eta v \end{aligned}",
        source="P. Foret et al., ICLR 2021, arXiv:2010.01412, algorithm 1",
        differs=(
            "update needs value_fn: a step is two gradients.",
            "optax.contrib.sam takes two updates a step, or runs a loop inside one, and keeps a copy of the weights; "
            "torch has none.",
        ),
        learning_rate=0.05,
        space={
            "learning_rate": Range(1e-4, 1.0),
            "momentum": Range(0.5, 0.99, "linear"),
            "rho": Range(0.005, 0.5),
        },
        off_neutral={"momentum": 0.8, "rho": 0.1},
        tags=("first order",),
        code=(uphill,),
    ),
)

"""SOAP: Adam in the eigenbasis of Shampoo's factors, which moves slowly.

Source: N. Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam", ICLR 2025, arXiv:2409.11321, algorithm 3,
and the authors' code, which takes no step at the first gradient: that gives the first bases.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.card import Card, Range
from jaxopt_lectures.core.checks import HyperLike, interval, sizes, whole
from jaxopt_lectures.core.numbers import quotient, root, weight
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import Factors, NonNegative, NonNegativeScalar, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.linalg.bases import eigenbasis, followed, guarded, sometimes
from jaxopt_lectures.linalg.factors import Sides, averaged, first_sides, turned
from jaxopt_lectures.linalg.matrices import Matrix, chosen


class SoapState(NamedTuple):
    """Adam's means in the eigenbases, and the bases.

    Attributes:
      count: steps, () int32.
      mu: running mean of the turned gradient.
      nu: running mean of its square.
      factors: running means of G G^T and G^T G of each matrix, None for a side that is too long.
      bases: their eigenvectors as columns, as they are followed.
      failures: how often new bases were not finite, and the old ones kept; one number for each parameter.
      log_b1: mean logarithm of the decay b1.
      log_b2: mean logarithm of the decay b2.
    """

    count: jax.Array
    mu: Signed
    nu: NonNegative
    factors: Factors
    bases: Factors
    failures: NonNegativeScalar
    log_b1: Shared
    log_b2: Shared


def soap_rule(g: Any, s: Any, p: Any, h: Any, t: Any, *, matrix: Matrix | None, frequency: int) -> Any:
    """One step for one array; `s.b1_weight` is 1 - b1^{t-1}, as the first gradient gives nothing but the bases."""
    see, back = (matrix.of, matrix.back) if matrix else (_same, _same)
    gradient, old, bases = see(g), {"mu": see(s.mu), "nu": see(s.nu)}, s.bases or {}
    rotated = turned(gradient, bases)  # G' = Q_L^T G Q_R
    mu = h.b1 * old["mu"] + (1 - h.b1) * rotated
    nu = h.b2 * old["nu"] + (1 - h.b2) * rotated * rotated
    rate = jnp.where(t > 1, h.learning_rate, 0)
    adam = quotient(mu, root(nu) + h.eps) * jnp.sqrt(s.b2_weight) / s.b1_weight
    update = -rate * back(turned(adam, bases, back=True))  # w <- w - eta Q_L (m / (sqrt(v) + eps)) Q_R^T
    if p.ndim == g.ndim:  # a parameter that a mask spares is given as the number 0
        update = update - rate * h.weight_decay * (p + update)  # w <- (1 - eta lambda) w
    new = {"mu": jnp.where(t > 1, mu, old["mu"]), "nu": jnp.where(t > 1, nu, old["nu"])}
    factors, failures = s.factors, s.failures
    if bases:
        factors = averaged(s.factors, gradient, h.b2, 1 - h.b2)
        (new, bases), failed = _followed(factors, new, dict(bases), t, frequency)
        failures = failures + failed
    slots = {"mu": back(new["mu"]), "nu": back(new["nu"]), "factors": factors}
    return update, slots | {"bases": bases or None, "failures": failures}


def _followed(factors: Sides, means: Any, old: Any, t: Any, frequency: int) -> Any:
    """Means and bases, new at the first step and then every `frequency`; and 1 if they were not finite."""

    def first() -> Any:
        new = {side: eigenbasis(factor) for side, factor in factors.items()}
        return guarded((means, new), (means, old), new)

    def later() -> Any:
        new, nu = {}, means["nu"]
        for side, factor in factors.items():
            new[side], order = followed(factor, old[side])
            index, axis = (order[..., None], -2) if side == "left" else (order[..., None, :], -1)
            nu = jnp.take_along_axis(nu, index, axis)
        mu = turned(turned(means["mu"], old, back=True), new)
        return guarded(({"mu": mu, "nu": nu}, new), (means, old), new)

    now = (t - 1) % frequency == 0
    return sometimes(now, lambda: jax.lax.cond(t == 1, first, later), (means, old))


def _same(x: Any) -> Any:
    return x


def _weights(gradients: Any, s: SimpleNamespace, h: SimpleNamespace) -> dict[str, Any]:
    """The weights that the means have seen since the second gradient."""
    del gradients
    seen = jnp.maximum(s.count, 1).astype(h.b1.dtype)
    found = {}
    for name in ("b1", "b2"):
        log, found[f"{name}_weight"] = weight(getattr(h, name), getattr(s, f"log_{name}").astype(seen.dtype), seen)
        found[f"log_{name}"] = jnp.where(s.count > 0, log, 0)
    return found


def soap(
    learning_rate: HyperLike,
    b1: HyperLike = 0.95,
    b2: HyperLike = 0.95,
    eps: HyperLike = 1e-8,
    weight_decay: HyperLike = 0.0,
    mask: Any = None,
    mu_dtype: Any = None,
    *,
    precondition_frequency: int = 10,
    max_precond_dim: int | None = 10_000,
    block_size: int | None = None,
    matrices: Mapping[str, str | None] | None = None,
) -> Transformation:
    """SOAP: `w <- w - eta Q_L (m / (sqrt(v) + eps)) Q_R^T`, Adam on `G' = Q_L^T G Q_R`.

    Q_L and Q_R are the eigenvectors of the running means of G G^T and G^T G, found by one eigendecomposition at the
    first gradient, at which no step is taken, and followed by one QR each `precondition_frequency` steps. Vectors are
    Adam's. Bases that do not come out finite are not taken: the old ones stay, `failures` in the state counts them.

    Args:
      learning_rate: eta, step length in parameter units; >= 0.
      b1: decay of the mean of the gradient, in [0, 1).
      b2: decay of the mean of its square and of the factors, in [0, 1).
      eps: added to the root, in gradient units; >= 0.
      weight_decay: share of each weight taken away per unit of learning rate, after the step; >= 0.
      mask: tree of bools, or a function of the parameters that gives one: which weights decay.
      mu_dtype: dtype in which `mu` is kept; float32 (float64 for float64 parameters) if None.
      precondition_frequency: steps between two QR decompositions; >= 1.
      max_precond_dim: a side that is longer has no factor; None: all have.
      block_size: matrices are cut into blocks of at most that many rows and columns, if those divide them.
      matrices: a letter for each axis by regular expression of the path, as in `muon`; embeddings are matrices here.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range.
    """
    whole("precondition_frequency", precondition_frequency, 1)
    sizes(max_precond_dim=max_precond_dim, block_size=block_size)
    layout = chosen(matrices, block_size)
    return from_rule(
        soap_rule,
        SoapState,
        [
            interval("learning_rate", learning_rate, 0),
            interval("b1", b1, 0, 1),
            interval("b2", b2, 0, 1),
            interval("eps", eps, 0),
            interval("weight_decay", weight_decay, 0),
        ],
        options={"frequency": precondition_frequency},
        initial={
            "factors": first_sides(max_precond_dim, lambda n, dtype: jnp.zeros((n, n), dtype)),
            "bases": first_sides(max_precond_dim, lambda n, dtype: jnp.eye(n, dtype=dtype)),
        },
        dtypes={"mu": mu_dtype},
        shared=_weights,
        couples="matrix",
        powers=2,
        needs_params=True,
        params_mask=mask,
        layout=layout,
        treatment=layout.told("soap", "adam"),
    )


CARDS = (
    Card(
        name="soap",
        factory=soap,
        summary="Adam in the eigenbasis of Shampoo's factors",
        plain="L = mean of G G^T,  R = mean of G^T G;  every 10 steps  Q_L = qr(L Q_L),  Q_R = qr(R Q_R)\n"
        "G' = Q_L^T G Q_R;  m = b1 m + (1 - b1) G',  v = b2 v + (1 - b2) G'^2\n"
        "w <- w - eta sqrt(1 - b2^t) / (1 - b1^t) Q_L (m / (sqrt(v) + eps)) Q_R^T",
        latex=r"\begin{aligned} G' &= Q_L^T G Q_R, \quad Q_L = \operatorname{eig} \overline{G G^T},"
        r" \quad Q_R = \operatorname{eig} \overline{G^T G} \\"
        r" w &\leftarrow w - \eta\, Q_L\, \frac{\hat m'}{\sqrt{\hat v'} + \epsilon}\, Q_R^T \end{aligned}",
        source="N. Vyas et al., ICLR 2025, arXiv:2409.11321, algorithm 3",
        differs=("Neither optax nor torch has it; the authors' code decays by 0.01 unless told otherwise, this by 0.",),
        learning_rate=3e-3,
        space={
            "learning_rate": Range(1e-4, 1e-1),
            "b1": Range(0.8, 0.98, "linear"),
            "b2": Range(0.8, 0.99, "linear"),
            "weight_decay": Range(1e-5, 1.0),
        },
        off_neutral={"b1": 0.8, "b2": 0.9, "eps": 0.05, "weight_decay": 0.1},
        tags=("first order", "adaptive", "matrix"),
    ),
)

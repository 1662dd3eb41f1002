"""Shampoo: the gradient between the inverse roots of its factors, with steps as long as Adam's.

Sources: V. Gupta, T. Koren, Y. Singer, "Shampoo: preconditioned stochastic tensor optimization", ICML 2018,
arXiv:1802.09568, algorithm 1; R. Anil et al., arXiv:2002.09018 (grafting: the direction of one method, the length of
another); H.-J. M. Shi et al., "A distributed data-parallel PyTorch implementation of the distributed Shampoo
optimizer", arXiv:2309.06497, algorithm 2 (running means, bias corrections, blocks).
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.card import Card, Range
from jaxopt_lectures.core.checks import HyperLike, interval, sizes, whole
from jaxopt_lectures.core.numbers import quotient, root
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import Factors, NonNegative, NonNegativeScalar, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.linalg.bases import guarded, sometimes
from jaxopt_lectures.linalg.factors import Sides, averaged, first_sides, turned
from jaxopt_lectures.linalg.matrices import Matrix, chosen
from jaxopt_lectures.linalg.orthogonal import frobenius
from jaxopt_lectures.linalg.roots import METHODS, inverse_root

_TINY = 1e-16  # added to the length that is divided by


class ShampooState(NamedTuple):
    """Running means, the factors, and their inverse roots.

    Attributes:
      count: steps, () int32.
      mu: running mean of the gradient.
      nu: running mean of its square, for the length of the step.
      factors: running means, or sums, of G G^T and G^T G of each matrix; None for a side that is too long.
      roots: their inverse roots, as they were last computed.
      failures: how often new roots were not finite, and the old ones kept; one number for each parameter.
      log_b1: mean logarithm of the decay b1.
      log_b2: mean logarithm of the decay b2.
      log_graft_b2: mean logarithm of the decay graft_b2.
    """

    count: jax.Array
    mu: Signed
    nu: NonNegative
    factors: Factors
    roots: Factors
    failures: NonNegativeScalar
    log_b1: Shared
    log_b2: Shared
    log_graft_b2: Shared


def shampoo_rule(
    g: Any, s: Any, p: Any, h: Any, t: Any, *, matrix: Matrix | Any, frequency: int, method: str, graft: bool
) -> Any:
    """One step for one array; vectors take the step whose length matrices take, Adam's."""
    mu = h.b1 * s.mu + (1 - h.b1) * g
    nu = h.graft_b2 * s.nu + (1 - h.graft_b2) * g * g
    mu_hat = mu / h.b1_weight
    adam = quotient(mu_hat, root(nu / h.graft_b2_weight) + h.graft_eps)
    step, factors, roots, failures = adam, s.factors, s.roots, s.failures
    if factors:
        newest = jnp.where(h.b2 == 1, 1, 1 - h.b2)  # with b2 = 1 a sum, as in the paper
        factors = averaged(s.factors, matrix.of(g), h.b2, newest)
        weight = jnp.where(h.b2 == 1, 1, h.b2_weight)
        roots, failed = _rooted(factors, s.roots, weight, h.eps, t, frequency, method)
        failures = s.failures + failed
        step = turned(matrix.of(mu_hat), roots)  # L^(-1/4) M R^(-1/4)
        if graft:
            step = step * (frobenius(matrix.of(adam)) / (frobenius(step) + _TINY))
        step = matrix.back(step)
    update = -h.learning_rate * (step + h.weight_decay * p)
    return update, {"mu": mu, "nu": nu, "factors": factors, "roots": roots, "failures": failures}


def _rooted(factors: Sides, old: Any, weight: Any, eps: Any, t: Any, frequency: int, method: str) -> Any:
    """The inverse roots, anew at the first step and then every `frequency`; and 1 if they were not finite."""

    def anew() -> Any:
        order = 2 * len(factors)
        new = {side: inverse_root(factor / weight, order, eps, method) for side, factor in factors.items()}
        new = jax.lax.stop_gradient(new)
        return guarded(new, dict(old), new)

    return anew() if frequency == 1 else sometimes((t - 1) % frequency == 0, anew, dict(old))


def shampoo(
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    b2: HyperLike = 0.999,
    eps: HyperLike = 1e-12,
    weight_decay: HyperLike = 0.0,
    mask: Any = None,
    mu_dtype: Any = None,
    *,
    graft: bool = True,
    graft_b2: HyperLike = 0.999,
    graft_eps: HyperLike = 1e-8,
    precondition_frequency: int = 1,
    root_method: Literal["eigh", "newton"] = "eigh",
    max_precond_dim: int | None = 10_000,
    block_size: int | None = 1024,
    matrices: Mapping[str, str | None] | None = None,
) -> Transformation:
    """Shampoo: `w <- w - eta L^(-1/4) M R^(-1/4)`, each block with the length of Adam's step.

    L and R are running means (sums, if b2 is 1) of G G^T and G^T G. A matrix that has a factor on one side only takes
    its root of order 2. Vectors are Adam's. Roots that do not come out finite are not taken: the old ones stay, and
    `failures` in the state counts them.

    Args:
      learning_rate: eta, step length in parameter units (without grafting in units of the preconditioned gradient).
      b1: decay of the mean of the gradient, in [0, 1).
      b2: decay of the factors, in [0, 1]; 1 adds them up.
      eps: added to the eigenvalues of the factors, in squared gradient units; >= 0.
      weight_decay: share of each weight taken away per unit of learning rate; >= 0.
      mask: tree of bools, or a function of the parameters that gives one: which weights decay.
      mu_dtype: dtype in which `mu` is kept; float32 (float64 for float64 parameters) if None.
      graft: whether each block's step is as long as Adam's would be.
      graft_b2: decay of the mean of the squared gradient, Adam's, in [0, 1).
      graft_eps: added to its root, in gradient units; >= 0.
      precondition_frequency: steps between two computations of the roots; >= 1.
      root_method: "eigh", or "newton", products only (see `linalg/roots.py`).
      max_precond_dim: a side that is longer, after cutting, has no factor; None: all have.
      block_size: matrices are cut into blocks of at most that many rows and columns, if those divide them.
      matrices: a letter for each axis by regular expression of the path, as in `muon`; embeddings are matrices here.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range.
    """
    if root_method not in METHODS:
        raise ValueError(f"root_method must be one of {', '.join(map(repr, METHODS))}, got {root_method!r}")
    whole("precondition_frequency", precondition_frequency, 1)
    sizes(max_precond_dim=max_precond_dim, block_size=block_size)
    layout = chosen(matrices, block_size)
    return from_rule(
        shampoo_rule,
        ShampooState,
        [
            interval("learning_rate", learning_rate, 0),
            interval("b1", b1, 0, 1),
            interval("b2", b2, 0, 1, closed=True),
            interval("eps", eps, 0),
            interval("weight_decay", weight_decay, 0),
            interval("graft_b2", graft_b2, 0, 1),
            interval("graft_eps", graft_eps, 0),
        ],
        options={"frequency": precondition_frequency, "method": root_method, "graft": graft},
        initial={
            "factors": first_sides(max_precond_dim, lambda n, dtype: jnp.zeros((n, n), dtype)),
            "roots": first_sides(max_precond_dim, lambda n, dtype: jnp.eye(n, dtype=dtype)),
        },
        dtypes={"mu": mu_dtype},
        decays=("b1", "b2", "graft_b2"),
        couples="matrix",
        powers=2,
        needs_params=True,
        params_mask=mask,
        layout=layout,
        treatment=layout.told("shampoo", "adam"),
    )


CARDS = (
    Card(
        name="shampoo",
        factory=shampoo,
        summary="the gradient between the inverse roots of its factors, steps as long as Adam's",
        plain="L = mean of G G^T,  R = mean of G^T G,  M = mean of G\n"
        "P = L^(-1/4) M R^(-1/4)\n"
        "w <- w - eta P |adam| / |P|",
        latex=r"\begin{aligned} L &= \overline{G G^T}, \quad R = \overline{G^T G}, \quad"
        r" P = L^{-1/4}\, \hat M\, R^{-1/4} \\"
        r" w &\leftarrow w - \eta\, \frac{\|A\|}{\|P\|} P, \quad"
        r" A = \hat M / (\sqrt{\hat v} + \epsilon) \end{aligned}",
        source="V. Gupta, T. Koren, Y. Singer, ICML 2018, arXiv:1802.09568, algorithm 1; H.-J. M. Shi et al., "
        "arXiv:2309.06497, algorithm 2",
        differs=(
            "Neither optax nor torch has it. The paper adds the factors up (b2=1) and does not graft (graft=False).",
        ),
        learning_rate=3e-3,
        space={
            "learning_rate": Range(1e-4, 1e-1),
            "b1": Range(0.8, 0.98, "linear"),
            "b2": Range(0.9, 0.999, "linear"),
            "weight_decay": Range(1e-5, 1.0),
        },
        off_neutral={"b1": 0.8, "b2": 0.9, "eps": 0.01, "weight_decay": 0.1, "graft_b2": 0.95, "graft_eps": 0.05},
        tags=("first order", "adaptive", "matrix"),
    ),
)

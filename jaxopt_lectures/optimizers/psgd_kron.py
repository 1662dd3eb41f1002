"""PSGD Kron: a preconditioner of two triangular factors, fitted to whiten the gradient with random probes.

Sources: X.-L. Li, "Preconditioned stochastic gradient descent", IEEE TNNLS 29, 2018, arXiv:1512.04202; O. Pooladzandi,
X.-L. Li, "Curvature-informed SGD via general purpose Lie-group preconditioners", arXiv:2402.04553 (the fit, its
normalised step); constants as in E. Walters' public implementation for JAX.
"""

import functools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.card import Card, Range
from jaxopt_lectures.core.checks import HyperLike, check_key, interval, sizes, whole
from jaxopt_lectures.core.first import Begin
from jaxopt_lectures.core.numbers import root
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import Factors, NonNegativeScalar, Shared, Signed
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.linalg.bases import guarded, sometimes
from jaxopt_lectures.linalg.factors import Sides, on_sides
from jaxopt_lectures.linalg.matrices import Matrix, chosen
from jaxopt_lectures.linalg.whitening import applied, balanced, fitted

_LARGEST_RMS = 1.1  # of a preconditioned gradient, which is white: 1


class PsgdState(NamedTuple):
    """Momentum and the factors.

    Attributes:
      count: steps, () int32.
      mu: running mean of the gradient.
      factors: Q_1 and Q_2, upper triangular, or the diagonal as a column where a side is too long; for a vector Q_1.
      failures: how often new factors were not finite, and the old ones kept; one number for each parameter.
      log_b1: mean logarithm of the decay b1.
    """

    count: jax.Array
    mu: Signed
    factors: Factors
    failures: NonNegativeScalar
    log_b1: Shared


def psgd_kron_rule(g: Any, s: Any, p: Any, h: Any, t: Any, *, matrix: Matrix | None) -> Any:
    """One step for one array; a vector is a matrix of one row, whose factor is diagonal."""
    del t
    see, back = (matrix.of, matrix.back) if matrix else (lambda x: x.reshape(-1, 1), lambda x: x.reshape(g.shape))
    mu = h.b1 * s.mu + (1 - h.b1) * g
    mu_hat = see(mu / h.b1_weight)
    probe = jax.random.normal(h.key, mu_hat.shape, jnp.float32).astype(mu_hat.dtype)

    def fit() -> Any:
        new = jax.lax.stop_gradient(fitted(old, mu_hat, probe, h.preconditioner_lr))
        new = balanced(new, s.balance > 0)
        return guarded(new, old, new)

    old = dict(s.factors)
    factors, failed = sometimes(s.now > 0, fit, old)
    white = applied(factors, applied(factors, mu_hat), transposed=True)  # Q_1^T Q_1 M Q_2^T Q_2
    rms = root(jnp.mean(white * white, axis=(-2, -1), keepdims=True))
    step = back(white / jnp.maximum(1, rms / _LARGEST_RMS))
    update = -h.learning_rate * (step + h.weight_decay * p)
    return update, {"mu": mu, "factors": factors, "failures": s.failures + failed}


def first_factors(matrix: Matrix | None, p: Any, longest: int) -> Sides:
    """The identity for each side; a column of ones for a side that is too long, and for a vector."""
    if matrix is None:
        return {"left": jnp.ones((p.size, 1), p.dtype)}
    return on_sides(matrix, lambda n: jnp.eye(n, dtype=p.dtype) if n <= longest else jnp.ones((n, 1), p.dtype))


def when(count: Any) -> Any:
    """The probability of a fit at a step: 1 for 500 steps, then falling, in 3500 more, to 0.03."""
    return jnp.maximum(0.03, jnp.minimum(1, jnp.exp(-0.001 * (count.astype(jnp.float32) - 500))))


def _turns(key: jax.Array, gradients: Any, s: SimpleNamespace, h: SimpleNamespace) -> dict[str, Any]:
    """Whether the factors are fitted at this step, and whether they are balanced then."""
    del gradients, h
    now, balance = jax.random.uniform(jax.random.fold_in(key, s.count), (2,), jnp.float32)
    return {"now": now < when(s.count), "balance": balance < 0.01}


def psgd_kron(
    learning_rate: HyperLike,
    b1: HyperLike = 0.9,
    weight_decay: HyperLike = 0.0,
    mask: Any = None,
    mu_dtype: Any = None,
    *,
    preconditioner_lr: HyperLike = 0.1,
    max_size_triangular: int = 8192,
    block_size: int | None = None,
    matrices: Mapping[str, str | None] | None = None,
    key: jax.Array | None = None,
) -> Transformation:
    """PSGD Kron: `w <- w - eta Q_1^T Q_1 M Q_2^T Q_2`, with Q_1 and Q_2 such that the steps are white.

    The factors are fitted to the momentum and to random probes, at every step for 500 steps, later at fewer, at last at
    3 of 100. No decomposition is needed, only triangular solves. The root mean square of a step is at most 1.1 eta.
    Factors that do not come out finite are not taken: the old ones stay, and `failures` in the state counts them.

    Args:
      learning_rate: eta, step length in parameter units; >= 0.
      b1: decay of the mean of the gradient, in [0, 1).
      weight_decay: share of each weight taken away per unit of learning rate; >= 0.
      mask: tree of bools, or a function of the parameters that gives one: which weights decay.
      mu_dtype: dtype in which `mu` is kept; float32 (float64 for float64 parameters) if None.
      preconditioner_lr: step of the fit, a share of each factor; >= 0.
      max_size_triangular: a side that is longer has a diagonal factor, as vectors have.
      block_size: matrices are cut into blocks of at most that many rows and columns, if those divide them.
      matrices: a letter for each axis by regular expression of the path, as in `muon`; embeddings are matrices here.
      key: of the probes, which depend on it, the step and the parameter only; that of seed 0 if None.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range.
    """
    whole("max_size_triangular", max_size_triangular, 1)
    sizes(block_size=block_size)
    check_key(key)
    key = jax.random.key(0) if key is None else key
    layout = chosen(matrices, block_size)
    return from_rule(
        psgd_kron_rule,
        PsgdState,
        [
            interval("learning_rate", learning_rate, 0),
            interval("b1", b1, 0, 1),
            interval("weight_decay", weight_decay, 0),
            interval("preconditioner_lr", preconditioner_lr, 0),
        ],
        initial={"factors": Begin(lambda p, matrix: first_factors(matrix, p, max_size_triangular))},
        dtypes={"mu": mu_dtype},
        decays=("b1",),
        shared=functools.partial(_turns, key),
        couples="matrix",
        powers=2,
        needs_params=True,
        params_mask=mask,
        layout=layout,
        treatment=layout.told("psgd_kron", "psgd_kron, diagonal"),
        key=key,
    )


CARDS = (
    Card(
        name="psgd_kron",
        factory=psgd_kron,
        summary="two triangular factors, fitted so that steps are white",
        plain="A = Q_1 G Q_2^T,  B = Q_1^-T V Q_2^-1,  V random\n"
        "Q_1 <- Q_1 - rho triu(A A^T - B B^T) / |A A^T + B B^T| Q_1;  Q_2 with A^T A, B^T B\n"
        "w <- w - eta Q_1^T Q_1 M Q_2^T Q_2",
        latex=r"\begin{aligned} A &= Q_1 G Q_2^T, \quad B = Q_1^{-T} V Q_2^{-1}, \quad V \sim \mathcal N(0, 1) \\"
        r" Q_1 &\leftarrow Q_1 - \rho\, \frac{\operatorname{triu}(A A^T - B B^T)}{\|A A^T + B B^T\|}\, Q_1 \\"
        r" w &\leftarrow w - \eta\, Q_1^T Q_1 \hat M Q_2^T Q_2 \end{aligned}",
        source="X.-L. Li, IEEE TNNLS 29, 2018, arXiv:1512.04202; O. Pooladzandi, X.-L. Li, arXiv:2402.04553",
        differs=("Neither optax nor torch has it.",),
        learning_rate=1e-3,
        space={"learning_rate": Range(1e-4, 1e-1), "b1": Range(0.8, 0.98, "linear"), "weight_decay": Range(1e-5, 1.0)},
        off_neutral={"b1": 0.8, "weight_decay": 0.1, "preconditioner_lr": 0.2},
        tags=("first order", "matrix", "random"),
    ),
)

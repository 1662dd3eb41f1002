"""The orthogonal matrix nearest to a matrix, by polynomials: products only, no decomposition.

With X = U S V^T, each step X <- a X + b (X X^T) X + c (X X^T)^2 X takes every singular value s to a s + b s^3 + c s^5
and leaves U and V. A few steps bring all of them near 1: X becomes U V^T.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.numbers import quotient, root

Coefficients = tuple[tuple[float, float, float], ...]

# K. Jordan et al., Muon, 2024: one polynomial for every step, steep at 0, so that singular values from 0.01 to 1 end
# between 0.68 and 1.13 after five.
_QUINTIC = (3.4445, -4.7750, 2.0315)

# N. Amsel et al., The Polar Express, arXiv:2505.16932, for singular values from 0.001 to 1. The last one repeats.
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
_SAFETY = 1.01  # rounding may leave a singular value above 1, where the steep ones diverge

PRESETS = ("quintic", "polar_express")


def coefficients(preset: str | Sequence[float] | Sequence[Sequence[float]], steps: int) -> Coefficients:
    """The polynomials (a, b, c) of so many steps.

    Args:
      preset: "quintic", "polar_express", or one's own: a triple for every step, or a list of triples, of which the last
        repeats.
      steps: how many; >= 1.

    Raises:
      ValueError: no such preset, or no triples.
    """
    if preset == "quintic":
        return (_QUINTIC,) * steps
    if preset == "polar_express":
        *steep, last = _POLAR_EXPRESS
        scaled = [(a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in steep]
        return _repeated((*scaled, last), steps)
    try:
        given = np.atleast_2d(np.asarray([] if isinstance(preset, str) else preset, float))
    except (TypeError, ValueError):
        given = np.zeros((0, 0))
    if given.ndim != 2 or given.shape[1] != 3:
        named = ", ".join(map(repr, PRESETS))
        raise ValueError(f"ns_coeffs must be {named}, (a, b, c) or a list of such, got {preset!r}")
    return _repeated(tuple((float(a), float(b), float(c)) for a, b, c in given), steps)


def orthogonalized(x: jax.Array, polynomials: Coefficients, eps: float | jax.Array = 1e-7) -> jax.Array:
    """The matrix with the singular vectors of `x`, and singular values near 1; 0 for a matrix of zeros.

    Steps are taken in groups. The products of a group are of the smaller side only, Q = P_3 P_2 P_1 with
    P = a I + b A + c A^2 and A <- P A P; then X <- Q X. For wide matrices that is cheaper than a step at a time. A is
    X X^T of the group's beginning: its rounding, 1e-7 of the largest eigenvalue, is all there is of small ones, and
    each step of a group enlarges it. Groups of three keep the error below 2e-4 for every matrix tried, in full float32;
    where products are of fewer bits (TF32), plain steps are no better.

    Args:
      x: (..., m, n).
      polynomials: of the steps.
      eps: added to the norm by which `x` is divided, so that no singular value exceeds 1.
    """
    if x.shape[-2] > x.shape[-1]:
        return orthogonalized(x.mT, polynomials, eps).mT
    x = quotient(x, frobenius(x) + eps)
    size = group_size(x.shape[-2:], len(polynomials))
    for start in range(0, len(polynomials), size):
        x = _group(x, polynomials[start : start + size])
    return x


def frobenius(x: jax.Array) -> jax.Array:
    """The norm of each matrix, (..., 1, 1)."""
    return root(jnp.sum(x * x, axis=(-2, -1), keepdims=True))


def group_size(shape: tuple[int, ...], steps: int) -> int:
    """How many steps to take at once: 1 or 3, whichever needs fewer multiplications."""
    wide = max(shape) / min(shape)

    def work(size: int) -> float:  # in products of two matrices of the smaller side
        groups = [min(size, steps - start) for start in range(0, steps, size)]
        return sum(2 * wide + 4 * k - 3 for k in groups)

    return 3 if work(3) < work(1) else 1


def _group(x: jax.Array, polynomials: Coefficients) -> jax.Array:
    gram = x @ x.mT
    eye = jnp.eye(gram.shape[-1], dtype=x.dtype)
    product = None
    for index, (a, b, c) in enumerate(polynomials):
        step = a * eye + b * gram + c * (gram @ gram)
        product = step if product is None else step @ product
        if index < len(polynomials) - 1:
            gram = step @ (gram @ step)
    return product @ x


def _repeated(triples: Coefficients, steps: int) -> Coefficients:
    return (*triples[:steps], *[triples[-1]] * (steps - len(triples)))

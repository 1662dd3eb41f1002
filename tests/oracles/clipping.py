"""Gradient clipping: plain functions of the gradients of one step."""

import math

import numpy as np


def global_norm(gradients):
    """The Euclidean norm of a list of arrays, as one long vector."""
    return math.hypot(*(float(x) for g in gradients for x in np.ravel(g)))


def clip(g, max_delta):
    """Each element limited to [-max_delta, max_delta]. Counterpart: `optax.clip`."""
    return np.minimum(np.maximum(np.asarray(g, dtype=np.float64), -max_delta), max_delta)


def clip_by_global_norm(gradients, max_norm):
    """Pascanu, Mikolov, Bengio 2013, arXiv 1211.5063: every array times min(1, max_norm / global norm).

    Counterpart: `optax.clip_by_global_norm`. (3, 4) at max_norm 1 is exactly (0.6, 0.8); torch's norm + 1e-6
    gives 0.59999988.
    """
    norm = global_norm(gradients)
    gradients = [np.array(g, dtype=np.float64) for g in gradients]
    if norm <= max_norm:
        return gradients
    return [g / norm * max_norm for g in gradients]


def clip_by_block_rms(g, threshold):
    """One array divided by max(1, rms(g) / threshold): Shazeer, Stern 2018, arXiv 1804.04235, section 6.

    Counterpart: `optax.clip_by_block_rms`.
    """
    g = np.asarray(g, dtype=np.float64)
    rms = math.sqrt(np.mean(g * g))
    return g / max(1.0, rms / threshold)


def adaptive_grad_clip(g, w, clipping, eps=1e-3):
    """AGC: Brock, De, Smith, Simonyan 2021, arXiv 2102.06171, eq. 3.

    A unit i whose norm(g_i) exceeds clipping * max(norm(w_i), eps) is scaled to it. Units, as `optax` documents
    them: the whole array if at most one axis is longer than 1; else the sums run over axis 0 (2 and 3 axes),
    (0, 1, 2) (4 axes), (0, 1, 2, 3) (5 axes).
    Counterpart: `optax.adaptive_grad_clip`, which also floors norm(g_i) at 1e-6 in the division: it differs
    only where a unit with a norm below 1e-6 is clipped.
    """
    g = np.asarray(g, dtype=np.float64)
    w = np.asarray(w, dtype=np.float64)
    if np.squeeze(w).ndim <= 1:
        axes = tuple(range(w.ndim))
    elif w.ndim in (2, 3):
        axes = (0,)
    elif w.ndim == 4:
        axes = (0, 1, 2)
    elif w.ndim == 5:
        axes = (0, 1, 2, 3)
    else:
        raise ValueError(f"units are not defined for an array of shape {w.shape}")
    clipped = np.empty(w.shape)
    kept = [axis for axis in range(w.ndim) if axis not in axes]
    for unit in np.ndindex(*(w.shape[axis] for axis in kept)):
        where = [slice(None)] * w.ndim
        for axis, index in zip(kept, unit, strict=True):
            where[axis] = index
        where = tuple(where)
        norm_g = global_norm([g[where]])
        largest = clipping * max(global_norm([w[where]]), eps)
        clipped[where] = g[where] * (largest / norm_g) if norm_g > largest else g[where]
    return clipped


def clip_by_percentile(earlier_norms, gradients, percentile):
    """AutoClip: Seetharaman et al. 2020, arXiv 2007.14469, algorithm 1.

    The threshold is the `percentile` (0 to 100, linear interpolation) of all global norms so far, THIS step's
    included; every array is scaled by min(1, threshold / norm). `earlier_norms` holds the norms of the steps
    before this one, unclipped, and is not changed. The first step is never clipped. No optax counterpart.
    """
    norm = global_norm(gradients)
    threshold = np.percentile([*earlier_norms, norm], percentile, method="linear")
    scale = min(1.0, threshold / norm) if norm > 0 else 1.0
    return [np.asarray(g, dtype=np.float64) * scale for g in gradients]

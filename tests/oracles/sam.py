"""Sharpness-aware minimization."""

import numpy as np

from . import at


def sam_sgd(w, gradients, learning_rate, momentum=0.9, rho=0.05, adaptive=False):
    """SAM with momentum SGD: Foret et al. 2021, arXiv 2010.01412, algorithm 1; ASAM: Kwon et al. 2021, 2102.11600.

    g <- grad(w); e <- rho g / |g|, adaptive: e <- rho w*w*g / |w*g| (eta = 0); v <- momentum v + grad(w + e);
    w <- w - lr v. The items of `gradients` must be callables.
    """
    w = np.array(w, dtype=np.float64)
    v = np.zeros(w.shape)
    path = []
    for t, gradient in enumerate(gradients):
        g = at(gradient, w)
        scale = np.abs(w) if adaptive else np.ones(w.shape)
        length = np.sqrt(np.sum((scale * g) ** 2))
        e = np.zeros(w.shape) if length == 0 else at(rho, t) * scale**2 * g / length
        v = at(momentum, t) * v + at(gradient, w + e)
        w = w - at(learning_rate, t) * v
        path.append(np.asarray(w))
    return path

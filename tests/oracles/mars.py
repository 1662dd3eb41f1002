"""MARS with AdamW inside."""

import numpy as np

from . import at, ratio


def mars(w, gradients, learning_rate, b1=0.95, b2=0.99, gamma=0.025, eps=1e-8, eps_root=0.0, weight_decay=0.0):
    """MARS-AdamW: Yuan et al. 2024, arXiv 2411.10438, algorithm 2, approximate form (the last step's gradient).

    c <- g + gamma b1/(1-b1) (g - g_prev), g_prev 0 at first; c <- c / |c| if |c| > 1; m, v: means of c and c*c;
    w <- w - lr (m_hat / (sqrt(v_hat + eps_root) + eps) + weight_decay w).
    """
    w = np.array(w, dtype=np.float64)
    last = np.zeros(w.shape)
    m = np.zeros(w.shape)
    v = np.zeros(w.shape)
    left1 = 1.0
    left2 = 1.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        beta1 = at(b1, t)
        beta2 = at(b2, t)
        c = g + at(gamma, t) * beta1 / (1 - beta1) * (g - last)
        length = np.sqrt(np.sum(c * c))
        if length > 1:
            c = c / length
        last = g
        m = beta1 * m + (1 - beta1) * c
        v = beta2 * v + (1 - beta2) * c * c
        left1 = left1 * beta1
        left2 = left2 * beta2
        direction = ratio(m / (1 - left1), np.sqrt(v / (1 - left2) + at(eps_root, t)) + at(eps, t))
        w = w - at(learning_rate, t) * (direction + at(weight_decay, t) * w)
        path.append(np.asarray(w))
    return path

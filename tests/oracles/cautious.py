"""Cautious AdamW."""

import numpy as np

from . import at, ratio


def cautious_adamw(w, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, weight_decay=1e-4):
    """C-AdamW: Liang et al. 2024, arXiv 2411.16085, algorithm 1 and the authors' scale.

    u <- m_hat / (sqrt(v_hat + eps_root) + eps); mask <- 1 where u g > 0, else 0; u <- u mask / max(mean(mask), 1e-3);
    w <- w - lr (u + weight_decay w). The mean is over the elements of the array.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    v = np.zeros(w.shape)
    left1 = 1.0
    left2 = 1.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        m = at(b1, t) * m + (1 - at(b1, t)) * g
        v = at(b2, t) * v + (1 - at(b2, t)) * g * g
        left1 = left1 * at(b1, t)
        left2 = left2 * at(b2, t)
        u = ratio(m / (1 - left1), np.sqrt(v / (1 - left2) + at(eps_root, t)) + at(eps, t))
        agree = np.array(u * g > 0, dtype=np.float64)
        if agree.size:
            u = u * agree / max(agree.mean(), 1e-3)
        w = w - at(learning_rate, t) * (u + at(weight_decay, t) * w)
        path.append(np.asarray(w))
    return path

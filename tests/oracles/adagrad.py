"""AdaGrad and AdaGrad-Norm."""

import numpy as np

from . import at, ratio


def adagrad(w, gradients, learning_rate, initial_accumulator_value=0.1, eps=1e-7, eps_in_sqrt=True):
    """AdaGrad: Duchi, Hazan, Singer 2011, diagonal form (lectures 002, 003).

    r <- r + g*g; w <- w - lr g / sqrt(r + eps), or with eps outside the root (Deep Learning, algorithm 8.4):
    w <- w - lr g / (sqrt(r) + eps).
    Counterpart, inside: `optax.adagrad(learning_rate, initial_accumulator_value, eps)`; outside:
    `torch.optim.Adagrad`.

    The place of eps matters for small gradients: one step at g=1e-5, learning_rate=1.0, eps=1e-7,
    initial_accumulator_value=0.0 is 0.03161 inside and 0.9901 outside.
    """
    w = np.array(w, dtype=np.float64)
    r = np.zeros(w.shape) + at(initial_accumulator_value, 0)
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        r = r + g * g
        if eps_in_sqrt:
            direction = ratio(g, np.sqrt(r + at(eps, t)))
        else:
            direction = ratio(g, np.sqrt(r) + at(eps, t))
        w = w - at(learning_rate, t) * direction
        path.append(np.asarray(w))
    return path


def adagrad_norm(w, gradients, learning_rate, initial_accumulator_value=0.0, eps=1e-7):
    """AdaGrad-Norm: lecture 004 as printed; Ward, Wu, Bottou 2018, arXiv 1806.01811, algorithm 1.

    r <- r + g^T g, one number for the whole array; w <- w - eta / sqrt(eps + r) g.

    Not AdaGrad: on (100 x^2 + y^2)/2 from (1, 1), learning_rate=0.5, eps=1e-7, initial_accumulator_value=0.0,
    200 steps, y ends at 0.4242 here and below 1e-48 with `adagrad`.
    """
    w = np.array(w, dtype=np.float64)
    r = at(initial_accumulator_value, 0)
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        r = r + np.sum(g * g)
        w = w - at(learning_rate, t) * ratio(g, np.sqrt(at(eps, t) + r))
        path.append(np.asarray(w))
    return path

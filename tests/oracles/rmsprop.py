"""RMSProp and AdaDelta."""

import numpy as np

from . import at, ratio


def rmsprop(
    w,
    gradients,
    learning_rate,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
):
    """RMSProp: Hinton, lecture 6e (2012); centered and with momentum: Graves 2013, arXiv 1308.0850, eq. 38-45.

    E[g^2] <- decay E[g^2] + (1-decay) g*g, from `initial_scale`; step = lr g / sqrt(E[g^2] + eps), or
    lr g / (sqrt(E[g^2]) + eps). Centered: E[g^2] - E[g]^2 instead of E[g^2]; it is a variance, so a value that
    rounding took below 0 is 0.
    Momentum: v <- momentum v + step, the rate INSIDE (optax; torch has it outside); nesterov: step + momentum v.
    Bias correction divides both averages by 1 - the product of the decays so far (1 - decay^t at a constant).
    Counterpart: `optax.rmsprop`, all arguments; lecture 002's form without eps is eps=0.
    """
    w = np.array(w, dtype=np.float64)
    mean_g = np.zeros(w.shape)
    mean_g2 = np.zeros(w.shape) + at(initial_scale, 0)
    v = np.zeros(w.shape)
    product = 1.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        beta = at(decay, t)
        mean_g = beta * mean_g + (1 - beta) * g
        mean_g2 = beta * mean_g2 + (1 - beta) * g * g
        product = product * beta
        if bias_correction:
            first, second = mean_g / (1 - product), mean_g2 / (1 - product)
        else:
            first, second = mean_g, mean_g2
        if centered:
            second = np.maximum(second - first * first, 0.0)
        if eps_in_sqrt:
            step = at(learning_rate, t) * ratio(g, np.sqrt(second + at(eps, t)))
        else:
            step = at(learning_rate, t) * ratio(g, np.sqrt(second) + at(eps, t))
        if momentum is not None:
            v = at(momentum, t) * v + step
            if nesterov:
                step = step + at(momentum, t) * v
            else:
                step = v
        w = w - step
        path.append(np.asarray(w))
    return path


def adadelta(
    w,
    gradients,
    learning_rate=1.0,
    rho=0.9,
    eps=1e-6,
    weight_decay=0.0,
    eps_in_sqrt=True,
    numerator=True,
):
    """AdaDelta: Zeiler 2012, arXiv 1212.5701, algorithm 1 (which has no learning rate: 1.0; and rho 0.95).

    E[g^2]_t = rho E[g^2]_{t-1} + (1-rho) g*g; dx = - RMS[dx]_{t-1} / RMS[g]_t g;
    E[dx^2]_t = rho E[dx^2]_{t-1} + (1-rho) dx*dx; w = w + lr dx; RMS[y] = sqrt(E[y^2] + eps).
    `weight_decay` is coupled: g + weight_decay w takes the place of g.
    `eps_in_sqrt=False`: RMS[y] = sqrt(E[y^2]) + eps, lecture 002's text.
    `numerator=False`: dx = - g / RMS[g], lecture 002's listing with the minus sign that it lacks.
    Counterpart: `optax.adadelta(learning_rate, rho, eps, weight_decay)`, with the rate given.

    Numbers, w^2/2 from 1, rho=0.95, eps=1e-6, learning_rate=1.0: see `errata.adadelta_002_text` and
    `errata.adadelta_002_listing_literal`.
    """
    w = np.array(w, dtype=np.float64)
    mean_g2 = np.zeros(w.shape)
    mean_dx2 = np.zeros(w.shape)
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w) + at(weight_decay, t) * w
        decay = at(rho, t)
        mean_g2 = decay * mean_g2 + (1 - decay) * g * g
        if eps_in_sqrt:
            rms_dx = np.sqrt(mean_dx2 + at(eps, t))
            rms_g = np.sqrt(mean_g2 + at(eps, t))
        else:
            rms_dx = np.sqrt(mean_dx2) + at(eps, t)
            rms_g = np.sqrt(mean_g2) + at(eps, t)
        if numerator:
            dx = -ratio(rms_dx * g, rms_g)
        else:
            dx = -ratio(g, rms_g)
        mean_dx2 = decay * mean_dx2 + (1 - decay) * dx * dx
        w = w + at(learning_rate, t) * dx
        path.append(np.asarray(w))
    return path

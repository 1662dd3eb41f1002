"""Gradient descent, heavy ball, Nesterov."""

import numpy as np

from . import at


def sgd(w, gradients, learning_rate, momentum=None, nesterov=False):
    """Gradient descent with the rate outside the velocity.

    Source: Goodfellow et al., Deep Learning (2016), algorithm 8.1; lecture 003 for the momentum form.
    v = rho v + g; w = w - lr v; with `nesterov`: w = w - lr (g + rho v).
    Counterpart: `optax.sgd(learning_rate, momentum, nesterov)`.
    """
    w = np.array(w, dtype=np.float64)
    v = np.zeros(w.shape)
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        lr = at(learning_rate, t)
        if momentum is None:
            w = w - lr * g
        else:
            rho = at(momentum, t)
            v = rho * v + g
            if nesterov:
                w = w - lr * (g + rho * v)
            else:
                w = w - lr * v
        path.append(np.asarray(w))
    return path


def momentum(w, gradients, learning_rate, momentum=0.9, learning_rate_inside=True, initial_velocity=0.0):
    """Heavy ball: Polyak 1964; Deep Learning, algorithm 8.2 (lectures 001, 004; 000 and 002 with v's sign turned).

    Inside: v <- alpha v - rho g; w <- w + v.
    Outside (lecture 003): v = alpha v + g; w = w - rho v. The same path only while rho is constant.
    `initial_velocity` is added to the weights in both: the outside form starts from v = -initial_velocity.
    Counterparts: `optax.chain(scale_by_learning_rate(rho), trace(alpha))`; outside `optax.sgd(rho, alpha)`.
    """
    w = np.array(w, dtype=np.float64)
    velocity = np.zeros(w.shape) + initial_velocity
    if not learning_rate_inside:
        velocity = -velocity
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        rho = at(learning_rate, t)
        alpha = at(momentum, t)
        if learning_rate_inside:
            velocity = alpha * velocity - rho * g
            w = w + velocity
        else:
            velocity = alpha * velocity + g
            w = w - rho * velocity
        path.append(np.asarray(w))
    return path


def nesterov(w, gradients, learning_rate, momentum=0.9, lookahead=False, initial_velocity=0.0):
    """Nesterov's accelerated gradient, as in lecture 002 (Nesterov 1983; Sutskever et al. 2013).

    w_fut = w - gamma v; v = gamma v + alpha g(w_fut); w = w - v; v starts at -initial_velocity.
    `lookahead=True`: the given gradients are those at w_fut; returns w.
    `lookahead=False`: the parameters held are phi_t = w_t - gamma_{t+1} v_t, the point where the next gradient
    is taken, with the momentum of the NEXT step. The start is phi_0, so w_0 = phi_0 + gamma_1 v_0; returns phi.
    Exact for schedules of both numbers.
    Counterpart at constant momentum, lookahead=False:
    `optax.chain(scale_by_learning_rate(alpha), trace(gamma, nesterov=True))`.
    """
    v = np.zeros(np.shape(w)) - initial_velocity
    if lookahead:
        w = np.array(w, dtype=np.float64)
    else:
        w = np.array(w, dtype=np.float64) + at(momentum, 0) * v
    path = []
    for t, g in enumerate(gradients):
        gamma = at(momentum, t)
        alpha = at(learning_rate, t)
        w_fut = w - gamma * v
        g = at(g, w_fut)
        v = gamma * v + alpha * g
        w = w - v
        if lookahead:
            path.append(np.asarray(w))
        else:
            path.append(np.asarray(w - at(momentum, t + 1) * v))
    return path

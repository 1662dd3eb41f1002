"""The lectures' misprinted formulas, taken literally: never to be used, only to show what goes wrong.

Same interface as the other oracles, so that a test can put the misprint and the right form side by side. Items of
`gradients` may be callables of w, which all the numbers below use: `[lambda w: w - 3.0] * 1000` for (w-3)^2/2.
Every number was run with these functions in float64. Divisions by zero give nan or inf, silently.
"""

import numpy as np

from . import at


def gradient_descent_003_no_rate(w, gradients):
    """Lecture 003, on the way: `w = w - w'`, a rate of 1. (The text then adds the rate: `momentum.sgd`.)

    On a w^2/2 every step multiplies w by 1 - a: 4 w^2/2 from 1 is at 81 after 4 steps.
    """
    w = np.array(w, dtype=np.float64)
    path = []
    for g in gradients:
        w = w - at(g, w)
        path.append(np.asarray(w))
    return path


def minibatch_001_residual(theta, rho, g):
    """Lecture 001: `theta^{k+1} <- theta^{k+1} - rho g`, k+1 on both sides. Left side minus right side.

    As an equation it holds only where rho g = 0, whatever theta is: it says nothing about theta^{k+1}.
    """
    return np.asarray(theta) - (np.asarray(theta) - rho * np.asarray(g))


def momentum_000_sign(w, gradients, learning_rate, momentum=0.9):
    """Lectures 000 and 002: v = gamma v + eta g; w = w - v. No misprint: `momentum.momentum` with v's sign turned.

    The rate is inside. Lecture 003's `v = rho v + g; w = w - v lr` is another method as soon as lr changes:
    from w=0, gradient 1 at each of 8 steps, lr = 0.5^t (t = 0..7), momentum 0.9, this ends at -10.3243 and
    `momentum.momentum(learning_rate_inside=False)` at -3.5858.
    """
    w = np.array(w, dtype=np.float64)
    v = np.zeros(w.shape)
    path = []
    for t, g in enumerate(gradients):
        v = at(momentum, t) * v + at(learning_rate, t) * at(g, w)
        w = w - v
        path.append(np.asarray(w))
    return path


def adagrad_003_literal(w, gradients, learning_rate):
    """Lecture 003: `sqr_grad = sqr_grad + (wi)`; `w = w - (wi*lr) / sqrgrad+ 1e-7`.

    Wrong: no square, no root, and 1e-7 added to w instead of to the denominator.

    First step at learning_rate=0.1 from 0: -0.0999999 for g=+2 and for g=-2, downhill only by luck. (w-3)^2/2
    from 0, learning_rate=0.1, 100 steps: -0.52994; `adagrad(initial_accumulator_value=0.0)` 1.60503, eps in or out.
    Gradients 1, then 0 ten times: w drifts by +1e-6.
    """
    w = np.array(w, dtype=np.float64)
    sqr_grad = np.zeros(w.shape)
    path = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for t, g in enumerate(gradients):
            g = at(g, w)
            sqr_grad = sqr_grad + g
            w = w - (g * at(learning_rate, t)) / sqr_grad + 1e-7
            path.append(np.asarray(w))
    return path


def rmsprop_003_literal(w, gradients, learning_rate, decay_rate=0.9):
    """Lecture 003: `sqr_grad = decay_rate * sqr_grad + (1- decay_rate) + (wi)`; w as in AdaGrad's listing.

    Wrong: `+` for the second `*`, no square, no root, and 1e-7 added to w.

    (w-3)^2/2 from 0, learning_rate=0.01, decay 0.9, 1000 steps: -1.06001; `rmsprop` 3.00000.
    """
    w = np.array(w, dtype=np.float64)
    sqr_grad = np.zeros(w.shape)
    path = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for t, g in enumerate(gradients):
            g = at(g, w)
            sqr_grad = at(decay_rate, t) * sqr_grad + (1 - at(decay_rate, t)) + g
            w = w - (g * at(learning_rate, t)) / sqr_grad + 1e-7
            path.append(np.asarray(w))
    return path


def rmsprop_002_no_eps(w, gradients, learning_rate, beta=0.9):
    """Lecture 002: w = w - eta / sqrt(E[g^2]) g, without eps.

    A gradient of 0 at the first step is 0/0: nan for ever. From 1, gradients 0, 1, learning_rate=0.1: nan, nan;
    `rmsprop(eps=0.0)` 1, 0.68377.
    """
    w = np.array(w, dtype=np.float64)
    mean_g2 = np.zeros(w.shape)
    path = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for t, g in enumerate(gradients):
            g = at(g, w)
            mean_g2 = at(beta, t) * mean_g2 + (1 - at(beta, t)) * g * g
            w = w - at(learning_rate, t) / np.sqrt(mean_g2) * g
            path.append(np.asarray(w))
    return path


def rmsprop_004_inner_product(w, gradients, learning_rate, alpha=0.9, delta=1e-6):
    """Lecture 004: r <- alpha r + (1-alpha) g^T g; w <- w - eta / sqrt(delta + r) g.

    An inner product, so ONE rate for all coordinates (cf. `adagrad.adagrad_norm`); RMSProp has g*g, elementwise.
    (100 x^2 + y^2)/2 from (1, 1), learning_rate=0.01, alpha 0.9, 200 steps: y at 0.47899 here, 2.8e-5 with
    `rmsprop`.
    """
    w = np.array(w, dtype=np.float64)
    r = 0.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        r = at(alpha, t) * r + (1 - at(alpha, t)) * np.sum(g * g)
        w = w - at(learning_rate, t) / np.sqrt(delta + r) * g
        path.append(np.asarray(w))
    return path


def adam_003_literal(w, gradients, learning_rate, beta1=0.9, beta2=0.999):
    """Lecture 003: both moments of `wi`; `w = w - (moment1*lr) /moment2+ 1e-7`.

    Wrong: no square, no root, no bias correction, and 1e-7 added to w.

    First step at learning_rate=1e-3 from 0: -lr (1-beta1)/(1-beta2) = -0.0999999 for g=+2 and for g=-2.
    (w-3)^2/2 from 0, learning_rate=1e-3, 1000 steps: -6.39927; `adam` 0.92321; the listing with squares and roots,
    `adam(eps=1e-7, bias_correction=False)`, 1.71957, its first step 0.00316227 instead of 0.001.
    """
    w = np.array(w, dtype=np.float64)
    moment1 = np.zeros(w.shape)
    moment2 = np.zeros(w.shape)
    path = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for t, g in enumerate(gradients):
            g = at(g, w)
            moment1 = at(beta1, t) * moment1 + (1 - at(beta1, t)) * g
            moment2 = at(beta2, t) * moment2 + (1 - at(beta2, t)) * g
            w = w - (moment1 * at(learning_rate, t)) / moment2 + 1e-7
            path.append(np.asarray(w))
    return path


def adam_000_literal(w, gradients, learning_rate, beta1=0.9, beta2=0.999, eps=1e-8):
    """Lecture 000: w_new = w_old - eta / (sqrt(v_hat_old) + eps) m_hat_old, the hats not defined.

    Read literally, "old" hats are those of the step before: m_hat_0 = 0 / (1 - beta1^0) = 0/0, nan from the
    first step.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    v = np.zeros(w.shape)
    path = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for t, g in enumerate(gradients):
            g = at(g, w)
            m_hat_old = m / (1 - at(beta1, t) ** t)
            v_hat_old = v / (1 - at(beta2, t) ** t)
            m = at(beta1, t) * m + (1 - at(beta1, t)) * g
            v = at(beta2, t) * v + (1 - at(beta2, t)) * g * g
            w = w - at(learning_rate, t) / (np.sqrt(v_hat_old) + eps) * m_hat_old
            path.append(np.asarray(w))
    return path


def adadelta_002_text(w, gradients, rho=0.95, eps=1e-6):
    """Lecture 002, the slide: RMS[g] = sqrt(E[g^2]) + eps, outside the root; dx is never given (Zeiler's here).

    Zeiler: sqrt(E[g^2] + eps), where eps also sets the size of the first steps. rho=0.95, eps=1e-6: the first
    step at g=1 is -4.47212e-06 instead of -0.00447209; on w^2/2 from 1, w <= 0.5 after 4739 steps instead of 131.
    """
    x = np.array(w, dtype=np.float64)
    mean_g2 = np.zeros(x.shape)
    mean_dx2 = np.zeros(x.shape)
    path = []
    for g in gradients:
        g = at(g, x)
        mean_g2 = rho * mean_g2 + (1 - rho) * g**2
        dx = -(np.sqrt(mean_dx2) + eps) / (np.sqrt(mean_g2) + eps) * g
        mean_dx2 = rho * mean_dx2 + (1 - rho) * dx**2
        x = x + dx
        path.append(np.asarray(x))
    return path


def adadelta_002_listing_literal(w, gradients, rho=0.95, eps=1e-6, minus=False):
    """Lecture 002, "Algorithm 1": step 5 dx = g / (sqrt(E[g^2]) + eps), step 7 x = x + dx.

    Wrong: the minus sign and the numerator RMS[dx]_{t-1} are missing, so it ascends; E[dx^2] is kept and never
    read, and m and v are set and never used. `minus=True` mends the sign alone: RMSProp at a rate of 1.

    w^2/2 from 1, rho=0.95, eps=1e-6: after 1 step 5.47212, after 50 at 96.0952 (Zeiler 0.78208). With the minus,
    -3.47212 after 1 step, and from step 400 on it jumps between +0.5 and -0.5 (within 0.0002), for ever.
    """
    x = np.array(w, dtype=np.float64)
    mean_g2 = np.zeros(x.shape)
    path = []
    for g in gradients:
        g = at(g, x)
        mean_g2 = rho * mean_g2 + (1 - rho) * g**2
        dx = g / (np.sqrt(mean_g2) + eps)
        if minus:
            dx = -dx
        x = x + dx
        path.append(np.asarray(x))
    return path

"""Adam and its relatives.

Bias correction divides an average by 1 - the product of all its decays so far. For a constant decay b that is the
paper's 1 - b^t; for a schedule it is the exact weight of the average, which 1 - b_t^t is not.
"""

import numpy as np

from . import at, ratio


def adam(w, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, nesterov=False, bias_correction=True):
    """Adam: Kingma, Ba 2015, arXiv 1412.6980, algorithm 1 (lectures 000, 002, 003).

    m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g*g; w <- w - lr m_hat / (sqrt(v_hat + eps_root) + eps).
    `nesterov`: m_hat = b1 m / (1 - b1 prod b1) + (1-b1) g / (1 - prod b1), see `nadam`.
    `bias_correction=False`: the averages as they are; with squares and roots put in, lecture 003's listing.
    Counterpart: `optax.adam(learning_rate, b1, b2, eps, eps_root, nesterov=)`.

    First step at g=+2 and g=-2, learning_rate=1e-3: -/+ 0.001, without bias correction -/+ 0.00316228.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    v = np.zeros(w.shape)
    product1 = 1.0
    product2 = 1.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        beta1 = at(b1, t)
        beta2 = at(b2, t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        product1 = product1 * beta1
        product2 = product2 * beta2
        if bias_correction:
            m_hat = m / (1 - product1)
            v_hat = v / (1 - product2)
            if nesterov:
                m_hat = beta1 * m / (1 - product1 * beta1) + (1 - beta1) * g / (1 - product1)
        else:
            m_hat = m
            v_hat = v
            if nesterov:
                m_hat = beta1 * m + (1 - beta1) * g
        w = w - at(learning_rate, t) * ratio(m_hat, np.sqrt(v_hat + at(eps_root, t)) + at(eps, t))
        path.append(np.asarray(w))
    return path


def adamw(
    w,
    gradients,
    learning_rate,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=1e-4,
    nesterov=False,
    bias_correction=True,
):
    """Adam with decoupled weight decay: Loshchilov, Hutter 2019, arXiv 1711.05101, algorithm 2.

    As `adam`, then w <- w - lr (m_hat / (sqrt(v_hat + eps_root) + eps) + weight_decay w), w before the step.
    The rate multiplies the decay (optax, torch); the paper's alpha lies inside its eta_t.
    Counterpart: `optax.adamw`.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    v = np.zeros(w.shape)
    weight_left1 = 1.0
    weight_left2 = 1.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        m = at(b1, t) * m + (1 - at(b1, t)) * g
        v = at(b2, t) * v + (1 - at(b2, t)) * g**2
        weight_left1 *= at(b1, t)
        weight_left2 *= at(b2, t)
        numerator = m
        if nesterov:
            numerator = at(b1, t) * m + (1 - at(b1, t)) * g
        second = v
        if bias_correction:
            numerator = m / (1 - weight_left1)
            if nesterov:
                next_left1 = weight_left1 * at(b1, t)
                numerator = at(b1, t) * (m / (1 - next_left1)) + (1 - at(b1, t)) * (g / (1 - weight_left1))
            second = v / (1 - weight_left2)
        direction = ratio(numerator, np.sqrt(second + at(eps_root, t)) + at(eps, t))
        w = w - at(learning_rate, t) * (direction + at(weight_decay, t) * w)
        path.append(np.asarray(w))
    return path


def nadam(w, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, bias_correction=True):
    """NAdam: Dozat 2016, algorithm 2, in optax's form (v_hat without Dozat's extra factor b2; not torch.NAdam).

    m_bar = b1 m / (1 - b1 prod b1) + (1-b1) g / (1 - prod b1): the first term is corrected for the NEXT step, at
    this step's b1. w <- w - lr m_bar / (sqrt(v_hat + eps_root) + eps).
    Counterpart: `optax.nadam`.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    v = np.zeros(w.shape)
    decays1 = []
    decays2 = []
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        decays1.append(at(b1, t))
        decays2.append(at(b2, t))
        mu = decays1[-1]
        m = mu * m + (1 - mu) * g
        v = decays2[-1] * v + (1 - decays2[-1]) * g * g
        if bias_correction:
            this_m = 1 - np.prod(decays1)
            next_m = 1 - np.prod([*decays1, mu])
            this_v = 1 - np.prod(decays2)
        else:
            this_m, next_m, this_v = 1.0, 1.0, 1.0
        m_bar = mu * m / next_m + (1 - mu) * g / this_m
        w = w - at(learning_rate, t) * ratio(m_bar, np.sqrt(v / this_v + at(eps_root, t)) + at(eps, t))
        path.append(np.asarray(w))
    return path


def adamax(w, gradients, learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    """AdaMax: Kingma, Ba 2015, algorithm 2, with an eps that the paper has not (optax, torch).

    m <- b1 m + (1-b1) g; u <- max(b2 u, abs(g) + eps); w <- w - lr / (1 - prod b1) m / u.
    Counterpart: `optax.adamax`.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    u = np.zeros(w.shape)
    product = 1.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        m = at(b1, t) * m + (1 - at(b1, t)) * g
        u = np.maximum(at(b2, t) * u, np.abs(g) + at(eps, t))
        product = product * at(b1, t)
        w = w - at(learning_rate, t) * ratio(m / (1 - product), u)
        path.append(np.asarray(w))
    return path


def amsgrad(
    w,
    gradients,
    learning_rate,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    bias_correction_mu=True,
    bias_correction_nu=True,
):
    """AMSGrad: Reddi, Kale, Kumar 2018, arXiv 1904.09237, algorithm 2 (the paper: both corrections off).

    As `adam` with v_max <- max(v_max, v_hat) in the place of v_hat: the maximum is over CORRECTED averages
    (optax; torch takes it over the plain ones and corrects afterwards).
    Counterpart: `optax.amsgrad`.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    v = np.zeros(w.shape)
    v_max = np.zeros(w.shape)
    product1 = 1.0
    product2 = 1.0
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        m = at(b1, t) * m + (1 - at(b1, t)) * g
        v = at(b2, t) * v + (1 - at(b2, t)) * g * g
        product1 = product1 * at(b1, t)
        product2 = product2 * at(b2, t)
        m_hat = m
        if bias_correction_mu:
            m_hat = m / (1 - product1)
        v_hat = v
        if bias_correction_nu:
            v_hat = v / (1 - product2)
        v_max = np.maximum(v_max, v_hat)
        w = w - at(learning_rate, t) * ratio(m_hat, np.sqrt(v_max + at(eps_root, t)) + at(eps, t))
        path.append(np.asarray(w))
    return path


def lion(w, gradients, learning_rate, b1=0.9, b2=0.99, weight_decay=1e-3):
    """Lion: Chen et al. 2023, arXiv 2302.06675, algorithm 2.

    c = b1 m + (1-b1) g; w <- w - lr (sign(c) + weight_decay w); m <- b2 m + (1-b2) g, after the step.
    Counterpart: `optax.lion`.
    """
    w = np.array(w, dtype=np.float64)
    m = np.zeros(w.shape)
    path = []
    for t, g in enumerate(gradients):
        g = at(g, w)
        c = at(b1, t) * m + (1 - at(b1, t)) * g
        w = w - at(learning_rate, t) * (np.sign(c) + at(weight_decay, t) * w)
        m = at(b2, t) * m + (1 - at(b2, t)) * g
        path.append(np.asarray(w))
    return path

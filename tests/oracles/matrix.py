"""Methods of whole matrices: Muon, SOAP, Shampoo, PSGD Kron. Each takes one parameter at a time.

Matrices are (inputs, outputs). Arrays of fewer axes take the method that the papers leave them to.
"""

import numpy as np

from . import at, ratio
from .adam import adamw

QUINTIC = ((3.4445, -4.7750, 2.0315),) * 5


def is_matrix(w):
    """Two axes, both longer than one."""
    return w.ndim == 2 and min(w.shape) > 1


def orthogonal(x, polynomials=QUINTIC, eps=1e-7):
    """Newton-Schulz as in K. Jordan et al. 2024: a step at a time, the smaller side first."""
    if x.shape[0] > x.shape[1]:
        return orthogonal(x.T, polynomials, eps).T
    x = x / (np.sqrt(np.sum(x * x)) + eps)
    for a, b, c in polynomials:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def muon(
    w,
    gradients,
    learning_rate,
    beta=0.95,
    eps=1e-8,
    weight_decay=0.0,
    nesterov=True,
    scale="match_rms_adamw",
    polynomials=QUINTIC,
    adam_learning_rate=None,
    adam_b1=0.9,
    adam_b2=0.999,
    adam_eps_root=0.0,
    adam_weight_decay=0.0,
):
    """m <- b m + (1-b) g; u = b m + (1-b) g; w <- w - lr (scale * orthogonal(u) + weight_decay w); AdamW elsewhere."""
    w = np.array(w, dtype=np.float64)
    if not is_matrix(w):
        rate = learning_rate if adam_learning_rate is None else adam_learning_rate
        return adamw(w, gradients, rate, adam_b1, adam_b2, eps, adam_eps_root, adam_weight_decay)
    rows, columns = w.shape
    factor = {
        "original": max(1, columns / rows) ** 0.5,
        "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
        "rms_to_rms": (columns / rows) ** 0.5,
    }[scale]
    m, path = np.zeros(w.shape), []
    for t, g in enumerate(gradients):
        g, b = at(g, w), at(beta, t)
        m = b * m + (1 - b) * g
        u = b * m + (1 - b) * g if nesterov else m
        w = w - at(learning_rate, t) * (factor * orthogonal(u, polynomials, at(eps, t)) + at(weight_decay, t) * w)
        path.append(np.asarray(w))
    return path


def soap(w, gradients, learning_rate, b1=0.95, b2=0.95, eps=1e-8, weight_decay=0.0, frequency=10, sides=(True, True)):
    """N. Vyas et al. 2024, algorithm 3, with the first gradient used for the bases only, as in the authors' code.

    m is kept in the space of the parameters and turned at every step, which is the same as turning it with the bases.
    """
    w = np.array(w, dtype=np.float64)
    matrix = is_matrix(w)
    m, v, path = np.zeros(w.shape), np.zeros(w.shape), []
    left = np.zeros((w.shape[0],) * 2) if matrix else None
    right = np.zeros((w.shape[1],) * 2) if matrix else None
    ql, qr = (np.eye(len(left)), np.eye(len(right))) if matrix else (None, None)
    product1 = product2 = 1.0

    def into(x):
        return ql.T @ x @ qr if matrix else x

    def out(x):
        return ql @ x @ qr.T if matrix else x

    for k, g in enumerate(gradients):
        g, beta1, beta2, rate = at(g, w), at(b1, k), at(b2, k), at(learning_rate, k)
        if k > 0:
            product1, product2 = product1 * beta1, product2 * beta2
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * into(g) ** 2
            step = ratio(into(m), np.sqrt(v) + at(eps, k))
            w = w - rate * np.sqrt(1 - product2) / (1 - product1) * out(step)
            w = w - rate * at(weight_decay, k) * w
        if matrix:
            left = beta2 * left + (1 - beta2) * g @ g.T
            right = beta2 * right + (1 - beta2) * g.T @ g
            if k == 0:
                ql = np.linalg.eigh(left)[1][:, ::-1] if sides[0] else ql
                qr = np.linalg.eigh(right)[1][:, ::-1] if sides[1] else qr
            elif k % frequency == 0:
                if sides[0]:
                    order = np.argsort(-np.diag(ql.T @ left @ ql), kind="stable")
                    v, ql = v[order], np.linalg.qr(left @ ql[:, order])[0]
                if sides[1]:
                    order = np.argsort(-np.diag(qr.T @ right @ qr), kind="stable")
                    v, qr = v[:, order], np.linalg.qr(right @ qr[:, order])[0]
        path.append(np.asarray(w))
    return path


def shampoo(
    w,
    gradients,
    learning_rate,
    b1=0.9,
    b2=0.999,
    eps=1e-12,
    weight_decay=0.0,
    graft_b2=0.999,
    graft_eps=1e-8,
    graft=True,
    frequency=1,
    sides=(True, True),
):
    """V. Gupta et al. 2018, algorithm 1 (b2 = 1: sums), with running means and Adam's length of 2309.06497."""
    w = np.array(w, dtype=np.float64)
    m, v, path = np.zeros(w.shape), np.zeros(w.shape), []
    left, right = (np.zeros((n, n)) for n in (w.shape if is_matrix(w) else (0, 0)))
    product1 = product2 = product3 = 1.0
    order = 2 * sum(sides)

    def inverse_root(x, shift):
        values, vectors = np.linalg.eigh(x)
        return (vectors * (values - min(values[0], 0) + shift) ** (-1 / order)) @ vectors.T

    for t, g in enumerate(gradients):
        g, beta1, beta2, beta3 = at(g, w), at(b1, t), at(b2, t), at(graft_b2, t)
        m, v = beta1 * m + (1 - beta1) * g, beta3 * v + (1 - beta3) * g * g
        product1, product2, product3 = product1 * beta1, product2 * beta2, product3 * beta3
        m_hat = m / (1 - product1)
        step = adam = ratio(m_hat, np.sqrt(v / (1 - product3)) + at(graft_eps, t))
        if is_matrix(w):
            newest = 1 if beta2 == 1 else 1 - beta2
            weight = 1 if beta2 == 1 else 1 - product2
            left, right = beta2 * left + newest * g @ g.T, beta2 * right + newest * g.T @ g
            if t % frequency == 0:
                roots = [inverse_root(x / weight, at(eps, t)) for x in (left, right)]
            step = (roots[0] @ m_hat if sides[0] else m_hat) @ (roots[1] if sides[1] else np.eye(len(right)))
            if graft:
                step = step * np.sqrt(np.sum(adam**2)) / (np.sqrt(np.sum(step**2)) + 1e-16)
        w = w - at(learning_rate, t) * (step + at(weight_decay, t) * w)
        path.append(np.asarray(w))
    return path


def psgd_kron(w, gradients, learning_rate, probes, fits, b1=0.9, weight_decay=0.0, preconditioner_lr=0.1, diagonal=()):
    """X.-L. Li 2018 / arXiv:2402.04553: whitening by triangular factors; `probes` and `fits` are what was drawn.

    Args:
      probes: an array of the gradient's shape for each step.
      fits: for each step whether the factors are fitted, and whether they are balanced then.
      diagonal: the sides (0, 1) of a matrix whose factor is a diagonal.
    """
    w = np.array(w, dtype=np.float64)
    matrix = is_matrix(w)
    m, path, product = np.zeros(w.shape), [], 1.0
    rows, columns = w.shape if matrix else (w.size, 1)
    q1, q2 = np.eye(rows), np.eye(columns)
    diagonal = diagonal if matrix else (0, 1)
    for t, g in enumerate(gradients):
        g, beta, rho = at(g, w), at(b1, t), at(preconditioner_lr, t)
        m, product = beta * m + (1 - beta) * g, product * beta
        seen = (m / (1 - product)).reshape(rows, columns)
        fit, balance = fits[t]
        if fit and np.any(seen):
            probe = np.asarray(probes[t], np.float64).reshape(rows, columns)
            damped = seen + 2.0**-11.5 * np.mean(np.abs(seen)) * probe
            a = q1 @ damped @ q2.T
            b = np.linalg.inv(q1).T @ probe @ np.linalg.inv(q2)
            q1 = _fitted(q1, a @ a.T, b @ b.T, rho, 0 in diagonal)
            q2 = _fitted(q2, a.T @ a, b.T @ b, rho, 1 in diagonal) if matrix else q2
            if balance and matrix:
                sizes = np.max(np.abs(q1)), np.max(np.abs(q2))
                mean = np.sqrt(sizes[0] * sizes[1])
                q1, q2 = q1 * mean / sizes[0], q2 * mean / sizes[1]
        white = q1.T @ q1 @ seen @ q2.T @ q2
        rms = np.sqrt(np.mean(white**2)) if white.size else 0.0
        step = (white / max(1, rms / 1.1)).reshape(w.shape)
        w = w - at(learning_rate, t) * (step + at(weight_decay, t) * w)
        path.append(np.asarray(w))
    return path


def _fitted(q, aa, bb, rate, is_diagonal):
    if is_diagonal:
        return q - rate * np.diag(np.diag(aa - bb) / np.max(np.diag(aa + bb))) @ q if len(q) else q
    x = aa + bb
    size = np.max(np.abs(x))
    x = x / size
    row = x[np.argmax(np.sum(x * x, axis=0))] @ x
    below = size * np.linalg.norm(row / np.linalg.norm(row) @ x)
    return q - rate * np.triu(aa - bb) / below @ q

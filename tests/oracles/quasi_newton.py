"""Quasi-Newton directions with dense matrices: every product written out, no shared loops, no tricks.

Pairs are lists of `(s, y)`, oldest first: s a step, y the change of the gradient along it, s'y > 0.
"""

import numpy as np


def bfgs_inverse(H, s, y):
    """One BFGS update of the inverse Hessian, as a product.

    Source: J. Nocedal, S. J. Wright, Numerical Optimization (2006), (6.17).
    """
    rho = 1 / (y @ s)
    left = np.eye(len(s)) - rho * np.outer(s, y)
    return left @ H @ left.T + rho * np.outer(s, s)


def lbfgs_inverse(n, pairs, gamma=None):
    """The inverse Hessian of L-BFGS as a matrix: the updates by `pairs`, from gamma I; by default gamma = s'y / y'y.

    Source: N&W, (7.19) and (7.20).
    """
    if pairs and gamma is None:
        s, y = pairs[-1]
        gamma = (s @ y) / (y @ y)
    H = (1.0 if gamma is None else gamma) * np.eye(n)
    for s, y in pairs:
        H = bfgs_inverse(H, s, y)
    return H


def lbfgs_hessian(n, pairs):
    """The Hessian of L-BFGS as a matrix: B <- B - B s s'B / s'B s + y y' / y's, from y'y / s'y I of the last pair.

    Source: N&W, (6.19); R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, SIAM J. Sci. Comput. 16 (1995), section 3.
    """
    if not pairs:
        return np.eye(n)
    s, y = pairs[-1]
    B = (y @ y) / (s @ y) * np.eye(n)
    for s, y in pairs:
        Bs = B @ s
        B = B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (y @ s)
    return B


def cauchy_point(x, g, B, lower, upper):
    """The first minimum of g'z + z'B z / 2 along clip(x - t g), t >= 0, walked from kink to kink.

    Source: Byrd, Lu, Nocedal, Zhu (1995), section 2 and algorithm CP, with B as a matrix.
    """
    n = len(x)
    t = np.full(n, np.inf)
    for i in range(n):
        if g[i] < 0:
            t[i] = (x[i] - upper[i]) / g[i]
        elif g[i] > 0:
            t[i] = (x[i] - lower[i]) / g[i]
    z, now = np.zeros(n), 0.0  # z: how far x has moved
    for kink in [*sorted(set(t[(t > 0) & np.isfinite(t)])), np.inf]:
        d = np.where(t > now, -g, 0.0)
        if not d.any():
            break
        slope, curvature = g @ d + d @ B @ z, d @ B @ d
        if slope >= 0:
            break
        least = -slope / curvature
        if now + least < kink:
            z = z + least * d
            break
        z = z + (kink - now) * d
        now = kink
        for i in np.flatnonzero(t == kink):
            z[i] = (upper if g[i] < 0 else lower)[i] - x[i]  # exactly at its bound
    return x + z


def subspace_minimum(x, g, B, lower, upper, z):
    """The minimum of g'(p - x) + (p - x)'B(p - x) / 2 over the variables that are free at z, brought back into the box.

    By projection; where that does not descend, by shortening the way from z.

    Sources: Byrd, Lu, Nocedal, Zhu (1995), section 5; J. L. Morales, J. Nocedal, ACM TOMS 38 (2011), section 3.
    """
    free = np.flatnonzero((z > lower) & (z < upper))
    p = np.array(z)
    if free.size == 0:
        return p
    d = -np.linalg.solve(B[np.ix_(free, free)], (g + B @ (z - x))[free])
    p[free] = np.clip(z[free] + d, lower[free], upper[free])
    if (p - x) @ g < 0:
        return p
    share = 1.0
    for i, step in zip(free, d, strict=True):
        if step > 0:
            share = min(share, (upper[i] - z[i]) / step)
        elif step < 0:
            share = min(share, (lower[i] - z[i]) / step)
    p[free] = z[free] + share * d
    return p


def newton_cg(g, H, products, share):
    """Conjugate gradients on H d = -g, and how many products they took.

    They end at |H d + g| <= min(share, sqrt|g|) |g|, after `products` products, or where H curves downwards; if it does
    so at once, -g is gone along by |g|^2 / |g'H g|, or 1 if that is larger.

    Source: N&W, algorithm 7.1, where share is 1/2 and the length of the last case is 1.
    """
    enough = min(share, np.sqrt(np.linalg.norm(g))) * np.linalg.norm(g)
    d, r, p = np.zeros_like(g), np.array(g), -g
    for count in range(products):
        curvature = p @ H @ p
        if curvature <= np.finfo(float).eps * (p @ p):
            first = min(1.0, (g @ g) / abs(curvature)) if curvature else 1.0
            return (d if count else -first * g), count + 1
        step = (r @ r) / curvature
        d = d + step * p
        after = r + step * H @ p
        if np.linalg.norm(after) <= enough:
            return d, count + 1
        p = -after + (after @ after) / (r @ r) * p
        r = after
    return d, products


def hager_zhang(g, y, d, eta=0.01):
    """The conjugate direction after d, of the new gradient g and its change y; steepest descent unless d'y > 0.

    Source: W. W. Hager, H. Zhang, SIAM J. Optim. 16 (2005), (1.2), (1.3), (1.5) and (1.6).
    """
    dy = d @ y
    if dy <= 0:
        return -g
    beta = (y - 2 * d * (y @ y) / dy) @ g / dy
    least = -1 / (np.linalg.norm(d) * min(eta, np.linalg.norm(g - y)))
    return -g + max(beta, least) * d

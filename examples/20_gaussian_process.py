r"""
A Gaussian process and its hyper-parameters
===========================================

A Gaussian process says how alike the values of an unknown function are at two places, here by

.. math:: k(x, x') = \sigma^2 \exp\left(-\frac{(x - x')^2}{2 \ell^2}\right),

and that each observation carries noise of size :math:`\tau`. Length scale :math:`\ell`, amplitude :math:`\sigma` and
noise :math:`\tau` are found from the data, by minimising the negative logarithm of their probability (Rasmussen and
Williams, 2006, equation 2.30),

.. math:: f(\theta) = \frac{1}{2} \mathbf{y}^\top K^{-1} \mathbf{y} + \frac{1}{2} \log \det K + \frac{n}{2} \log 2 \pi,
   \qquad K = k(\mathbf{x}, \mathbf{x}) + \tau^2 I.

Three smooth parameters between bounds, and more than one minimum: a problem for L-BFGS-B from many starts. The page
finds the minima, looks at the surface that they lie in, and asks how the fitted values answer to a single observation.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm

import jaxopt_lectures as jol

plt.style.use("jaxopt_lectures.diagnostics.lectures")
NAMES = ("length scale", "amplitude", "noise")

# %%
# The formula, with a Cholesky factor for inverse and determinant: if :math:`K = L L^\top` and :math:`L \mathbf{w} =
# \mathbf{y}`, then :math:`\mathbf{y}^\top K^{-1} \mathbf{y} = \mathbf{w}^\top \mathbf{w}`. The parameters are
# logarithms, so that a factor of two is a step of the same length everywhere. Data are arguments, not part of the
# function: other data then need no other program.


def covariance(theta, a, b):
    """k(a, b) at all pairs of places."""
    length, amplitude, _ = jnp.exp(theta)
    return amplitude**2 * jnp.exp(-((a[:, None] - b) ** 2) / (2 * length**2))


def of_observations(theta, x):
    """K: the covariance of what is observed, with its noise."""
    return covariance(theta, x, x) + jnp.exp(2 * theta[2]) * jnp.eye(x.size)


def unlikelihood(theta, x, y):
    """The negative log marginal likelihood."""
    root = jnp.linalg.cholesky(of_observations(theta, x))
    w = jax.scipy.linalg.solve_triangular(root, y, lower=True)
    return w @ w / 2 + jnp.sum(jnp.log(jnp.diag(root))) + x.size / 2 * jnp.log(2 * jnp.pi)


# %%
# Sixteen starts at once
# ----------------------
# Ten observations, drawn from a process with :math:`\ell = 1`, :math:`\sigma = 1`, :math:`\tau = 0.1`. The bounds keep
# a search from running off to where nothing changes any more. ``jax.vmap`` runs all starts in one program; each stops
# by itself. Two minima are found.

with jax.enable_x64(True):
    random = np.random.default_rng(22)
    x = np.sort(random.uniform(-6, 6, 10))
    smooth = np.linalg.cholesky(np.exp(-((x[:, None] - x) ** 2) / 2) + 1e-10 * np.eye(10)) @ random.normal(size=10)
    x, y = jnp.asarray(x), jnp.asarray(smooth + 0.1 * random.normal(size=10))

    bounds = jol.Bounds(jnp.log(jnp.array([0.05, 0.05, 0.01])), jnp.log(jnp.array([20.0, 20.0, 5.0])))
    starts = jax.random.uniform(jax.random.key(1), (16, 3), minval=bounds.lb, maxval=bounds.ub)

    def fit(start, x, y):
        """The hyper-parameters' logarithms at the minimum that is reached from `start`, and all about it."""
        return jol.minimize(unlikelihood, start, args=(x, y), bounds=bounds, gtol=1e-10)

    results = jax.vmap(fit, in_axes=(0, None, None))(starts, x, y)

values = np.asarray(results.fun)
low = values < values.min() + 1e-6
first, second = int(np.flatnonzero(low)[0]), int(np.flatnonzero(~low)[0])
print(f"{int(results.success.sum())} of 16 starts converged, in {results.nit.min()} to {results.nit.max()} iterations")
print(f"\n{'minimum':>9} {'starts':>7}" + "".join(f"{name:>14}" for name in NAMES))
for index, count in ((first, low.sum()), (second, (~low).sum())):
    print(f"{values[index]:9.4f} {count:7}" + "".join(f"{number:14.3f}" for number in np.exp(results.x[index])))

# %%
# What they mean
# --------------
# Given the hyper-parameters, the function's values at new places are normal, with a mean and a variance in closed form
# (Rasmussen and Williams, 2.23 and 2.24). Before the fit (at one of the starts) the process believes in the wrong
# scale. The lower minimum reads the data as a function that moves quickly and little noise; the other as a slow one in
# much noise. Half a unit of the logarithm is between them, and ten observations: both are sensible readings. The
# bands are two standard deviations of the function to either side.


def posterior(theta, x, y, places):
    """Mean and standard deviation of the function at new places."""
    across = covariance(theta, places, x)
    root = jax.scipy.linalg.cho_factor(of_observations(theta, x))
    variance = jnp.exp(2 * theta[1]) - jnp.sum(across.T * jax.scipy.linalg.cho_solve(root, across.T), axis=0)
    return across @ jax.scipy.linalg.cho_solve(root, y), jnp.sqrt(variance)


with jax.enable_x64(True):
    places = jnp.linspace(-7, 7, 200)
    shown = {"before, at a start": starts[first], "lower minimum": results.x[first], "other minimum": results.x[second]}
    many = jax.jit(jax.vmap(posterior, in_axes=(0, None, None, None)))
    means, deviations = (np.asarray(part) for part in many(jnp.stack(list(shown.values())), x, y, places))

figure, panels = plt.subplots(1, 3, figsize=(9.5, 3), sharey=True)
for axes, color, name, mean, deviation in zip(panels, ("0.45", "C0", "C3"), shown, means, deviations, strict=True):
    axes.fill_between(places, mean - 2 * deviation, mean + 2 * deviation, color=color, alpha=0.2, linewidth=0)
    axes.plot(places, mean, color=color)
    axes.plot(x, y, "ko", markersize=4)
    length, amplitude, noise = np.exp(shown[name])
    axes.set(title=name, xlabel="$x$")
    axes.text(
        0.03,
        0.03,
        rf"$\ell = {length:#.2g},\ \sigma = {amplitude:#.2g},\ \tau = {noise:#.2g}$",
        transform=axes.transAxes,
    )
panels[0].set(ylabel="observation $y$", ylim=(-5, 5))
plt.show()

# %%
# The surface
# -----------
# A factor :math:`c` of both amplitude and noise divides :math:`\mathbf{y}^\top K^{-1} \mathbf{y}` by :math:`c^2` and
# adds :math:`n \log c` to :math:`f`. Its best value is a closed form, :math:`c^2 = \mathbf{y}^\top K^{-1} \mathbf{y} /
# n`, so that of the three parameters two are left to draw: the length scale, and the noise relative to the amplitude.
# Circles are the starts; lines join each to where it ended. Which minimum a start comes to is hard to tell from where
# it lies: hence sixteen of them.


def of_ratio(length, ratio, x, y):
    """The least f for this length scale and this ratio of noise to amplitude; logarithms of both."""
    root = jnp.linalg.cholesky(of_observations(jnp.stack([length, jnp.zeros_like(ratio), ratio]), x))
    w = jax.scipy.linalg.solve_triangular(root, y, lower=True)
    return x.size / 2 * jnp.log(2 * jnp.pi * jnp.e * (w @ w) / x.size) + jnp.sum(jnp.log(jnp.diag(root)))


begin, end = (np.stack([p[:, 0], p[:, 2] - p[:, 1]], axis=1) for p in (np.asarray(starts), np.asarray(results.x)))
with jax.enable_x64(True):
    across, up = jnp.log(jnp.geomspace(0.04, 25, 80)), jnp.log(jnp.geomspace(5e-4, 60, 80))
    both = jax.jit(jax.vmap(jax.vmap(of_ratio, in_axes=(0, None, None, None)), in_axes=(None, 0, None, None)))
    surface = np.asarray(both(across, up, x, y)) - values.min()
    at_ends = np.asarray(jax.jit(jax.vmap(of_ratio, in_axes=(0, 0, None, None)))(*jnp.asarray(end.T), x, y))

figure, axes = plt.subplots(figsize=(6.6, 4.2))
levels = np.array([0, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 10, 20])
shades = {"norm": BoundaryNorm(levels, 256, extend="max"), "cmap": "cividis_r", "extend": "max"}
picture = axes.contourf(np.exp(across), np.exp(up), surface, levels, **shades)
axes.contour(np.exp(across), np.exp(up), surface, levels, colors="white", linewidths=0.5)
for index in range(16):
    color = "C0" if low[index] else "C3"
    axes.plot(*np.exp([begin[index], end[index]]).T, color=color, linewidth=0.8)
    axes.plot(*np.exp(begin[index]), "o", color="white", markeredgecolor=color, markersize=5)
for index, color in ((first, "C0"), (second, "C3")):
    axes.plot(*np.exp(end[index]), "*", color=color, markeredgecolor="white", markersize=15, zorder=3)
axes.set(
    title="Two minima, from sixteen starts",
    xscale="log",
    yscale="log",
    xlabel=r"length scale $\ell$",
    ylabel=r"noise / amplitude, $\tau / \sigma$",
)
axes.grid(visible=False)
figure.colorbar(picture, ax=axes, label="$f$ above its minimum (nats)", ticks=levels, format="%g")
plt.show()

# %%
# What one observation does
# -------------------------
# The fit is a function of the data, :math:`\hat\theta(\mathbf{y})`, and it has a derivative. The gradient is zero at
# the minimum, whatever the data, so that
#
# .. math:: \frac{\partial \hat\theta}{\partial \mathbf{y}} =
#    -\left(\frac{\partial^2 f}{\partial \theta^2}\right)^{-1}
#    \frac{\partial^2 f}{\partial \theta\, \partial \mathbf{y}},
#
# and that is what ``jax.jacobian`` of a minimisation computes: it does not go back through the iterations. Two checks:
# fitting again with one observation moved up and down (other data in ``args``: nothing is compiled for these twenty);
# and a sum that must come out. Data twice as large have twice the amplitude and the noise, and the same length scale,
# so :math:`\sum_i y_i\, \partial \log(\ell, \sigma, \tau) / \partial y_i = (0, 1, 1)`.

STEP = 1e-4
with jax.enable_x64(True):
    best = results.x[first]

    def refit(y):
        """The lower minimum for other observations; no bound is near, so BFGS will do."""
        return jol.minimize(unlikelihood, best, args=(x, y), method="bfgs", gtol=1e-10).x

    sensitivity = np.asarray(jax.jacobian(refit)(y))
    moved = np.array([[refit(y.at[i].add(step)) for step in (STEP, -STEP)] for i in range(10)])
    differences = (moved[:, 0] - moved[:, 1]).T / (2 * STEP)
euler = sensitivity @ np.asarray(y)
print(f"\n{'x':>6} {'y':>6}" + "".join(f"{name:>14}" for name in NAMES) + "   % of change if y is 0.01 higher")
for place, value, column in zip(np.asarray(x), np.asarray(y), sensitivity.T, strict=True):
    print(f"{place:6.2f} {value:6.2f}" + "".join(f"{number:+14.2f}" for number in column))
print(f"largest distance from finite differences {np.max(np.abs(sensitivity - differences)):.0e}")
print(f"sums of y times these: {np.round(euler, 6) + 0.0}")

figure, panels = plt.subplots(1, 3, figsize=(9.5, 2.8))
for axes, name, row in zip(panels, NAMES, sensitivity, strict=True):
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.vlines(x, 0, row, color="C0", linewidth=2)
    axes.plot(x, row, "o", color="C0", markersize=5)
    axes.set(title=name, xlabel="place $x$ of the observation")
panels[0].set(ylabel="change if $y$ is 0.01 higher (%)")
plt.show()

# %%
# The noise hangs on two observations, the neighbours at 4.04 and 4.22: a hundredth apart more, and the noise is a tenth
# larger. Nothing else among the ten tells noise from a quick function.

# %%
# Assertions
# ----------
# The likelihood is that of NumPy; its gradient is the formula of Rasmussen and Williams, 5.9, with the derivatives of
# :math:`K` by hand; and at a minimum :math:`\mathbf{y}^\top K^{-1} \mathbf{y} = n`, as the best common factor of
# :math:`\sigma` and :math:`\tau` has a closed form.

for index in (first, second):
    length, amplitude, noise = np.exp(np.asarray(results.x[index]))
    squares = np.subtract.outer(np.asarray(x), np.asarray(x)) ** 2
    smooth = amplitude**2 * np.exp(-squares / (2 * length**2))
    K = smooth + noise**2 * np.eye(10)
    inverse, weights = np.linalg.inv(K), np.linalg.solve(K, y)
    parts = (smooth * squares / length**2, 2 * smooth, 2 * noise**2 * np.eye(10))
    slopes = [np.sum((inverse - np.outer(weights, weights)) * part) / 2 for part in parts]
    np.testing.assert_allclose(
        values[index], np.asarray(y) @ weights / 2 + np.linalg.slogdet(2 * np.pi * K)[1] / 2, rtol=1e-12
    )
    np.testing.assert_allclose(results.grad[index], slopes, atol=1e-10)
    np.testing.assert_allclose(np.asarray(y) @ weights, 10, rtol=1e-9)

assert np.all(results.success)
assert low.sum() + np.sum(np.abs(values - values[second]) < 1e-6) == 16, "no third one"
assert 4 < low.sum() < 12
assert 0.4 < values[second] - values[first] < 0.5
np.testing.assert_allclose(at_ends, values, rtol=1e-12)
assert -1e-9 < surface.min() < 0.05, "the grid finds nothing lower"
np.testing.assert_allclose(sensitivity, differences, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(euler, [0, 1, 1], atol=1e-8)
assert np.all(np.abs(sensitivity[2, 7:9]) > 5 * np.max(np.abs(np.delete(sensitivity[2], [7, 8]))))

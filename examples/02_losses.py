r"""
Losses
======

Lecture 000 prints two losses, the mean squared and the mean absolute error, and lecture 002 prints both again under
other names, with the cross-entropy beside them:

.. math::

   \frac{1}{N}\sum_{i=1}^{N} (y_i - \hat y_i)^2 \qquad
   \frac{1}{N}\sum_{i=1}^{N} \left|y_i - \hat y_i\right| \qquad
   -\sum_{i=1}^{c} o_i \log(\hat y_i)

A loss is known by its slope, for that is all that an optimizer sees of it. This page draws the slopes, fits a line by
each of the first two, and shows why the third is not computed as it is printed.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxopt_lectures as jol
from jaxopt_lectures import losses

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# The formulas, and the code that is the formula
# ----------------------------------------------
# :math:`N` counts elements. Lecture 002 writes :math:`o` for the target and :math:`m` for :math:`N`; its "least square
# error" is a mean of squares, its "least absolute deviation" a mean of magnitudes, so they are the losses of lecture
# 000. There is no factor 1/2, while ``optax.l2_loss`` carries one.

y = jnp.array([1.0, 2.0, 3.0, 4.0])
y_hat = jnp.array([1.0, 1.0, 1.0, 1.0])

print("1/N sum (y - y_hat)^2:", jnp.mean((y - y_hat) ** 2), losses.mse(y, y_hat), losses.lse(y, y_hat))
print("1/N sum |y - y_hat|:  ", jnp.mean(jnp.abs(y - y_hat)), losses.mae(y, y_hat), losses.lad(y, y_hat))
print("mean of optax.l2_loss:", jnp.mean(optax.l2_loss(y_hat, y)))

assert losses.mse(y, y_hat) == losses.lse(y, y_hat) == 3.5
assert losses.mae(y, y_hat) == losses.lad(y, y_hat) == 1.5
assert losses.mse(y, y_hat) == 2 * jnp.mean(optax.l2_loss(y_hat, y))

# %%
# The slope of a square grows with the error; the slope of a magnitude is the same for all of them. At an error of 0 the
# magnitude has no slope, and 0 is taken, the middle of -1 and 1.

errors = jnp.linspace(-3, 3, 241)
loss_and_slope = {
    name: jax.vmap(jax.value_and_grad(lambda e, loss=loss: loss(0.0, e)))(errors)
    for name, loss in [("squared", losses.mse), ("absolute", losses.mae)]
}

figure, (left, right) = plt.subplots(1, 2)
for name, above, beside in [("squared", (0.9, 5.6), (0.7, 4.7)), ("absolute", (-2.95, 1.0), (1.6, 0.25))]:
    value, slope = loss_and_slope[name]
    (line,) = left.plot(errors, value)
    right.plot(errors, slope if name == "squared" else jnp.where(jnp.abs(errors) < 1e-3, jnp.nan, slope))
    left.text(*above, name, color=line.get_color())
    right.text(*beside, name, color=line.get_color())
right.plot(0, 0, "o", color=line.get_color(), markersize=5)
left.set(title="Loss of one prediction", xlabel="error $\\hat{y} - y$", ylabel="loss")
right.set(title="Its slope: what the optimizer sees", xlabel="error $\\hat{y} - y$", ylabel="slope by $\\hat{y}$")
plt.show()

# %%
# What the names of lecture 002 mean
# ----------------------------------
# "Least squares" and "least absolute deviations" are names of fits: of the line for which the sum of the squares, or of
# the magnitudes, is least. (A sum or a mean: the line is the same.) Here twenty points lie near
# :math:`y = 1 + x/2`, but for two that were measured wrongly. A far point pulls on the first line with its error,
# on the second only with its sign, like any other.

x = jnp.linspace(0, 10, 20)
noise = 0.2 * jax.random.normal(jax.random.key(0), x.shape)
measured = (1 + x / 2 + noise).at[jnp.array([16, 18])].set(jnp.array([0.5, 1.0]))


def fit(loss, steps=2000):
    """The line, as (intercept, slope at x = 10), with the least loss."""
    tx = jol.adam(jol.cosine_decay_schedule(0.1, steps))

    def step(carry, _):
        line, state = carry
        slope = jax.grad(lambda line: loss(measured, line[0] + line[1] * x / 10))(line)
        updates, state = tx.update(slope, state, line)
        return (jol.apply_updates(line, updates), state), None

    start = jnp.zeros(2)
    return jax.lax.scan(step, (start, tx.init(start)), length=steps)[0][0]


fits = {"least squares": jax.jit(fit, static_argnums=0)(losses.lse)}
fits["least absolute deviations"] = jax.jit(fit, static_argnums=0)(losses.lad)
for name, (intercept, rise) in fits.items():
    print(f"{name}: y = {intercept:.2f} + {rise / 10:.2f} x")

figure, axes = plt.subplots()
axes.plot(x, measured, "o", color="#444444", markersize=4)
for name, (intercept, rise) in fits.items():
    (line,) = axes.plot(x, intercept + rise * x / 10)
    axes.text(10.15, intercept + rise, name.replace("te d", "te\nd"), color=line.get_color(), va="center")
axes.text(8.15, 0.5, "measured wrongly", va="center", ha="right", color="#444444")
axes.set(title="Two wrong points bend one line and not the other", xlabel="x", ylabel="y", xlim=(-0.3, 12.2))
axes.set_xticks(range(0, 11, 2))
plt.show()

by_hand = np.linalg.lstsq(np.stack([np.ones(20), np.array(x) / 10], axis=1), np.array(measured), rcond=None)[0]
np.testing.assert_allclose(fits["least squares"], by_hand, atol=1e-3)
assert fits["least squares"][1] / 10 < 0.35
assert abs(fits["least absolute deviations"][1] / 10 - 0.5) < 0.05

# %%
# The cross-entropy, as printed and as computed
# ---------------------------------------------
# :math:`o` is the target, a row with a single 1, and :math:`\hat y` holds probabilities; the lecture says neither. A
# network's last layer gives logits :math:`z`, any real numbers, and :math:`\hat y` is their softmax. When the network
# is sure and wrong, :math:`\hat y_i` of the right class is so small that it is stored as 0, and the loss as printed is
# infinite. Taken together, the logarithm and the exponential cancel, and nothing is lost:
#
# .. math::
#
#    -\sum_i o_i \log \frac{e^{z_i}}{\sum_k e^{z_k}} = \sum_i o_i \left(\log \sum_k e^{z_k} - z_i\right), \qquad
#    \frac{\partial}{\partial z} = \hat y - o

o = jnp.array([1.0, 0.0])


def as_printed(z, dtype=jnp.float32):
    """The loss of logits (z, 0) by way of the probabilities, stored as `dtype`."""
    y_hat = jax.nn.softmax(jnp.stack([z, jnp.zeros_like(z)])).astype(dtype)
    return losses.cross_entropy(o, y_hat)


def as_computed(z):
    """The same without probabilities."""
    return losses.cross_entropy_with_logits(o, jnp.stack([z, jnp.zeros_like(z)]))


def squared(z):
    """The squared error of the same probability, for its slope."""
    return losses.mse(1.0, jax.nn.sigmoid(z))


print(" logit   as printed  (float16)   from logits")
for z in (-10.0, -30.0, -150.0):
    print(f"{z:6.0f} {as_printed(z):12.4f} {as_printed(z, jnp.float16):10.4f} {as_computed(z):13.4f}")

far, near = jnp.linspace(-150, 10, 1601), jnp.linspace(-10, 6, 161)
figure, (left, right) = plt.subplots(1, 2)
curves = [
    ("from logits", jax.vmap(as_computed)(far), 5.5, (-127, 134)),
    ("as printed,\nfloat32", jax.vmap(as_printed)(far), 1.8, (-80, 85)),
    ("as printed,\nfloat16", jax.vmap(lambda z: as_printed(z, jnp.float16))(far), 1.8, (-29, 38)),
]
colours = ("#56B4E9", "#0072B2", "#D55E00")
for (name, value, width, at), colour in zip(curves, colours, strict=True):
    left.plot(far, jnp.where(jnp.isinf(value), jnp.nan, value), color=colour, linewidth=width)
    left.text(*at, name, color=colour)
    if jnp.isinf(value).any():
        last = jnp.argmax(jnp.isfinite(value))
        left.plot(far[last], value[last], "o", color=colour, markersize=5)
left.set(title="As printed, the loss breaks off", xlabel="logit of the right class", ylabel="cross-entropy, nats")
left.set_ylim(-5, 160)
for name, loss, colour, at in [
    ("cross-entropy", as_computed, "#56B4E9", (-9.9, -0.95)),
    ("squared error", squared, "#E69F00", (-9.9, -0.08)),
]:
    right.plot(near, jax.vmap(jax.grad(loss))(near), color=colour)
    right.text(*at, name, color=colour)
right.set(title="A square is flat where it is wrong", xlabel="logit of the right class", ylabel="slope by the logit")
plt.show()

# %%
# The right picture is why classes are learned with the cross-entropy: its slope :math:`\hat y - o` stays at -1 however
# wrong the network is, while the squared error of a probability has no slope left to learn from.

assert as_printed(-150.0) == jnp.inf
assert as_printed(-30.0, jnp.float16) == jnp.inf
assert not jnp.isfinite(jax.grad(as_printed)(-150.0)), "and its gradient is no number either"
assert as_computed(-150.0) == 150
assert jax.grad(as_computed)(-150.0) == -1
assert jnp.allclose(jax.grad(as_computed)(0.7), jax.nn.sigmoid(0.7) - 1, atol=1e-6)
assert abs(jax.grad(squared)(-10.0)) < 1e-3 < 0.99 < abs(jax.grad(as_computed)(-10.0))
assert jax.grad(lambda e: losses.mae(0.0, e))(0.0) == 0
assert (loss_and_slope["squared"][1] == 2 * errors).all()
assert (loss_and_slope["absolute"][1] == jnp.sign(errors)).all()

r"""
The neuron, and XOR
===================

Lectures 000 and 004 begin with the artificial neuron,

.. math::

   y = f(\mathbf{w}^\top \mathbf{x} + b),

a weighted sum and a nonlinear function. With a step for :math:`f` it is the perceptron: it decides on which side of a
line its input lies. No line separates the cases of the exclusive or, so that one neuron cannot compute it; lecture
004's two layers can, exactly. But a step has no slope, and without a slope nothing can be trained by gradients. With a
smooth :math:`f` it can: here 24 networks a method, all in one compiled program, learn XOR or fail to, depending on how
many hidden neurons they have.
"""

import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.models.neuron import neuron, sigmoid, step, xor_net

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# Activations
# -----------
# Lecture 004's step is 1 from 0 on. Lecture 000's sigmoid is a soft step, the softer the smaller :math:`\alpha`:
#
# .. math::
#
#    f(z) = \frac{1}{1 + e^{-\alpha z}}, \qquad f'(z) = \alpha f(z) (1 - f(z)) \le \frac{\alpha}{4}.
#
# The lecture adds :math:`\tanh(z) = 2\,\mathrm{sigmoid}(2z) - 1`, which is true for :math:`\alpha = 1` only. The right
# panel is what back-propagation sees of each: of the step, nothing.

z = jnp.linspace(-6, 6, 241)
slopes = {"sigmoid, slope 1/2": 0.5, "sigmoid, slope 1": 1.0, "sigmoid, slope 4": 4.0}
functions = {name: (lambda z, alpha=alpha: sigmoid(z, alpha)) for name, alpha in slopes.items()}
functions |= {"tanh": jnp.tanh, "step": step}

figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.2))
for name, f in functions.items():
    left.plot(z, f(z), label=name)
    right.plot(z, jax.vmap(jax.grad(f))(z), label=name)
left.set(title="Activation", xlabel="z", ylabel="f(z)")
right.set(title="Its slope: what back-propagation sees", xlabel="z", ylabel="f'(z)")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
plt.show()

identity_error = {
    alpha: float(jnp.max(jnp.abs(2 * sigmoid(2 * z, alpha) - 1 - jnp.tanh(z)))) for alpha in (0.5, 1.0, 4.0)
}
for alpha, error in identity_error.items():
    print(f"alpha {alpha:3}: |2 sigmoid(2z) - 1 - tanh z| <= {error:.1e}")

# %%
# One neuron is one line
# ----------------------
# A step neuron with two inputs has three numbers. Of 41 values for each, 68921 neurons in all, many compute *or*, *and*
# and *not-and*; of *exclusive or* the best have three rows of four. The reason fits in two lines: the rows ask for
# :math:`b < 0`, :math:`w_1 + b \ge 0`, :math:`w_2 + b \ge 0` and :math:`w_1 + w_2 + b < 0`. The middle two add up to
# :math:`w_1 + w_2 + 2b \ge 0`, the outer two to :math:`w_1 + w_2 + 2b < 0`.

x = jnp.array(list(itertools.product((0.0, 1.0), repeat=2)))
truth = {"or": [0, 1, 1, 1], "and": [0, 0, 0, 1], "not-and": [1, 1, 1, 0], "exclusive or": [0, 1, 1, 0]}
grid = jnp.arange(-20.0, 21.0)  # only their ratios matter to a step
w1, w2, b = (axis.ravel() for axis in jnp.meshgrid(grid, grid, grid))
answers = jax.vmap(lambda w1, w2, b: neuron(x, jnp.stack([w1, w2]), b, step))(w1, w2, b)  # (68921, 4)

best = {}
for name, rows in truth.items():
    right_rows = jnp.sum(answers == jnp.array(rows), axis=1)
    best[name] = int(right_rows.max())
    perfect = int(jnp.sum(right_rows == 4))
    print(f"{name:12} best of {len(answers)} step neurons: {best[name]} of 4 rows; {perfect} have all four")

# %%
# Two layers
# ----------
# Lecture 004's network of step neurons: hidden neurons for *or* and *not-and*, and *and* on top,
#
# .. math::
#
#    h_1 = s(x_1 + x_2 - \frac{1}{2}), \qquad h_2 = s(-x_1 - x_2 + \frac{3}{2}), \qquad
#    \hat{y} = s(h_1 + h_2 - \frac{3}{2}).
#
# It is right by construction, and it has to be constructed: the gradient through its steps is 0, wherever one looks.

print("\nxor_net:", *(f"{int(a)} xor {int(c)} = {int(y)}" for (a, c), y in zip(x, xor_net(x), strict=True)), sep="  ")
target = jnp.array(truth["exclusive or"], jnp.float32)
one_neuron = jax.grad(lambda w: jnp.mean((target - neuron(x, w[:2], w[2], step)) ** 2))
through_steps = jax.vmap(one_neuron)(jax.random.normal(jax.random.key(0), (100, 3)))
print(f"gradient of 100 random step neurons: largest entry {float(jnp.abs(through_steps).max())}")

# %%
# Training it
# -----------
# With sigmoids for steps, weights drawn from N(0, 1) and lecture 000's mean squared error, 5000 steps on the four rows
# train the same two layers. A mask puts hidden neurons out of use, so that one program serves all sizes. Each optimizer
# has one rate that suits it.

HIDDEN, SEEDS, STEPS = (1, 2, 4, 8), 24, 5000
METHODS = {
    "gradient descent": jol.sgd(2.0),
    "momentum": jol.momentum(0.5, 0.9),
    "AdaGrad": jol.adagrad(0.5),
    "RMSProp": jol.rmsprop(0.02),
    "Adam": jol.adam(0.05),
}


def draw(key):
    """Weights of two inputs, eight hidden neurons and one output."""
    hidden, output = jax.random.split(key)
    w = jax.random.normal(hidden, (2, 8)), jax.random.normal(output, (8,))
    return {"w": w, "b": (jnp.zeros(8), jnp.zeros(()))}


def network(p, x, alive):
    """A neuron of neurons."""
    hidden = neuron(x, p["w"][0], p["b"][0], sigmoid) * alive
    return neuron(hidden, p["w"][1], p["b"][1], sigmoid)


def train(tx, key, alive):
    """The weights after the last step."""

    def loss(p):
        """Lecture 000's."""
        return jnp.mean((target - network(p, x, alive)) ** 2)

    return trajectory(tx, loss, draw(key), STEPS, keep=lambda p: ()).params


keys = jax.random.split(jax.random.key(0), SEEDS)
masks = (jnp.arange(8) < jnp.array(HIDDEN)[:, None]).astype(jnp.float32)
solved, weights = {}, {}
print(f"\n{'solved, %':18}" + "".join(f"{count:>4} hidden" for count in HIDDEN))
for name, tx in METHODS.items():
    every = jax.jit(jax.vmap(jax.vmap(lambda k, alive, tx=tx: train(tx, k, alive), (0, None)), (None, 0)))
    weights[name] = every(keys, masks)  # leading axes: sizes, seeds
    y = jax.vmap(lambda p, alive: jax.vmap(lambda p: network(p, x, alive))(p))(weights[name], masks)
    solved[name] = np.mean(np.all((y > 0.5) == (target > 0.5), axis=-1), axis=1)
    print(f"{name:18}" + "".join(f"{100 * share:11.0f}" for share in solved[name]))

# %%
# One hidden neuron never does, eight always do. Two are enough on paper, and yet many a start rolls into a local
# minimum there, under every optimizer: room to spare is what makes the problem easy, more than the method.

figure, axis = plt.subplots()
positions = np.arange(len(HIDDEN))
for index, (name, share) in enumerate(solved.items()):
    axis.bar(positions + 0.16 * (index - 2), 100 * share, width=0.15, label=name)
axis.set(title=f"How many of {SEEDS} networks learn XOR", ylabel="solved, %", xlabel="hidden neurons")
axis.set_xticks(positions, HIDDEN)
axis.grid(axis="x", visible=False)
axis.annotate("none", (0, 2), ha="center", color="0.3", fontsize=8)
axis.legend(loc="upper left")
plt.show()

# %%
# What they compute between the corners
# -------------------------------------
# The step network draws two lines and answers 1 between them. The trained ones, of eight neurons, cut off the two
# corners of a 1 with curves instead: the same table, another function, for every seed a little other. A dot is a 1 of
# the truth table, a cross a 0.

fine = jnp.linspace(-0.25, 1.25, 100)
plane = jnp.stack(jnp.meshgrid(fine, fine), axis=-1)
surfaces = {"by construction": xor_net(plane)}
for seed in (0, 1, 4):
    p = jax.tree.map(lambda a, seed=seed: a[-1, seed], weights["momentum"])
    surfaces[f"trained, seed {seed}"] = network(p, plane, masks[-1])

figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), sharey=True)
for axis, (name, surface) in zip(axes, surfaces.items(), strict=True):
    image = axis.pcolormesh(fine, fine, surface, vmin=0, vmax=1, shading="auto", rasterized=True)
    if name.startswith("trained"):
        axis.contour(fine, fine, surface, [0.5], colors="white", linewidths=1)
    for (a, c), y in zip(x, target, strict=True):
        axis.plot(a, c, "o" if y else "x", color="white" if not y else "black", markersize=7)
    axis.set(title=name, xlabel="$x_1$", aspect="equal", xticks=(0, 1), yticks=(0, 1))
    axis.grid(visible=False)
axes[0].set_ylabel("$x_2$")
figure.colorbar(image, ax=axes, label="output", fraction=0.02)
plt.show()

# %%
# What this page teaches, as assertions.

assert identity_error[1.0] < 1e-6
assert min(identity_error[0.5], identity_error[4.0]) > 0.1, "another slope, another function"
assert step(0.0) == 1
assert np.all(through_steps == 0), "no optimizer can use this"
assert best == {"or": 4, "and": 4, "not-and": 4, "exclusive or": 3}
assert np.array_equal(xor_net(x), target)
assert np.abs(jax.vmap(jax.grad(lambda z: sigmoid(z, 4.0)))(z)).max() <= 1.0
for share in solved.values():
    assert share[0] == 0, "one hidden neuron is one line"
    assert share[1] < 0.95, "two can, and often do not"
    assert share[-1] > 0.95, "eight do"

r"""
Convolutions
============

Lecture 004 ends the search for an architecture at convolution layers: each neuron looks at a small *local receptive
field*, and all neurons of a map share their weights,

.. math::

   z_{ij} = b + \sum_{k=1}^{m} \sum_{l=1}^{m} w_{kl}\, x_{i+k,\, j+l} .

That is a dense layer with most weights forced to 0 and the others forced to be equal. What is gained is seen here on
LeNet: what a neuron sees, how many weights are saved, that a moved image gives moved feature maps, and that a network
which knows this from the start learns digits that stand anywhere, where a dense network of as many weights does not.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.models.lenet import LeNet
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.models.resnet import resnet18, resnet20, resnet50
from jaxopt_lectures.models.vgg import VGG
from jaxopt_lectures.tasks import digits

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# What a neuron sees
# ------------------
# The pixels on which a neuron depends are those where its slope with respect to the image is not 0. In LeNet's first
# layer they are 5 x 5 of 28 x 28 pixels. A neuron of the second sees 5 x 5 means of 2 x 2 of these: 14 x 14 pixels.
# From there on everything is dense, and sees all.

lenet = LeNet(activation=jax.nn.sigmoid, rngs=nnx.Rngs(0))
image = jax.random.uniform(jax.random.key(0), (28, 28, 1))
first, second = lenet.convolutions


def in_first(x):
    """The neuron at (14, 14) of the first map."""
    return first(x)[14, 14, 0]


def in_second(x):
    """The neuron at (5, 5) of the second layer's first map."""
    pooled = nnx.pool(jax.nn.sigmoid(first(x)), 0.0, jax.lax.add, (2, 2), (2, 2), "VALID") / 4
    return second(pooled)[5, 5, 0]


def in_dense(x):
    """The first logit."""
    return lenet(x)[0]


neurons = {"layer 1": in_first, "layer 2": in_second, "output": in_dense}
fields = {name: np.asarray(jax.jit(jax.grad(neuron))(image)[..., 0] != 0) for name, neuron in neurons.items()}
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7))
for axis, (name, field) in zip(axes, fields.items(), strict=True):
    axis.imshow(field, vmin=0, vmax=1)
    side = int(field.any(axis=0).sum())
    axis.set(title=f"{name}: {side} x {side} pixels", xticks=(0, 27), yticks=(0, 27))
    axis.grid(visible=False)
plt.show()

# %%
# How many weights
# ----------------
# Six maps of 28 x 28 neurons on an image of 28 x 28 pixels: dense, each neuron has 784 weights and a bias of its own;
# convolved, all neurons of a map have 25 weights and a bias together. The large networks are counted without allocating
# them (``nnx.eval_shape``). VGG has 90 % of its weights in three dense layers; ResNets do without these, and are
# smaller although deeper.


def count(make):
    """Number of parameters, from shapes alone."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(make), nnx.Param)))


counts = {
    "one layer, dense": (28 * 28 + 1) * 6 * 28 * 28,
    "one layer, convolution": (5 * 5 + 1) * 6,
    "LeNet": count(lambda: LeNet(rngs=nnx.Rngs(0))),
    "ResNet-20 (CIFAR)": count(lambda: resnet20(rngs=nnx.Rngs(0))),
    "ResNet-18": count(lambda: resnet18(rngs=nnx.Rngs(0))),
    "ResNet-50": count(lambda: resnet50(rngs=nnx.Rngs(0))),
    "VGG-16": count(lambda: VGG(16, rngs=nnx.Rngs(0))),
}
for name, parameters in counts.items():
    print(f"{name:24}{parameters:14,}")

# %%
# Digits that stand anywhere
# --------------------------
# Scikit-learn's digits are 8 x 8 pixels. Here each is put at a random place of a 12 x 12 canvas, another one every time
# it is shown. A small LeNet (two convolutions of 3 x 3, 3658 weights) and a dense network of as many (144-24-10, 3730
# weights) are trained on the same batches by Adam; 600 steps of 64.

data = digits.data()
(x, y), (x_new, y_new) = (
    (jnp.asarray(examples.x).reshape(-1, 8, 8, 1), jnp.asarray(examples.y))
    for examples in (data.train, data.validation)
)


def place(key, images):
    """Each image somewhere on an empty canvas."""
    corners = jax.random.randint(key, (len(images), 2), 0, 5)
    empty = jnp.zeros((12, 12, 1))
    return jax.vmap(lambda image, at: jax.lax.dynamic_update_slice(empty, image, (at[0], at[1], 0)))(images, corners)


class Dense(nnx.Module):
    """A perceptron that takes the pixels in a row."""

    def __init__(self, rngs):
        self.mlp = MLP((144, 24, 10), activation=jax.nn.relu, rngs=rngs)

    def __call__(self, x):
        """Maps (N, 12, 12, 1) to (N, 10)."""
        return self.mlp(x.reshape(len(x), -1))


rngs = nnx.Rngs(0)
networks = {
    "convolutions": LeNet((12, 12, 1), channels=(8, 16), dense=(32,), kernel=3, activation=jax.nn.relu, rngs=rngs),
    "dense": Dense(rngs),
}
STEPS = 600
which = jax.random.randint(jax.random.key(1), (STEPS, 64), 0, len(x))
batches = (x[which], y[which], jax.random.split(jax.random.key(2), STEPS))
x_placed = place(jax.random.key(3), x_new)

curves, accuracy, weights = {}, {}, {}
for name, model in networks.items():
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, batch, graph=graph, rest=rest):
        """Mean cross-entropy of images at random places."""
        images, labels, key = batch
        return digits.cross_entropy(nnx.merge(graph, params, rest, copy=True), place(key, images), labels)

    weights[name] = sum(leaf.size for leaf in jax.tree.leaves(params))
    run = jax.jit(lambda p, b, loss=loss: trajectory(jol.adam(0.02), loss, p, STEPS, batches=b, keep=lambda p: ()))
    found = run(params, batches)
    nnx.update(model, found.params)
    curves[name], accuracy[name] = np.asarray(found.values), float(digits.accuracy(model, x_placed, y_new))
    print(f"{name:14}{weights[name]:6} weights, accuracy on new digits at new places {accuracy[name]:.1%}")

# %%
# What it has learned
# -------------------
# On the left, the eight filters of the first layer (blue: positive). Then two images of one digit, two pixels apart,
# and below each the maps of three filters: they are the same maps, two pixels apart. A convolution commutes with a
# shift, :math:`f(\text{shift}(x)) = \text{shift}(f(x))`. It is asserted below for all eight; the dense layer has no
# such law.

model = networks["convolutions"]
filters = np.asarray(model.convolutions[0].kernel[...])[:, :, 0]  # (3, 3, 8)
canvas = jnp.zeros((12, 12, 1)).at[1:9, 1:9].set(x_new[3])
shifted = jnp.roll(canvas, (2, 2), axis=(0, 1))
maps, moved = (jax.nn.relu(model.convolutions[0](image)) for image in (canvas, shifted))
strongest = np.argsort(-np.asarray(maps).sum(axis=(0, 1)))[:3]

TITLES = ("eight filters", "image", "three of its maps", "the image, moved", "the maps of that")
figure = plt.figure(figsize=(8.6, 3.6))
grid = figure.add_gridspec(4, 10)
small = [figure.add_subplot(grid[row, column]) for row in range(4) for column in range(2)]
large = [[figure.add_subplot(grid[r : r + 2, c : c + 2]) for c in (2, 4, 6, 8)] for r in (0, 2)]
largest = np.abs(filters).max()
for index, axis in enumerate(small):
    axis.imshow(filters[..., index], cmap="RdBu", vmin=-largest, vmax=largest)
for row, (image, found) in zip(large, ((canvas, maps), (shifted, moved)), strict=True):
    row[0].imshow(image[..., 0])
    for axis, index in zip(row[1:], strongest, strict=True):
        axis.imshow(found[..., index])
for axis in (*small, *large[0], *large[1]):
    axis.set(xticks=(), yticks=())
    axis.grid(visible=False)
for axis, title in zip((small[0], *large[0][:2], *large[1][:2]), TITLES, strict=True):
    axis.set_title(title)
plt.show()

# %%
# The training itself: the dense network has to learn every digit at every place anew.

figure, axis = plt.subplots()
for name, values in curves.items():
    axis.plot(
        np.convolve(values, np.ones(20) / 20, mode="valid"), label=f"{name}: {accuracy[name]:.0%} of new digits right"
    )
axis.set(title="Digits at random places, as many weights", xlabel="step", ylabel="loss, nats (mean of 20 batches)")
axis.legend()
plt.show()

# %%
# What this page teaches, as assertions.

sides = [int(field.any(axis=0).sum()) for field in fields.values()]
assert sides == [5, 14, 28]
assert counts["one layer, dense"] == 3_692_640
assert counts["one layer, convolution"] == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(first, nnx.Param)))
published = {"LeNet": 61_706, "ResNet-18": 11_689_512, "ResNet-50": 25_557_032, "VGG-16": 138_357_544}
assert {name: counts[name] for name in published} == published
assert float(maps.max()) > 0.1
assert jnp.allclose(moved[2:, 2:], maps[:-2, :-2], atol=1e-5), "f(shift(x)) = shift(f(x)), as far as the canvas goes"
row = networks["dense"].mlp.layers[0]
assert not jnp.allclose(row(canvas.ravel()), row(shifted.ravel()), atol=0.1)
assert abs(weights["convolutions"] / weights["dense"] - 1) < 0.05, "as many weights"
assert accuracy["convolutions"] > accuracy["dense"] + 0.05
assert accuracy["convolutions"] > 0.85

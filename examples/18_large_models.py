r"""
Large models: what the optimizer needs
======================================

Lecture 000 ends with a table of large networks, and with the advice to "use more efficient optimizers, momentum, Adam".
Efficient in steps, that is. In memory an optimizer costs what it remembers of each weight:

.. math::

   \text{bytes} = \text{parameters} \times \sum_{\text{slots}} \text{bytes per number},

and for Adam, with two means in single precision, that is 8 bytes a parameter: 1400 GB for the 175 billion of GPT-3. The
weights themselves, in half precision, are 350 GB. Here every optimizer of the package is asked what it would store for
such a network. Nothing of it is allocated: ``jax.eval_shape`` runs ``init`` on shapes alone.
"""

import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.models.resnet import resnet50
from jaxopt_lectures.models.transformer import gpt2_small
from jaxopt_lectures.models.vgg import VGG

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# The table of lecture 000
# ------------------------
# As printed (YOLOv3 is given with 62 million elsewhere). Weights and their gradient in bfloat16 take 2 bytes each.

MODELS = {"YOLO-V3": 65e6, "GLM-XXLarge": 10e9, "ViT-MoE-15B": 14.7e9, "GPT-3": 175e9}

# %%
# A network of 175 billion parameters, without its numbers
# --------------------------------------------------------
# GPT-3 has 96 layers of width 12288, 50257 tokens and 2048 positions. In each layer four square matrices make queries,
# keys, values and output, and two make the hidden layer of four times the width: :math:`12\, d^2` weights. The layers
# are alike, so that their arrays are stacked along a first axis.


def array(*shape):
    """A shape and a dtype, and no numbers."""
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


def transformer(layers, width, tokens, positions):
    """The parameters of a decoder, abstract."""

    def linear(inputs, outputs):
        return {"kernel": array(layers, inputs, outputs), "bias": array(layers, outputs)}

    return {
        "tokens": array(tokens, width),
        "positions": array(positions, width),
        "norms": {"scale": array(2 * layers + 1, width), "bias": array(2 * layers + 1, width)},
        "attention_in": linear(width, 3 * width),
        "attention_out": linear(width, width),
        "hidden": linear(width, 4 * width),
        "back": linear(4 * width, width),
    }


def numbers(tree):
    """How many numbers are in the arrays of a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def size(tree):
    """Bytes of all arrays of a tree, of shapes or of real ones."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


gpt3 = transformer(layers=96, width=12288, tokens=50257, positions=2048)
parameters = numbers(gpt3)
print(f"GPT-3: {parameters:,} parameters, {size(gpt3) / 1e9:.0f} GB in bfloat16\n")

# %%
# What each optimizer stores
# --------------------------
# The state keeps its means in float32 even for bfloat16 weights: in bfloat16 a mean of squares stalls, because
# :math:`0.999\, v + 0.001\, g^2` rounds back to :math:`v`. A mean of the gradients may be stored in bfloat16
# (``mu_dtype``). Three of optax are beside ours, as they also take abstract parameters: Adafactor keeps row and column
# means of :math:`g^2` instead of a matrix, L-BFGS ten pairs of vectors as large as the weights, and optax's Adam copies
# the parameters' dtype, which halves its memory at the price just named.


def state_bytes(tx):
    """Bytes of the state for one parameter of GPT-3."""
    return size(jax.eval_shape(tx.init, gpt3)) / parameters


stored = {card.name: state_bytes(card.factory(card.learning_rate)) for card in jol.registry.cards()}
stored["adam, mu_dtype=bfloat16"] = state_bytes(jol.adam(1e-3, mu_dtype=jnp.bfloat16))
stored["optax.adam"] = state_bytes(optax.adam(1e-3))
stored["optax.adafactor"] = state_bytes(optax.adafactor(1e-3))
stored["optax.scale_by_lbfgs(10)"] = state_bytes(optax.scale_by_lbfgs(10))
stored = dict(sorted(stored.items(), key=lambda item: item[1]))

print(f"{'optimizer':26} {'bytes a parameter':>17} {'GB at 175e9':>12}")
for name, bytes_each in stored.items():
    print(f"{name:26} {bytes_each:17.2f} {bytes_each * 175:12.0f}")

# %%
# Abstract and real agree: on a network that does fit, the state is as large as its shapes said.

small = nnx.state(MLP((64, 64, 10), rngs=nnx.Rngs(0)), nnx.Param)
for card in jol.registry.cards():
    tx = card.factory(card.learning_rate)
    assert size(jax.eval_shape(tx.init, small)) == sum(leaf.nbytes for leaf in jax.tree.leaves(tx.init(small)))

names = [name for name in stored if name != "optax.scale_by_lbfgs(10)"]
values = [stored[name] for name in names]
figure, axis = plt.subplots(figsize=(7.2, 4.4))
bars = axis.barh(names, values, color=["C1" if name.startswith("optax") or "," in name else "C0" for name in names])
axis.bar_label(
    bars,
    [f"{value * 175:,.0f} GB" if value > 1 else "< 1 GB" for value in values],
    padding=4,
    fontsize=8,
    color="0.3",
)
axis.axvline(2, color="0.4", linewidth=1, linestyle="--")
axis.annotate(
    "the weights in bfloat16: 350 GB", (2, 1), xytext=(4, -3), textcoords="offset points", color="0.3", fontsize=8
)
axis.set(title="State of the optimizer for 175 billion parameters", xlabel="bytes a parameter", xlim=(0, 14))
axis.grid(axis="y", visible=False)
plt.show()

# %%
# By model
# --------
# A training step holds weights and gradient (2 + 2 bytes), a float32 copy of the weights to add small updates to
# (4 bytes), and the state. Adam's is half of the 16. Beside the lecture's four stand three networks of the package,
# counted on abstract parameters too.
#
# Outlook: block-wise 8-bit means need one byte a number and a float32 scale for each block of 256, that is
# :math:`2 (1 + 4 / 256) = 2.03` bytes a parameter. The package does not have them yet; the figure is arithmetic alone.

published = {
    "ResNet-50": nnx.eval_shape(lambda: resnet50(rngs=nnx.Rngs(0))),
    "GPT-2 small": nnx.eval_shape(lambda: gpt2_small(nnx.Rngs(0))),
    "VGG-16": nnx.eval_shape(lambda: VGG(16, rngs=nnx.Rngs(0))),
}
counted = {name: numbers(nnx.state(model, nnx.Param)) for name, model in published.items()}
models = dict(sorted((counted | MODELS).items(), key=lambda item: item[1]))

ADAM, EIGHT_BIT = stored["adam"], 2 * (1 + 4 / 256)
parts = {
    "weights, gradient": 4.0,
    "float32 copy": 4.0,
    "Adam, float32": ADAM,
    "Adam, 8 bits (outlook)": EIGHT_BIT,
}
print(f"\n{'GB':12} {'parameters':>15}" + "".join(f"{part:>24}" for part in parts))
for model, count in models.items():
    print(f"{model:12} {count:15,.0f}" + "".join(f"{count * each / 1e9:24.2f}" for each in parts.values()))

figure, axis = plt.subplots(figsize=(7.2, 3.8))
marks = {"Adam's state in 8 bits (outlook)": EIGHT_BIT, "weights and gradient": 4.0, "Adam's state in float32": ADAM}
for index, (label, each) in enumerate(marks.items()):
    axis.scatter([count * each / 1e9 for count in models.values()], list(models), s=50, label=label, color=f"C{index}")
axis.axvline(80, color="0.4", linewidth=1, linestyle="--")
axis.annotate("one accelerator of 80 GB", (80, 1), xytext=(4, 0), textcoords="offset points", color="0.3", fontsize=8)
axis.set(title="Adam's state outgrows the weights, and the machine", xlabel="GB", xscale="log", xlim=(0.03, 5000))
figure.legend(loc="outside lower center", ncols=3)
plt.show()

# %%
# Over how many accelerators?
# ---------------------------
# No single accelerator holds 2800 GB. But an optimizer that works coordinate by coordinate needs of the state only what
# belongs to the weights at hand, so weights, gradient and state can be cut into as many pieces as there are devices:
# :math:`16 N / n` bytes each. 35 accelerators of 80 GB would hold GPT-3's, with no room for activations; with momentum
# it would be 27, with plain gradient descent 18. What an optimizer saves of its state is saved of machines.

needed = {name: math.ceil(175 * (8 + round(stored[name], 3)) / 80) for name in ("adam", "momentum", "sgd")}
print(f"\naccelerators of 80 GB for weights, gradient and state of GPT-3: {needed}")

# %%
# What this page teaches, as assertions. A state has a few numbers of its own, such as the count of steps: hence 1e-6.

slots = {"sgd": 0, "momentum": 1, "adagrad": 1, "adagrad_norm": 0, "rmsprop": 1, "adadelta": 2, "adam": 2, "adamw": 2}
slots |= {"nadam": 2, "adamax": 2, "amsgrad": 3, "nesterov": 1, "lion": 1}
assert abs(parameters / 175e9 - 1) < 0.01
assert size(gpt3) == 2 * parameters
assert counted == {"ResNet-50": 25_557_032, "GPT-2 small": 124_439_808, "VGG-16": 138_357_544}
assert numbers(transformer(12, 768, 50257, 1024)) == counted["GPT-2 small"], "the shapes are those of the real network"
for name, count in slots.items():
    assert abs(stored[name] - 4 * count) < 1e-6, f"{name} stores {count} float32 numbers a parameter"
assert round(ADAM * 175) == 1400
assert abs(stored["adam, mu_dtype=bfloat16"] - 6) < 1e-6
assert abs(stored["optax.adam"] - 4) < 1e-6
assert stored["optax.adafactor"] < 0.01
assert stored["optax.scale_by_lbfgs(10)"] > 5 * ADAM / 2
assert 1400 / (EIGHT_BIT * 175) > 3.9
assert needed == {"adam": 35, "momentum": 27, "sgd": 18}

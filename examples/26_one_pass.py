r"""
One pass over memory
====================

A step of Adam does a dozen operations on every number, and a processor does those in no time. What takes time is to
fetch the numbers and to put them back:

.. math:: \underbrace{w,\ g,\ m,\ v}_{\text{read, 16 bytes}} \;\to\; \underbrace{w,\ m,\ v}_{\text{written, 12 bytes}}

28 bytes a parameter, if each is touched once. A program that computes :math:`m`, then :math:`v`, then the update, then
the sum, each for the whole array, touches them again and again. Who writes such a step by hand in C++ touches them
once, and writes it once for every optimizer and every way to keep its state. Here it follows from the formula.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures.kernels.fuse import sources

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# From the formula to the kernel
# ------------------------------
# Momentum, as lecture 002 has it: :math:`v \leftarrow \beta v - \eta g`, :math:`w \leftarrow w + v`. Its rule is
# traced, and each operation becomes one on sixteen numbers at a time. Nothing is compiled for this text.

weights = jax.ShapeDtypeStruct((1000,), jnp.float32)
(kernel,) = sources(jol.momentum(0.1, 0.9), weights)
print(kernel.text[: kernel.text.index("if (i0 < n)")])

# %%
# Two loads for the formula and one for the weight, two stores, and nothing kept in between. With the state in eight
# bits the same rule has two loops over each block, as the scale of a block is known only after its largest number is.

(coded,) = sources(jol.store(jol.momentum(0.1, 0.9), "int8", min_size=1), weights)
loops = [text.count("for (") - 1 for text in (kernel.text, coded.text)]  # but for the one over tiles
print(f"loops over the elements of a tile: {loops[0]}, and {loops[1]} with the state in eight bits")
assert loops == [1, 2]
assert coded.name != kernel.name  # a name is made of the text: what has changed has no old kernel

# %%
# The same step
# -------------
# ``fuse`` gives a transformation with one more function, ``step``, which returns parameters and never makes the
# updates. Where there is no kernel it takes the plain step, so the numbers are there in any case.

tx = jol.chain(jol.clip_by_global_norm(1.0), jol.adamw(1e-2))
fused = jol.fuse(tx, quiet=True)
params = {"w": jnp.linspace(-1, 1, 4096), "b": jnp.zeros(16)}
state = fused.init(params)
one_pass = jax.jit(lambda params, state, gradients: fused.step(gradients, state, params))


@jax.jit
def plain(params, state, gradients):
    updates, state = tx.update(gradients, state, params)
    return jol.apply_updates(params, updates), state


ours, other = (params, state), (params, state)
for _ in range(20):
    ours, other = one_pass(*ours, ours[0]), plain(*other, other[0])
difference = max(
    float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (ours[0], other[0])), strict=True)
)
print(jol.explain(fused, params))
print(f"largest difference after 20 steps: {difference:.1e}")
assert difference < 1e-5

# %%
# What is moved
# -------------
# Bytes a parameter of one step, if every number is touched once: the weight and its gradient, and what the state takes,
# read and written.

names = ["sgd", "momentum", "adam"]
codecs = {"f32": "float32", "bf16": "bfloat16", "int8": "int8", "int4": "int4"}
shape = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
moved = {}
for label, codec in ((text, name) for name, text in codecs.items()):
    kept = []
    for name in names:
        made = jol.store(jol.registry.get(name).factory(0.1), codec)
        bytes_kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(made.init, shape)))
        kept.append(12 + 2 * bytes_kept / 2**20)
    moved[label] = kept
assert round(moved["float32"][2]) == 28
assert round(moved["int8"][2]) == 16

figure, axes = plt.subplots(figsize=(6.4, 3.2))
places = np.arange(len(names))
for index, (label, kept) in enumerate(moved.items()):
    bars = axes.bar(places + 0.2 * (index - 1.5), kept, 0.18, label=f"state in {label}")
    axes.bar_label(bars, fmt="%.0f", fontsize=8)
axes.set_xticks(places, names)
axes.set_ylabel("bytes a parameter and step")
axes.set_title("What one pass reads and writes")
axes.legend(frameon=False)
plt.show()

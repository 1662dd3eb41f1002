r"""
A network that fits
===================

The lectures' table of large networks ends at 175 billion parameters. In single precision, with Adam, a device would
hold

.. math:: \underbrace{4N}_{w} + \underbrace{4N}_{g} + \underbrace{4N + 4N}_{m,\ v} = 16\,N \text{ bytes,}

2.8 TB, and what the forward pass keeps for the backward pass beside it. No device has that. What is done about it has
three names. Tensor parallelism cuts each matrix over *model* devices. ZeRO cuts the state :math:`m, v` over the *data*
devices, which all hold the same weights; FSDP, or ZeRO-3, cuts weights and gradients as well. And fewer bits make all
of it smaller. Whether it then fits can be counted before anything is allocated.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# One plan
# --------
# 512 devices, the matrices cut over eight, the batch over sixty-four. ``jol.memory_plan`` needs shapes only: neither
# devices nor weights need be there. Parameters and state are exact; activations are what differentiation saves.

plan = jol.memory_plan("gpt3-175b", jol.adam(1e-4), "data=64,model=8", zero=1, memory=80)
print(plan)

# %%
# Adam's two moments take 2.8 GB of each device, not 179: ZeRO-1 has cut them over the sixty-four. What is left to make
# smaller are weights, gradients and activations.

# %%
# What each cut saves
# -------------------
# The same network on more and more devices, eight of them along *model*. Without ZeRO more devices change nothing: each
# has everything that is not cut over *model*. With ZeRO-1 the state goes to nothing, with ZeRO-3 everything does.

counts = [1, 2, 8, 32, 128]
ways = {
    "as the parameters": dict(zero=0),
    "ZeRO-1": dict(zero=1),
    "ZeRO-1, state in int8": dict(zero=1, store="int8"),
    "ZeRO-3, state in int8": dict(zero=3, store="int8"),
}
held = {}
for name, options in ways.items():
    plans = [
        jol.memory_plan("gpt3-175b", jol.adam(1e-4), f"data={count},model=8", changes=False, **options)
        for count in counts
    ]
    held[name] = np.array([own.parameters + own.gradients + own.state for own in plans]) / 1e9
figure, axis = plt.subplots(figsize=(7.2, 3.2))
for name, sizes in held.items():
    axis.plot([8 * count for count in counts], sizes, marker="o", markersize=3, label=name)
axis.axhline(80, color="0.5", linewidth=0.8, linestyle="--")
axis.text(1024, 84, "a device of 80 GB", color="0.4", fontsize=8, ha="right")
axis.set(xscale="log", yscale="log", xlabel="devices", ylabel="GB on each device")
axis.set_xticks([8 * count for count in counts], [str(8 * count) for count in counts])
axis.minorticks_off()
axis.legend(fontsize=8)
axis.set_title("GPT-3 with Adam: weights, gradients and state")
plt.show()

# %%
# Byte by byte
# ------------
# The same for a network of ten billion on eight devices, piece by piece, in bytes for each parameter. With ZeRO-1 eight
# bits save less than they would alone: what they make smaller has been cut already.

ways = {
    "one device": dict(mesh="data=1", zero=0),
    "eight, as the parameters": dict(mesh="data=8", zero=0),
    "ZeRO-1": dict(mesh="data=8", zero=1),
    "ZeRO-1, state in int8": dict(mesh="data=8", zero=1, store="int8"),
    "ZeRO-3": dict(mesh="data=8", zero=3),
    "ZeRO-3, state in int8": dict(mesh="data=8", zero=3, store="int8"),
    "ZeRO-3, int8, weights in bfloat16": dict(mesh="data=8", zero=3, store="int8", dtype="bfloat16"),
}
rows = {name: jol.memory_plan("glm-10b", jol.adam(1e-4), changes=False, **options) for name, options in ways.items()}
figure, axis = plt.subplots(figsize=(7.2, 3.0))
left = np.zeros(len(rows))
for piece in ("parameters", "gradients", "state"):
    share = np.array([getattr(own, piece) / own.count for own in rows.values()])
    axis.barh(range(len(rows)), share, left=left, label=piece)
    left += share
for place, total in enumerate(left):
    axis.text(total + 0.15, place, f"{total:.2f}", va="center", fontsize=8)
axis.set_yticks(range(len(rows)), list(rows))
axis.invert_yaxis()
axis.grid(visible=False, axis="y")
axis.set(xlabel="bytes on each device for each parameter of the network", xlim=(0, 18))
axis.legend(fontsize=8, loc="lower right")
axis.set_title("GLM 10B with Adam: sixteen bytes a parameter, and what is left of them")
plt.show()

# %%
# The lectures' networks
# ----------------------
# With ZeRO-1 on eight devices. The 62 million weights of YOLOv3 fit anywhere; ten billion do not.

for network in ("yolov3", "gpt2-xl", "glm-10b", "vit-moe-15b", "gpt3-175b"):
    found = jol.memory_plan(network, jol.adam(1e-4), "data=8", changes=False)
    kept = (found.parameters + found.gradients + found.state) / 1e9
    print(f"{network:12} {found.count / 1e9:8.3f} billion parameters {kept:8.2f} GB on each device")

# %%
# A network of one's own
# ----------------------
# Any Flax module, or any tree of shapes. A rule by path says what is cut over which axis.

shapes = {
    "rise": jax.ShapeDtypeStruct((4096, 16384), "float32"),
    "fall": jax.ShapeDtypeStruct((16384, 4096), "float32"),
}
rules = {"rise": (None, "model"), "fall": ("model", None)}
own = jol.memory_plan(shapes, jol.adam(1e-3), "data=4,model=2", rules=rules)
print(own)

# %%
# What this page teaches, as assertions.

assert abs(plan.count / 175e9 - 1) < 0.003
assert plan.fits is False
assert abs(rows["one device"].state / rows["one device"].count - 8) < 1e-6
assert abs(left[1] - 16) < 1e-6, "eight devices that all hold everything hold no less each"
assert abs(left[2] - 9) < 0.01, "4 + 4 + 8 / 8"
assert abs(held["as the parameters"][0] / (16 * plan.count / 8 / 1e9) - 1) < 0.03, "16 N bytes, cut over eight"
assert held["as the parameters"][-1] == held["as the parameters"][0], "more devices along data change nothing"
assert held["ZeRO-1"][-1] < 0.52 * held["as the parameters"][-1], "the state, half of all, is cut away"
assert held["ZeRO-3, state in int8"][-1] < 80 < held["ZeRO-1, state in int8"][-1]
weights = sum(shape.size * 4 for shape in shapes.values())
assert (own.parameters, own.gradients) == (weights // 2, weights // 2)
assert own.state == 2 * weights // 8 + 12, "two moments over eight devices, and three numbers"

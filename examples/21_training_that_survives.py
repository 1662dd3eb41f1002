r"""
Training that survives
======================

Algorithm 8.1 of the lectures ends with the words "while stopping criterion not met". Between that line and a trained
network lies what textbooks leave out: when to look at the metric, when to stop, what happens when a gradient is not a
number, and what is left when the machine is taken away in the middle. The page goes through them with ``jol.fit``.

.. math:: \theta_{t+1} = \theta_t + u_t, \qquad u_t = 0 \ \text{ where the loss or its gradient is not finite}
"""

import dataclasses
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures import tasks

plt.style.use("jaxopt_lectures.diagnostics.lectures")
task = tasks.get("digits")
STEPS = 600
RATE = jol.warmup_cosine_decay_schedule(0.0, 5e-3, 50, STEPS)

# %%
# Three hundred steps, taken twice
# --------------------------------
# A run is asked for 300 steps and ends there: the machine was taken away. The same call, now for 600, finds its folder
# and goes on. Optimizer state, place in the schedule, order of the examples: everything is as if it had never stopped.
# The comparison is not "about equal": no bit differs.

folder = Path(tempfile.mkdtemp()) / "run"
whole = jol.fit(task, jol.adamw(RATE), steps=STEPS, way="loop")
jol.fit(task, jol.adamw(RATE), steps=STEPS // 2, way="loop", eval_every=30, checkpoint=folder)
second = jol.fit(task, jol.adamw(RATE), steps=STEPS, way="loop", checkpoint=folder)

equal = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), whole.state, second.state)
print("every bit of parameters and optimizer state equal:", all(jax.tree.leaves(equal)))
print("in the folder:", ", ".join(sorted(path.name for path in folder.iterdir())))

# %%
# A batch that is not a number
# ----------------------------
# One of the 1077 images has a pixel that was read wrongly: not a number. Once an epoch its batch has no gradient. Plain
# gradient descent takes the step, and all 4810 weights are lost. Three policies: end there, leave the step out,
# or go back to the last checkpoint and go on more carefully (which does not help here, the image comes again).

data = task.data()
pixels = data.train.x.copy()
pixels[200, 30] = np.nan
broken = dataclasses.replace(data, train=data.train._replace(x=pixels))
spoiled = dataclasses.replace(task, data=lambda: broken)

runs = {
    policy: jol.fit(spoiled, jol.adamw(RATE), steps=STEPS, eval_every=10, way="loop", on_nonfinite=policy)
    for policy in ("stop", "skip")
}
for policy, history in runs.items():
    finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(history.state.params))
    at, lost = int(history.state.step), int(history.state.skipped)
    print(f"{policy}: {history.ended!r} at step {at}, {lost} steps left out, all weights finite: {finite}")

# %%
# When to stop
# ------------
# The same network with a rate that never falls. The validation accuracy rises, and then only wavers. ``patience`` ends
# the run after so many looks without a better one; what was paid for nothing is the dotted part.

patient = jol.fit(task, jol.adamw(5e-3), steps=4 * STEPS, eval_every=20, stop=jol.Stop(patience=15), way="loop")
best = patient.best
print(f"best accuracy {best['metric']:.3f} at step {best['step']}, ended at {patient.step[-1]} for {patient.ended!r}")

# %%

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3))
left.plot(whole.step, whole.loss, color="0.8", linewidth=5, label="in one piece")
left.plot(second.step, second.loss, color="C0", linewidth=1.4, label="in two")
left.axvline(STEPS // 2, color="0.5", linewidth=0.8, linestyle=":")
left.set(title="Cut off, and gone on", xlabel="step", ylabel="training loss", yscale="log")
left.legend(frameon=False)
middle.plot(runs["skip"].step, runs["skip"].loss, color="C0", linewidth=1.4, label="skip")
middle.plot(int(runs["stop"].state.step), runs["skip"].loss[0], "x", color="C3", label="stop: ended here")
middle.set(title="One pixel is not a number", xlabel="step", yscale="log")
middle.legend(frameon=False)
until = patient.step <= best["step"]
right.plot(patient.step[until], patient.metric[until], color="C2", linewidth=1.4)
right.plot(patient.step[~until], patient.metric[~until], color="C2", linewidth=1.2, linestyle=":")
right.plot(best["step"], best["metric"], "o", color="C2")
right.set(title="Patience", xlabel="step", ylabel="validation accuracy", ylim=(0.9, 1.0))
plt.show()

# %%

assert all(jax.tree.leaves(equal))
assert whole.metric[-1] > 0.95
assert runs["stop"].ended == "nonfinite"
assert runs["skip"].ended == "steps"
assert int(runs["skip"].state.skipped) > 20, "about once an epoch"
assert runs["skip"].metric[-1] > 0.95
assert patient.ended == "patience"

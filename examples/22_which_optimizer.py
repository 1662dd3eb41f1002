r"""
Which optimizer?
================

The lectures show optimizers one after the other, each better than the one before. Papers do the same, and most of what
they gain over Adam comes from having tuned their own method harder. The question "which is better, on my task?" has an
answer only if both are tuned alike, and only as far as chance allows. This page asks it of three methods.

.. math:: \Delta = \frac{1}{n} \sum_{s=1}^{n} (a_s - b_s), \qquad
   \Delta \pm t_{n-1} \frac{\operatorname{sd}(a_s - b_s)}{\sqrt n}
"""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures import tasks

plt.style.use("jaxopt_lectures.diagnostics.lectures")
task = dataclasses.replace(tasks.get("digits"), steps=150)

# %%
# The rate decides
# ----------------
# Thirty-two learning rates for each of three methods, over five powers of ten. ``jol.sweep`` trains them side by side
# in one compiled program; another rate is another operand, and compiles nothing.

SPACES = {
    "sgd": (jol.sgd, {"learning_rate": jol.Range(1e-3, 30.0)}),
    "momentum": (jol.momentum, {"learning_rate": jol.Range(1e-4, 3.0)}),
    "adam": (jol.adam, {"learning_rate": jol.Range(1e-5, 1.0)}),
}
sweeps = {name: jol.sweep(task, factory, space, trials=32) for name, (factory, space) in SPACES.items()}
for sweep in sweeps.values():
    print(sweep)

# %%
# Each has a hill of its own, and all three are about equally high. Whoever compares at one rate, the same for all,
# compares where on their hills the methods happen to stand: at 0.01 Adam is far ahead of gradient descent, at 1 far
# behind.

at = {}
for name, (factory, _) in SPACES.items():
    fixed = jol.sweep(task, factory, {"learning_rate": jol.Range(0.01, 1.0)}, trials=2, sampler="grid")
    at[name] = [trial.metric for trial in fixed.trials]
    low, high = at[name]
    print(f"{name:<9} accuracy at 0.01: {low:.2f}, at 1: {high:.2f}, tuned: {sweeps[name].best.metric:.2f}")

# %%
# The same budget for each
# ------------------------
# ``jol.compare`` tunes every method once for each seed, with trials of its own, chooses on the validation images,
# trains what it chose once more from fresh weights, and takes the accuracy on images that nothing was chosen by. Runs
# of one seed start alike, so differences are taken seed by seed.

report = jol.compare(
    task, [(name, factory, space) for name, (factory, space) in SPACES.items()], budget=6, seeds=5, baseline="adam"
)
print(report)

# %%
# The tuning is part of the method
# --------------------------------
# Why tune anew for every seed? Because a tuning has luck, too. Take one method under two names, tune each once, and
# run what was found with many seeds: the runs of each name agree with one another better than with the other's, and a
# t-test finds a "difference" between a method and itself. In 200 such comparisons that happened 92 times; with a tuning
# for each seed 6 times (``benchmarks/comparison.py``).

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
for index, (name, sweep) in enumerate(sweeps.items()):
    rates, metrics = np.array(sweep.sensitivity()).T
    left.plot(rates, metrics, "o-", color=f"C{index}", markersize=3, linewidth=1, label=name)
left.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy", title="Thirty-two rates each")
left.legend(frameon=False)
(comparison,) = report.comparisons
for index, result in enumerate(comparison.results):
    right.plot([index] * len(result.scores), result.scores, "o", color=f"C{index}", alpha=0.6)
    right.plot([index - 0.2, index + 0.2], [np.mean(result.scores)] * 2, color=f"C{index}", linewidth=2)
right.set(title="Tuned alike, five seeds", ylabel="test accuracy", xlim=(-0.6, 2.6))
right.set_xticks(range(3), [result.name for result in comparison.results])
plt.show()

# %%

assert at["adam"][0] > at["sgd"][0] + 0.1, "at 0.01 Adam is ahead"
assert at["sgd"][1] > at["adam"][1] + 0.1, "at 1 it is behind"
best = [sweep.best.metric for sweep in sweeps.values()]
assert max(best) - min(best) < 0.03, "tuned, they are about equal"
assert all(math.isfinite(score) for result in comparison.results for score in result.scores)
assert min(np.mean(result.scores) for result in comparison.results) > 0.9
assert "adam" in report.table()

r"""
AdaGrad, RMSProp, AdaDelta, Adam
================================

Four methods of lecture 002, each of which mends the one before. All divide the gradient by a measure of the gradients
seen so far, coordinate by coordinate:

.. math::

   \begin{aligned}
   \text{AdaGrad} \quad & r_t = r_{t-1} + g_t^2, & w &\leftarrow w - \frac{\eta}{\sqrt{r_t + \epsilon}}\, g_t \\
   \text{RMSProp} \quad & E[g^2]_t = \beta E[g^2]_{t-1} + (1 - \beta)\, g_t^2, &
   w &\leftarrow w - \frac{\eta}{\sqrt{E[g^2]_t + \epsilon}}\, g_t \\
   \text{AdaDelta} \quad & \text{the same mean, and } E[\Delta x^2] \text{ of the updates}, &
   w &\leftarrow w - \frac{\sqrt{E[\Delta x^2]_{t-1} + \epsilon}}{\sqrt{E[g^2]_t + \epsilon}}\, g_t \\
   \text{Adam} \quad & \text{the same mean, and } m_t \text{ of the gradients}, &
   w &\leftarrow w - \frac{\eta}{\sqrt{\hat v_t} + \epsilon}\, \hat m_t
   \end{aligned}

The page follows one question through them: how long is a step? It ends with Zeiler's table 1, on handwritten digits:
how much does the result depend on a number that someone has to choose?
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures import tasks
from jaxopt_lectures.diagnostics.trajectories import trajectory

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# How long is a step?
# -------------------
# Let the gradient be 1 for ever. Gradient descent makes steps of :math:`\eta`.
#
# * **AdaGrad** divides by the root of a sum, :math:`\sqrt{t}`: its steps die out as :math:`\eta / \sqrt{t}`. In lecture
#   002 the sum "becomes large and tend to kill learning rate".
# * **RMSProp** takes a mean that forgets instead of the sum: the steps settle at :math:`\eta`. The mean starts at 0 and
#   is too small at first, so that they begin :math:`1 / \sqrt{1 - \beta} = 3.2` times too long.
# * **AdaDelta** has no :math:`\eta`. Its step is as long as its past steps, and a little longer:
#   :math:`E[\Delta x^2]` grows by :math:`(1 - \rho)\, \epsilon` at each, after a first push of about
#   :math:`\epsilon / (1 - \rho)`.
# * **Adam** divides both means by the weight they have seen: every step is :math:`\eta`, from the first on.

RATE, RHO, EPS, STEPS = 0.01, 0.95, 1e-6, 3000
methods = {
    "AdaGrad": jol.adagrad(RATE, initial_accumulator_value=0.0),
    "RMSProp": jol.rmsprop(RATE),
    "AdaDelta": jol.adadelta(rho=RHO, eps=EPS),
    "Adam": jol.adam(RATE),
}


def lengths(tx, gradients):
    """The length of the step at each of these gradients."""
    with jax.enable_x64(True):
        path = trajectory(tx, lambda w, g: g * w, jnp.zeros(()), len(gradients), batches=jnp.asarray(gradients))
        return -np.diff(path.points)


t = np.arange(1, STEPS + 1)
constant = {name: lengths(tx, np.ones(STEPS)) for name, tx in methods.items()}
print("length of a step, gradient 1  " + "".join(f"{f't = {step}':>10}" for step in (1, 10, 100, 1000, 3000)))
for name, values in constant.items():
    print(f"{name:30}" + "".join(f"{values[step - 1]:10.5f}" for step in (1, 10, 100, 1000, 3000)))

# %%
# What happens when the gradients become ten times smaller, as on a plateau? Gradient descent's steps shrink with them.
# AdaGrad's too, for its sum does not go down. The means forget: RMSProp's within 50 steps, Adam's, with
# :math:`\beta_2 = 0.999`, in some thousands. AdaDelta's mean forgets as fast as RMSProp's, but while its steps were
# short their own mean has shrunk, and it grows slowly.

DROP = 1000
dropped = {name: lengths(tx, np.where(np.arange(4 * DROP) < DROP, 1.0, 0.1)) for name, tx in methods.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
for index, (name, values) in enumerate(constant.items()):
    left.loglog(t, values, label=name)
    relative = dropped[name] / dropped[name][DROP - 1]
    right.semilogy(np.arange(-200, 2500), relative[DROP - 200 : DROP + 2500], color=f"C{index}")
left.set(title="Gradient 1 at every step", xlabel="step", ylabel="length of the step", xlim=(1, 6000))
left.legend(loc="lower left")
left.text(700, 2.0e-4, r"$\eta / \sqrt{t}$", color="C0")
left.text(60, 3.3e-3, r"$\sim \sqrt{(1 - \rho)\, \epsilon\, t}$", color="C2")
right.set(title="Gradient 1, then 0.1", xlabel="steps after the change", ylabel="length / length before")
right.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2], ["0.05", "0.1", "0.2", "0.5", "1", "2"])
places = {"AdaGrad": (2500, 0.068), "RMSProp": (500, 1.08), "AdaDelta": (2500, 1.45), "Adam": (2500, 0.5)}
for index, (name, place) in enumerate(places.items()):
    right.text(*place, name, color=f"C{index}", ha="right")
plt.show()

# %%
# Units
# -----
# Zeiler's second argument: if w is a length, so must its update be. The gradient of a number has the unit 1/m, and
#
# * gradient descent's step :math:`\eta g` has it as well: the rate has the unit :math:`\mathrm{m}^2`;
# * AdaGrad, RMSProp and Adam divide g by a g, which leaves no unit: the rate is a length in m;
# * AdaDelta multiplies by RMS :math:`[\Delta x]`, a length.
#
# So who measures w in millimetres instead must change the rate of gradient descent by a factor of a million, that of
# Adam by a thousand, to take the same path. And AdaDelta? Nothing to change, were it not for :math:`\epsilon`, which is
# added to squared lengths: it too must be a million times larger. There is a number to choose after all,
# :math:`\sqrt{\epsilon}`, a length as Adam's rate is. It matters less, for a path of length d with steps that grow as
# :math:`\sqrt{(1 - \rho)\, \epsilon\, t}` takes a number of steps proportional to :math:`(d / \sqrt{\epsilon})^{2/3}`.
# A tenth of the length makes it 4.6 times as many, not 10 times.


def meters(w):
    """A parabola with its minimum at 1 m; steep, so that eps does not matter beside the squared gradients."""
    return 1e6 * (w - 1) ** 2 / 2


def millimeters(u):
    """The same, of the same length in mm."""
    return meters(u / 1000)


same = {
    "gradient descent": (jol.sgd(2e-8), jol.sgd(2e-8 * 1e6)),
    "Adam": (jol.adam(1e-3), jol.adam(1e-3 * 1e3)),
    "AdaDelta": (jol.adadelta(rho=RHO, eps=EPS), jol.adadelta(rho=RHO, eps=EPS * 1e6)),
}
apart = {}
with jax.enable_x64(True):
    for name, (in_meters, in_millimeters) in same.items():
        one = np.asarray(trajectory(in_meters, meters, jnp.zeros(()), 300).points)
        other = np.asarray(trajectory(in_millimeters, millimeters, jnp.zeros(()), 300).points) / 1000
        apart[name] = np.abs(one - other).max()
        print(f"{name:17} in m and in mm: paths {apart[name]:.0e} m apart; it is at {one[-1]:.2f} m")
    slow = {
        eps: np.asarray(trajectory(jol.adadelta(rho=RHO, eps=eps), meters, jnp.zeros(()), 6000).points)
        for eps in (1e-8, 1e-10)
    }
half_way = {eps: int(np.argmax(path > 0.5)) for eps, path in slow.items()}
print(f"AdaDelta is half-way after {half_way[1e-8]} steps with eps 1e-8, after {half_way[1e-10]} with 1e-10")

# %%
# Zeiler's table 1, on digits
# ---------------------------
# Validation error after 20 epochs, mean of 3 networks: learning rates over four orders of magnitude for the methods
# that have one, and :math:`\epsilon` over six for AdaDelta (three, of the length :math:`\sqrt{\epsilon}`), with three
# values of :math:`\rho`. Each line is one compiled program (``jax.vmap`` over rates, eps and seeds). Zeiler's own table
# is of the digits of MNIST after 6 epochs, and of the same kind: each method with a rate fails at one end or at both,
# AdaDelta hardly moves.

SEEDS, BATCH = 3, 64
task = tasks.get("digits")
data = task.data()
images, labels = (jnp.asarray(part) for part in data.train)
steps = 20 * len(images) // BATCH
graph = nnx.split(task.model(0), nnx.Param)[0]
first = [nnx.split(task.model(seed), nnx.Param)[1] for seed in range(SEEDS)]
first = jax.tree.map(lambda *leaves: jnp.stack(leaves), *first)
rows = jax.random.randint(jax.random.key(0), (SEEDS, steps, BATCH), 0, len(images))


def loss(params, batch):
    """Cross-entropy of one batch."""
    return task.loss(nnx.merge(graph, params), images[batch], labels[batch])


def error(tx):
    """Validation error in per cent, the mean of the seeds."""

    def one(params, batches):
        end = trajectory(tx, loss, params, steps, batches=batches, keep=lambda w: ()).params
        return 100 * (1 - task.metric(nnx.merge(graph, end), *data.validation))

    return jax.vmap(one)(first, rows).mean()


rates = np.array([1, 1e-1, 1e-2, 1e-3, 1e-4])
with_rate = {
    "SGD": jol.sgd,
    "momentum": jol.momentum,
    "AdaGrad": lambda rate: jol.adagrad(rate, initial_accumulator_value=0.0),
    "RMSProp": jol.rmsprop,
    "Adam": jol.adam,
}
errors = {
    name: np.asarray(jax.jit(jax.vmap(lambda rate, make=make: error(make(rate))))(rates))
    for name, make in with_rate.items()
}
rhos, epsilons = np.array([0.9, 0.95, 0.99]), np.array([1e-2, 1e-4, 1e-6, 1e-8])
both = np.meshgrid(rhos, epsilons, indexing="ij")
adadelta = jax.jit(jax.vmap(lambda rho, eps: error(jol.adadelta(rho=rho, eps=eps))))(*(part.ravel() for part in both))
adadelta = np.asarray(adadelta).reshape(both[0].shape)

print("validation error, %   " + "".join(f"{rate:8g}" for rate in rates) + "  (rate)")
for name, values in errors.items():
    print(f"{name:22}" + "".join(f"{value:8.1f}" for value in values))
print("                      " + "".join(f"{eps:8g}" for eps in epsilons) + "  (eps)")
for rho, values in zip(rhos, adadelta, strict=True):
    print(f"AdaDelta, rho {rho:<8}" + "".join(f"{value:8.1f}" for value in values))

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True, width_ratios=(1.4, 1))
for name, values in errors.items():
    left.semilogx(rates, values, marker="o", markersize=4, label=name)
left.set(title="With a rate to choose", xlabel="learning rate", ylabel="validation error, %", ylim=(0, 100))
left.legend(loc="upper center", ncols=2)
for rho, values, color, style in zip(rhos, adadelta, ("C5", "C6", "C4"), ("-", "--", ":"), strict=True):
    right.semilogx(epsilons, values, color=color, linestyle=style, marker="o", markersize=4, label=rf"$\rho = {rho}$")
right.set(title="AdaDelta", xlabel=r"$\epsilon$")
right.legend(loc="upper center")
plt.show()

# %%
# From :math:`\epsilon = 10^{-2}` to :math:`10^{-6}` little happens, and AdaDelta at its best is as good as any other at
# its own best rate. At :math:`10^{-8}` the slow start shows, with only 336 steps to make: it is insensitive, not free
# of choice.
#
# Assertions
# ----------

np.testing.assert_allclose(constant["AdaGrad"] * np.sqrt(t), RATE, rtol=1e-5)
np.testing.assert_allclose(constant["RMSProp"], RATE / np.sqrt(1 - 0.9**t), rtol=1e-5)
np.testing.assert_allclose(constant["Adam"], RATE, rtol=1e-5)
# neglected: how the first push fades in over 1 / (1 - rho) = 20 steps, one step's growth of 170
np.testing.assert_allclose(constant["AdaDelta"][-1], np.sqrt(EPS * (1 / (1 - RHO) + (1 - RHO) * STEPS)), rtol=0.03)
after = {name: values[DROP + np.array([200, 2900])] / values[DROP - 1] for name, values in dropped.items()}
assert after["AdaGrad"][1] < 0.11
assert after["RMSProp"][0] > 0.99
assert after["AdaDelta"][0] < 0.5 < 0.99 < after["AdaDelta"][1]
assert after["Adam"][0] < 0.2 < 0.35 < after["Adam"][1]
# only AdaDelta's eps in the denominator is not changed as it should be: 1 beside squared gradients of 1e6 and less
assert apart["gradient descent"] < 1e-9
assert apart["Adam"] < 1e-6
assert apart["AdaDelta"] < 1e-2
assert 10 ** (2 / 3) < half_way[1e-10] / half_way[1e-8] < 7
spread = {name: values.max() - values.min() for name, values in (errors | {"AdaDelta": adadelta}).items()}
assert all(value > 40 for name, value in spread.items() if name != "AdaDelta")
assert spread["AdaDelta"] < spread["SGD"] / 4, "over all settings, the slow starts included"
assert np.ptp(adadelta[:, :3]) < 5, "for eps from 1e-2 to 1e-6"

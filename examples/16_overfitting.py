r"""
Over-fitting, and hyper-parameters
==================================

Lecture 004 names the "risk of overfitting": a network with more weights than examples can learn the examples by heart,
with all their errors. Here 84,000 weights see 100 handwritten digits, 20 of which bear a wrong label. The training loss
goes to 0; the loss on other digits falls, and rises again. Three cures are tried: *early stopping*, *weight decay*,
which draws every weight towards 0 beside the gradient step of Adam,

.. math::

   w \leftarrow w - \eta\, (\text{Adam's step} + \lambda w),

and *dropout*, which trains with a random share of the hidden units switched off. Each has a number that must be chosen,
as lectures 001 and 003 say of the learning rate; a random search over two of them is one compiled program.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks import digits

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# Too few examples, some of them wrong
# ------------------------------------
# Three sets: one to train, one to choose by (validation), and one that is looked at only at the end (test).

EXAMPLES, STEPS = 100, 600
data = digits.data()
x, right_labels = jnp.asarray(data.train.x[:EXAMPLES]), jnp.asarray(data.train.y[:EXAMPLES])
wrong, other = jax.random.split(jax.random.key(0))
is_wrong = jax.random.permutation(wrong, jnp.arange(EXAMPLES) < 20)
y = jnp.where(is_wrong, (right_labels + jax.random.randint(other, (EXAMPLES,), 1, 10)) % 10, right_labels)
validation, test = (tuple(map(jnp.asarray, examples)) for examples in (data.validation, data.test))


def train(tx, sizes=(64, 256, 256, 10), dropout=0.0, steps=STEPS):
    """After each step: loss on the training set, loss and accuracy on validation, loss and accuracy on test."""
    model = MLP(sizes, dropout=dropout, rngs=nnx.Rngs(params=0, dropout=1))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, key):
        """All examples; with dropout, other units are switched off at each step."""
        model = nnx.merge(graph, params, rest, copy=True)
        nnx.reseed(model, dropout=key)
        model.train()
        return digits.cross_entropy(model, x, y)

    def watch(params):
        model = nnx.merge(graph, params, rest, copy=True)
        model.eval()
        measures = (digits.cross_entropy, digits.accuracy)
        return digits.cross_entropy(model, x, y), *(
            f(model, *examples) for examples in (validation, test) for f in measures
        )

    return trajectory(tx, loss, params, steps, batches=jax.random.split(jax.random.key(1), steps), keep=watch).points


CURES = {
    "no cure": (jol.adam(1e-3), 0.0),
    "weight decay": (jol.adamw(1e-3, weight_decay=10.0), 0.0),
    "dropout": (jol.adam(1e-3), 0.7),
}
curves = {name: np.array(jax.jit(lambda tx=tx, p=p: train(tx, dropout=p))()) for name, (tx, p) in CURES.items()}
TRAIN, VALIDATION, _, _, TEST_ACCURACY = range(5)

# %%
# Early stopping needs no run of its own: of the run without a cure, the weights are kept at which the validation loss
# was least. That is all it takes; on the test set dropout comes out level. Weight decay of :math:`\lambda = 10` takes
# 1 % of every weight in each step. Dropout of 0.7 leaves three units of ten. Both slow the rise. Note which curve
# tells: the training loss falls all the time.

stop = int(np.argmin(curves["no cure"][VALIDATION]))
found = {
    name: (values[VALIDATION].min(), values[VALIDATION, -1], values[TEST_ACCURACY, -1])
    for name, values in curves.items()
}
found["early stopping"] = (found["no cure"][0],) * 2 + (curves["no cure"][TEST_ACCURACY, stop],)
print(f"{'':16}{'least':>8}{'last':>8}   validation loss; accuracy on test")
for name, (least, last, accuracy) in found.items():
    print(
        f"{name:16}{least:8.2f}{last:8.2f}{accuracy:10.1%}" + (f"  (step {stop})" if name.startswith("early") else "")
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6), sharey=True)
left.plot(curves["no cure"][TRAIN], color="0.5", label="training")
left.plot(curves["no cure"][VALIDATION], label="validation")
left.plot(stop, found["no cure"][0], "o", color="black")
left.annotate(
    f"stop here, step {stop}", (stop, found["no cure"][0]), xytext=(12, -10), textcoords="offset points", fontsize=8
)
left.set(title="By heart: training falls, validation rises", xlabel="step", ylabel="loss, nats", ylim=(0, 2.4))
left.legend(loc="upper right")
for name, values in curves.items():
    right.plot(values[VALIDATION], label=name)
right.set(title="Validation loss with cures", xlabel="step")
right.legend(loc="upper right")
plt.show()

# %%
# Hyper-parameters by random search
# ---------------------------------
# Where may a rate lie? Somewhere between 1e-4 and 1: its *logarithm* is what should be drawn evenly. Drawing at random
# instead of on a grid (Bergstra and Bengio, 2012) tries 48 different rates and 48 different decays with 48 runs; a grid
# would try seven of each. In this package a rate may be a traced number, so that ``jax.vmap`` turns one training into
# 48: a smaller network, 200 steps each, judged by validation.


def search(rate, decay):
    """Validation loss and test accuracy at the end."""
    measures = train(jol.adamw(rate, weight_decay=decay), sizes=(64, 64, 10), steps=200)
    return measures[VALIDATION][-1], measures[TEST_ACCURACY][-1]


draw_rate, draw_decay = jax.random.split(jax.random.key(2))
rates = 10 ** jax.random.uniform(draw_rate, (48,), minval=-4, maxval=0)
decays = 10 ** jax.random.uniform(draw_decay, (48,), minval=-3, maxval=1)
losses, accuracies = map(np.asarray, jax.jit(jax.vmap(search))(rates, decays))
order = np.argsort(losses)  # what is not a number comes last
print("\nthe best five of 48, and the worst")
for index in (*order[:5], order[-1]):
    print(
        f"rate {rates[index]:.1e}, decay {decays[index]:.1e}: validation loss {losses[index]:.2g}, "
        f"accuracy on test {accuracies[index]:.1%}"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True)
for axis, values, name in ((left, rates, "learning rate"), (right, decays, "weight decay")):
    axis.scatter(values, np.minimum(losses, 5), s=22, color="C0")
    axis.scatter(values[order[0]], losses[order[0]], s=60, color="C3", label="the best")
    axis.set(xscale="log", xlabel=name)
left.set(title="The rate decides ...", ylabel="validation loss, nats (cut at 5)", ylim=(0, 5.2))
right.set(title="... the decay much less")
left.legend(loc="upper left")
plt.show()

# %%
# What this page teaches, as assertions.

rise = {name: last - least for name, (least, last, _) in found.items()}
assert int(jnp.sum(y != right_labels)) == 20
assert curves["no cure"][TRAIN, -1] < 0.01, "by heart, wrong labels too"
assert rise["no cure"] > 0.3, "and the rest pays for it"
assert stop < STEPS / 3
for cure in ("weight decay", "dropout", "early stopping"):
    assert rise[cure] < 0.7 * rise["no cure"]
    assert found[cure][1] < found["no cure"][1] - 0.2
assert found["early stopping"][2] > found["no cure"][2] + 0.02
best = rates[order[:5]]
assert 2e-4 < np.median(best) < 3e-2
assert not losses[order[-1]] < 2 * losses[order[0]], "the worst is far worse, or not a number"

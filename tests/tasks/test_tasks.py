"""Tasks: every one is well-formed, its data is what it says; what does not fit together is refused in one sentence."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_lectures import losses, tasks
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks import curves
from jaxopt_lectures.tasks import task as fitting
from jaxopt_lectures.tasks.task import Data, Examples, Task, Unfit

# Those that need no files; CURVES are 32,000 images and the widest network, and have tests of their own.
OFFLINE = [name for name in tasks.names() if not tasks.reads_files(name) and name != "curves"]
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiled, run once
FEW, MANY = 4, 512  # examples for gradients and for metrics: what is tested does not depend on how many


@pytest.fixture(scope="module", params=OFFLINE)
def task(request):
    return tasks.get(request.param)


@pytest.fixture(scope="module")
def data(task):
    return task.data()


@pytest.fixture(scope="module")
def model(task):
    return task.model(0)


@pytest.fixture(scope="module")
def untrained(task, data, model):
    """Loss and gradients of a few training examples, and the metric of validation examples, before any step."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    few = [jnp.asarray(array[:FEW]) for array in data.train]
    many = [jnp.asarray(array[:MANY]) for array in data.validation]

    def values(params, rest):
        model = nnx.merge(graph, params, rest, copy=True)  # a copy: batch norm writes to it
        model.train()
        loss = task.loss(model, *few)
        model = nnx.merge(graph, params, rest, copy=True)
        model.eval()
        return loss, task.metric(model, *many)

    program = jax.jit(jax.value_and_grad(values, has_aux=True), compiler_options=QUICKLY)
    (loss, metric), gradients = program(params, rest)
    return loss, gradients, metric


def parts(data):
    return [part for part in (data.train, data.validation, data.test) if part is not None]


def test_a_name_leads_to_its_task(task):
    assert tasks.get(task.name) is task
    assert "\n" not in task.summary
    assert task.summary


def test_the_data_is_well_formed(task, data):
    for part in parts(data):
        assert len(part.x) == len(part.y) > 0
        for array in part:
            assert array.dtype in (np.float32, np.int32)
            assert np.isfinite(array).all()
    assert len(data.train.x) >= task.batch_size >= 1
    assert task.steps >= 1


def test_the_data_is_the_same_every_time(task, data):
    for one, again in zip(parts(data), parts(task.data()), strict=True):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one, again, strict=True))


def test_loss_and_gradients_are_finite(untrained):
    loss, gradients, _ = untrained
    assert loss.shape == ()
    assert np.isfinite(loss)
    norms = [np.linalg.norm(np.asarray(leaf)) for leaf in jax.tree.leaves(gradients)]
    assert np.isfinite(norms).all()
    assert max(norms) > 0


def test_it_is_not_solved_before_it_is_trained(task, untrained):
    *_, metric = untrained
    assert metric.shape == ()
    assert metric < task.target if task.larger_is_better else metric > task.target


def test_its_parts_fit_together(task, data, model):
    assert fitting.check(replace(task, model=lambda seed: model), data) is None


def test_the_seed_decides_the_weights(task, model):
    states = (nnx.state(m, nnx.Param) for m in (model, task.model(0), task.model(1)))
    one, again, other = ([np.asarray(leaf) for leaf in jax.tree.leaves(state)] for state in states)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_curves_are_one_autoencoder_with_the_same_loss_as_the_digits():
    task, small = tasks.get("curves"), tasks.get("digits_autoencoder")
    assert (task.loss, task.metric, task.larger_is_better) == (small.loss, small.metric, False)
    x = np.concatenate([curves.images(3, 0), curves.images(2, 1)])
    assert curves.images(5, 0)[:3].tobytes() == x[:3].tobytes()
    assert jax.eval_shape(lambda: task.loss(task.model(0), x, x)).shape == ()


def affine(seed):
    return MLP((3, 4), rngs=nnx.Rngs(seed))


def examples(count=8, *, width=3, highest=3):
    return Examples(np.ones((count, width), np.float32), np.full(count, highest, np.int32))


def labelled(index, label):
    """Examples of which one has another label."""
    x, y = examples()
    return Examples(x, np.where(np.arange(len(y)) == index, label, y).astype(np.int32))


def small(**changes):
    """A task that fits, but for the changes: 3 features, 4 classes."""
    digits = tasks.get("digits")
    own = Task("small", "one layer", affine, digits.loss, digits.metric, lambda: fits(), batch_size=4, target=0.9)
    return replace(own, **changes)


def fits():
    return Data(examples(), examples())


def test_what_fits_is_let_through():
    assert fitting.check(small(), fits()) is None
    assert fitting.check(small(metric=lambda model, x, y: jnp.sum(jnp.argmax(model(x), -1) == y)), fits()) is None


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        (
            {"loss": lambda model, x, y: losses.mse(y, model(x))},
            fits(),
            r"task 'small': no loss: the model gives float32 \(4, 4\), the targets are int32 \(4,\): ",
        ),
        (
            {"metric": lambda model, x, y: jnp.mean(model(x) @ y)[..., 0]},
            fits(),
            r"task 'small': no metric: the model gives float32 \(4, 4\), the targets are int32 \(4,\): ",
        ),
        (
            {},
            Data(examples(width=5), examples(width=5)),
            r"task 'small': no loss: the model takes no inputs like float32 \(4, 5\) \(.*, the targets are int32",
        ),
        (
            {"loss": lambda model, x, y: jnp.sum(model(x), axis=1)},
            fits(),
            r"task 'small': the loss must be one real number, is float32 \(4,\); the model gives float32 \(4, 4\)",
        ),
        (
            {"loss": lambda model, x, y: jnp.argmax(model(x))},
            fits(),
            r"task 'small': the loss must be one real number, is int32 \(\); the model",
        ),
        (
            {"metric": lambda model, x, y: (jnp.mean(model(x)), x)},
            fits(),
            r"metric must be one real number, is a tuple of float32 \(\), float32 \(4, 3\);",
        ),
        (
            {},
            Data(examples(highest=4), examples()),
            "task 'small': 8 training examples have labels out of range, the first 4 at 0; the model has 4 classes",
        ),
        ({}, Data(labelled(6, 9), examples()), "1 training examples have labels out of range, the first 9 at 6;"),
        ({}, Data(labelled(6, -1), examples()), "1 training examples have labels out of range, the first -1 at 6;"),
        ({}, Data(examples(), labelled(2, -2)), "1 validation examples have labels out of range, the first -2 at 2;"),
        (
            {},
            Data(examples(), examples(), labelled(7, 4)),
            "1 test examples have labels out of range, the first 4 at 7",
        ),
        (
            {},
            Data((np.ones((8, 3)), np.ones(8)), examples()),
            r"the training part must be Examples\(x, y\)",
        ),
        ({}, Data(Examples([[1.0]], [0]), examples()), r"the training part must be Examples\(x, y\)"),
        ({"batch_size": 4.0}, fits(), "task 'small' has 8 training examples: no batch of 4.0"),
        ({"model": lambda seed: nnx.Dropout(0.5, rngs=nnx.Rngs(seed))}, fits(), "gave a Dropout; needed is a Flax NNX"),
        ({"batch_size": 9}, fits(), "task 'small' has 8 training examples: no batch of 9"),
        ({"batch_size": 0}, fits(), "task 'small' has 8 training examples: no batch of 0"),
        ({}, Data(examples(), examples(0)), "task 'small' has no validation examples"),
        (
            {},
            Data(examples(), examples(), Examples(np.ones((3, 3)), np.ones(2))),
            "task 'small' has 3 test inputs but 2 targets",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, data, message):
    with pytest.raises(ValueError, match=message) as raised:
        fitting.check(small(**changes), data)
    assert "\n" not in str(raised.value)


def test_data_of_another_kind_is_refused():
    with pytest.raises(Unfit, match=r"task 'small': data\(\) gave a tuple; needed is a Data"):
        fitting.check(small(), (examples(), examples()))


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(Unfit, match=r"task 'small': model\(seed\) gave a ndarray; needed is a Flax NNX module"):
        fitting.check(small(model=lambda seed: np.zeros(3)), fits())


def test_a_loss_may_know_labels_that_are_no_class():
    """-1 as "not labelled", where the loss leaves such examples out."""

    def known(model, x, y):
        losses = optax.softmax_cross_entropy_with_integer_labels(model(x), jnp.maximum(y, 0))
        return jnp.sum(jnp.where(y >= 0, losses, 0)) / jnp.maximum(jnp.sum(y >= 0).astype(jnp.float32), 1)

    assert fitting.check(small(loss=known), Data(labelled(6, -1), examples())) is None

"""Tasks: every one is well-formed, its data is what it says, names are looked up kindly."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures import tasks
from jaxopt_lectures.models.mlp import MLP


@pytest.fixture(scope="module", params=tasks.names())
def task(request):
    return tasks.get(request.param)


@pytest.fixture(scope="module")
def data(task):
    return task.data()


def test_a_name_leads_to_its_task(task):
    assert tasks.get(task.name) is task


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(KeyError, match="no task is called 'digit'; did you mean 'digits'"):
        tasks.get("digit")
    with pytest.raises(KeyError, match=f"no task is called 'xyzzy'; known: {', '.join(tasks.names())}"):
        tasks.known("xyzzy")


def test_parts_have_as_many_inputs_as_targets_and_a_batch_fits(task, data):
    for part in (data.train, data.validation, data.test):
        assert part is None or len(part.x) == len(part.y) > 0
    assert len(data.train.x) >= task.batch_size >= 1
    assert task.steps >= 1


def test_loss_and_metric_are_scalars_with_gradients(task, data):
    model = task.model(0)
    loss, gradients = nnx.value_and_grad(task.loss)(model, *data.train)
    assert loss.shape == ()
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert task.metric(model, *data.validation) < task.target, "solved before it is trained"


def test_the_seed_decides_the_weights(task):
    one, again, other = (jax.tree.leaves(nnx.state(task.model(seed), nnx.Param)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_digits_are_all_there_once_in_equal_shares():
    from sklearn.datasets import load_digits

    digits = tasks.get("digits").data()
    parts = digits.train, digits.validation, digits.test
    found = np.concatenate([np.column_stack([part.x * 16, part.y]) for part in parts])
    x, y = load_digits(return_X_y=True)
    wanted = np.column_stack([x, y])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], wanted[np.lexsort(wanted.T)])
    for part, size in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert part.x.dtype == np.float32
        assert part.x.min() == 0
        assert part.x.max() == 1
        # Stratified: each digit's share is the same everywhere, up to one example.
        assert np.abs(np.bincount(part.y) - size * np.bincount(y)).max() <= 1.5
    again = tasks.get("digits").data()
    np.testing.assert_array_equal(digits.train.x, again.train.x)


def test_digits_loss_is_the_cross_entropy():
    task, rng = tasks.get("digits"), np.random.default_rng(0)
    logits, y = rng.normal(size=(5, 10)).astype(np.float32), np.array([3, 1, 4, 1, 5], np.int32)
    p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
    # float32 sums of 10 terms of size 1: a few units of 6e-8
    np.testing.assert_allclose(task.loss(lambda x: x, logits, y), -np.log(p[range(5), y]).mean(), rtol=1e-6)
    assert task.metric(lambda x: x, logits, logits.argmax(1)) == 1


def test_mlp_is_affine_maps_with_the_activation_between_them():
    model = MLP((3, 4, 2), activation=jax.numpy.tanh, rngs=nnx.Rngs(0))
    one, two = ((np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])) for layer in model.layers)
    x = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_allclose(model(x), np.tanh(x @ one[0] + one[1]) @ two[0] + two[1], rtol=1e-5)


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0, 2)])
def test_mlp_refuses_sizes_that_are_none(sizes):
    with pytest.raises(ValueError, match="sizes must name at least the input and the output"):
        MLP(sizes, rngs=nnx.Rngs(0))

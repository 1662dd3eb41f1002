"""Tables: standardised by the training examples alone; the optimum of the logistic regression, found another way."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks import tables


@pytest.fixture(scope="module")
def tumours():
    return tasks.get("breast_cancer").data()


def objective(w, x, y):
    """Mean cross-entropy and 0.005 |w|^2, its gradient and Hessian; the last of w is the bias, which has no penalty."""
    penalty = np.r_[np.full(x.shape[1] - 1, 0.01), 0]
    z = x @ w
    p = 1 / (1 + np.exp(-z))
    value = np.mean(np.logaddexp(0, z) - y * z) + np.sum(penalty * w**2) / 2
    return value, x.T @ (p - y) / len(y) + penalty * w, (x.T * (p * (1 - p))) @ x / len(y) + np.diag(penalty)


def newton(x, y):
    w = np.zeros(x.shape[1])
    for _ in range(20):
        _, gradient, hessian = objective(w, x, y)
        w -= np.linalg.solve(hessian, gradient)
    return w


def test_the_optimum_is_known(tumours):
    x = np.column_stack([tumours.train.x.astype(float), np.ones(len(tumours.train.x))])
    y = tumours.train.y.astype(float)
    w = newton(x, y)
    value, gradient, hessian = objective(w, x, y)
    # f(w) - f* <= |gradient|^2 / (2 smallest curvature), so the value is the minimum up to its own rounding.
    assert np.sum(gradient**2) / (2 * np.linalg.eigvalsh(hessian).min()) < 1e-16
    assert value == pytest.approx(tables.OPTIMUM, abs=1e-10)


def test_scikit_learn_finds_the_same_optimum(tumours):
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = (part.astype(float) for part in tumours.train)
    # Its loss is C times the sum over the examples, plus |w|^2 / 2: ours over lambda.
    model = linear.LogisticRegression(C=1 / (len(x) * tables.PENALTY), tol=1e-10, max_iter=1000, solver="newton-cg")
    model.fit(x, y)
    value, _, _ = objective(np.r_[model.coef_[0], model.intercept_], np.column_stack([x, np.ones(len(x))]), y)
    assert value == pytest.approx(tables.OPTIMUM, abs=1e-10)


def test_the_loss_is_the_stated_one_and_the_gap_closes(tumours):
    task = tasks.get("breast_cancer")
    x, y = tumours.train
    model = task.model(0)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == 31
    (layer,) = model.layers
    w = np.r_[np.asarray(layer.kernel[...])[:, 0], np.asarray(layer.bias[...])].astype(float)
    columns = np.column_stack([x.astype(float), np.ones(len(x))])
    # float32: 30 products and sums per example, errors of 6e-8 that mostly cancel in the mean
    assert float(task.loss(model, x, y)) == pytest.approx(objective(w, columns, y.astype(float))[0], rel=1e-6)
    best = newton(columns, y.astype(float)).astype(np.float32)
    layer.kernel[...], layer.bias[...] = best[:-1, None], best[-1:]
    assert abs(task.metric(model, x, y)) < 1e-7  # one rounding of a loss near 0.1, and of the sums in it
    layer.bias[...] = layer.bias[...] + 1
    assert task.metric(model, x, y) > 1e-3


@pytest.mark.parametrize(("name", "sizes"), [("breast_cancer", (455, 455, 114)), ("diabetes", (265, 88, 89))])
def test_features_are_standardised_by_the_training_part(name, sizes):
    data = tasks.get(name).data()
    assert tuple(len(part.x) for part in (data.train, data.validation, data.test)) == sizes
    # float32 columns of 455 numbers up to 12: their mean is exact to 1e-7
    np.testing.assert_allclose(data.train.x.mean(axis=0, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.x.std(axis=0, dtype=float), 1, atol=1e-6)
    assert np.abs(data.test.x.mean(axis=0)).max() > 1e-3, "the test part has its own mean"


def test_diabetes_is_judged_by_the_share_of_variance_explained():
    metrics = pytest.importorskip("sklearn.metrics")
    task = tasks.get("diabetes")
    x, y = task.data().validation
    model = task.model(0)
    wanted = metrics.r2_score(y.astype(float), np.asarray(model(x)).astype(float))
    # sums of 88 squares in float32
    assert float(task.metric(model, x, y)) == pytest.approx(wanted, rel=1e-5)
    assert float(task.loss(model, x, y)) == pytest.approx(np.mean((y - np.asarray(model(x))) ** 2), rel=1e-5)
    assert task.metric(lambda x: y, x, y) == 1

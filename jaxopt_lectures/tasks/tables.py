"""Two tables of measurements bundled with scikit-learn: breast cancer (is it malignant?) and diabetes (how it goes on).

Sources: W. Street, W. Wolberg, O. Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993;
B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least angle regression", Annals of Statistics 32, 2004.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks import split
from jaxopt_lectures.tasks.measures import squared_error
from jaxopt_lectures.tasks.task import Data, Examples, Task

PENALTY = 0.01  # lambda of the L2 term
OPTIMUM = 0.0965564497740809  # of `penalised` on the training examples, by Newton's method in float64


def breast_cancer_data() -> Data:
    """455 tumours to train and to judge by, 114 to test: 30 features each, and 1 for benign, 0 for malignant.

    The gap to an optimum is of the function that is minimised: the training examples are the validation examples.
    """
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, train_size=0.8, stratify=y, random_state=split.SEED)
    train, test = (
        Examples(part, label.astype(np.float32))
        for part, label in zip(_standardised(x, x, x_test), (y, y_test), strict=True)
    )
    return Data(train, train, test)


def diabetes_data() -> Data:
    """265 patients to train, 88 to validate, 89 to test: 10 features, and the disease's progression after a year.

    All standardised by the training examples' mean and standard deviation.
    """
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    inputs, targets = (_standardised(parts[0], *parts) for parts in zip(*split.in_three(x, y[:, None]), strict=True))
    return Data(*(Examples(*part) for part in zip(inputs, targets, strict=True)))


def _standardised(reference: np.ndarray, *parts: np.ndarray) -> list[np.ndarray]:
    """Each column minus its mean, over its standard deviation, both of `reference`; float32."""
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    return [((part - mean) / deviation).astype(np.float32) for part in parts]


def _logistic(seed: int) -> nnx.Module:
    return MLP((30, 1), rngs=nnx.Rngs(seed))


def _regression(seed: int) -> nnx.Module:
    return MLP((10, 16, 1), activation=jnp.tanh, rngs=nnx.Rngs(seed))


def penalised(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """`mean_i -log p(y_i | x_i) + lambda/2 |w|^2` with lambda = 0.01; the bias is not in the second term."""
    (layer,) = model.layers
    return jnp.mean(optax.sigmoid_binary_cross_entropy(model(x)[:, 0], y)) + PENALTY / 2 * jnp.sum(
        layer.kernel[...] ** 2
    )


def gap(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """How far the loss is above its minimum; in float32 no closer than about 1e-7."""
    return penalised(model, x, y) - OPTIMUM


def explained(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """R^2 = 1 - sum (y - y_hat)^2 / sum (y - mean(y))^2: the share of the variance that the model explains."""
    return 1 - jnp.sum((y - model(x)) ** 2) / jnp.sum((y - jnp.mean(y)) ** 2)


breast_cancer = Task(
    name="breast_cancer",
    summary="benign or malignant, logistic regression with an L2 term, whose minimum is known",
    model=_logistic,
    loss=penalised,
    metric=gap,
    data=breast_cancer_data,
    batch_size=455,
    target=1e-4,
    metric_name="gap",
    metric_unit="",
    larger_is_better=False,
)

diabetes = Task(
    name="diabetes",
    summary="progression of diabetes, perceptron 10-16-1",
    model=_regression,
    loss=squared_error,
    metric=explained,
    data=diabetes_data,
    batch_size=32,
    target=0.4,
    metric_name="R^2",
    metric_unit="",
)

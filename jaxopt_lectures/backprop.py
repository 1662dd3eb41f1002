"""Back-propagation by hand: the four equations of lecture 004 for a dense network, batched, one line each.

    z^l = w^l a^{l-1} + b^l,  a^l = sigma(z^l),  a^0 = x          the forward pass
    delta^L = grad_a C (.) sigma'(z^L)                            BP1, the error of the output
    delta^l = ((w^{l+1})^T delta^{l+1}) (.) sigma'(z^l)           BP2, the error, one layer back
    dC/db_j^l = delta_j^l                                         BP3
    dC/dw_jk^l = a_k^{l-1} delta_j^l                              BP4

(.) is the product of elements. `jax.grad` gives the same numbers; this is for seeing how they come about.

Parameters are a sequence of layers `(w, b)`, w of shape (to, from), b of shape (to,). Everything is computed, and
returned, in float32 (float64 if one array is): a gradient of 1e-8 would be 0 in float16. Optimizers take it as it is.

Errata of lecture 004: it calls w_jk the weight "from node j to node k", which is of shape (from, to), but its equations
need (to, from), as here. It prints a^l for l = 2, 3 only, though a^0 = x needs l = 1 ... L. delta^L is printed with a
plain dot once and with (.) once; it is (.). Its labels {0, ..., K} are K + 1 classes, not K.

Sources: lecture 004; D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating errors",
Nature 323, 1986; M. Nielsen, "Neural networks and deep learning", 2015, chapters 2 and 5.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.losses import cross_entropy_with_logits, mse

Layers = Sequence[tuple[Any, Any]]
Function = Callable[[jax.Array], jax.Array]

ACTIVATIONS: Mapping[str, tuple[Function, Function]] = {
    # sigma (1 - sigma), written so that 1 - sigma is not rounded to 0
    "sigmoid": (jax.nn.sigmoid, lambda z: jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)),
    # by tanh(z) = 2 sigma(2 z) - 1 of lecture 000
    "tanh": (jnp.tanh, lambda z: 4 * jax.nn.sigmoid(2 * z) * jax.nn.sigmoid(-2 * z)),
    "relu": (jax.nn.relu, lambda z: (z > 0).astype(z.dtype)),
}
"""Each activation sigma by name, with its derivative sigma'."""


def forward(
    layers: Layers, x: Any, activation: str = "sigmoid", cost: str = "mse"
) -> tuple[list[jax.Array], list[jax.Array]]:
    """The forward pass: `z^l = w^l a^{l-1} + b^l`, `a^l = sigma(z^l)`, from `a^0 = x`.

    Args:
      layers: L pairs (w, b), shapes (to, from) and (to,), first layer first.
      x: samples, (N, P); a sample is a row.
      activation: sigma: "sigmoid", "tanh" or "relu".
      cost: "mse": sigma acts on the last layer too. "cross_entropy": the last activation is the softmax.

    Returns:
      `(zs, activations)`: the weighted inputs z^1 ... z^L (item l - 1 is z^l) and the activations a^0 ... a^L (item l
      is a^l), one array of shape (N, nodes) each.

    Raises:
      ValueError: an unknown name, no layer, no sample, a layer that is no pair or does not fit, naming it.
      TypeError: complex arrays.

    Source: lecture 004, the definitions and step 1.
    """
    weights, biases, x = _checked(layers, x, activation, cost)
    return _forward(weights, biases, x, activation, cost)


def gradients(
    layers: Layers,
    x: Any,
    y: Any,
    *,
    activation: str = "sigmoid",
    cost: str = "mse",
    reduction: str = "mean",
) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
    """The cost and its gradients by the four equations of back-propagation.

    Lecture 004 defines C as a mean over N samples and later differentiates `C = sum_i C_i`. With `reduction="sum"` the
    cost, the gradients and a step of gradient descent are exactly N times as large as with "mean".

    Args:
      layers: L pairs (w, b), shapes (to, from) and (to,), first layer first.
      x: samples, (N, P).
      y: targets, (N, K): real numbers for "mse", rows that sum to 1 (`one_hot`) for "cross_entropy".
      activation: "sigmoid", "tanh" or "relu" (whose derivative at 0 is 0); with cost "mse" also of the last layer.
      cost: "mse": C_i is the mean of (y_ik - a_ik^L)^2 over the K outputs, so that "mean" is `losses.mse`.
        "cross_entropy": softmax in the last layer and C_i = - sum_k y_ik log(a_ik^L).
      reduction: "mean": C = 1/N sum_i C_i. "sum": C = sum_i C_i.

    Returns:
      `(cost, [(dC/dw, dC/db), ...])`: a scalar, and a pair for each layer, shaped like its (w, b).

    Raises:
      ValueError: an unknown name, no layer, no sample, a layer that is no pair or does not fit, naming it.
      TypeError: complex arrays.

    Source: lecture 004, steps 1 to 4.
    """
    _known("reduction", reduction, ("mean", "sum"))
    weights, biases, x, y = _checked(layers, x, activation, cost, y)
    zs, activations = _forward(weights, biases, x, activation, cost)
    slope = ACTIVATIONS[activation][1]
    share = 1 / len(x) if reduction == "mean" else 1.0
    value, delta = (share * c for c in _output_error(y, zs[-1], activations[-1], activation, cost))
    found = []
    for i in reversed(range(len(weights))):  # weights[i] is w^l, zs[i] is z^l, activations[i] is a^{l-1}
        gradient_b = jnp.sum(delta, axis=0)  # BP3: dC/db_j = delta_j, summed over the samples
        gradient_w = delta.T @ activations[i]  # BP4: dC/dw_jk = a_k^{l-1} delta_j, summed over the samples
        found.append((gradient_w, gradient_b))
        if i > 0:
            delta = (delta @ weights[i]) * slope(zs[i - 1])  # BP2: delta^{l-1} = ((w^l)^T delta^l) (.) sigma'(z^{l-1})
    return value, found[::-1]


def one_hot(labels: Any, classes: int) -> jax.Array:
    """Class labels as rows of zeros with a single 1: lecture 004's "dummy variables".

    Args:
      labels: integers in 0 ... classes - 1, any shape (...).
      classes: how many classes there are, K; >= 1.

    Returns:
      float32 of shape (..., classes). Under `jit`, where nothing can raise, the row of a label out of range is NaN.

    Raises:
      ValueError: a label out of range, naming it and where it stands; `classes` below 1.
      TypeError: labels that are not integers, or `classes` that is none.

    Source: lecture 004, the classification problem.
    """
    whole("classes", classes, 1)
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    labels = labels.astype(jnp.int32) if labels.itemsize < 4 else labels  # `classes` need not fit into a uint8
    fits = (labels >= 0) & (labels < classes)
    if not isinstance(labels, jax.core.Tracer) and not jnp.all(fits):
        where = tuple(int(i) for i in np.argwhere(~np.asarray(fits))[0])
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, got {int(labels[where])} at {where}")
    return jnp.where(fits[..., None], jax.nn.one_hot(labels, classes, dtype=jnp.float32), jnp.nan)


def chain_bias_gradients(weights: Any, zs: Any, output_gradient: Any, activation: str = "sigmoid") -> jax.Array:
    """The gradient of every bias in a chain of single neurons: lecture 004's unstable gradients.

    `dC/db^l = sigma'(z^l) w^{l+1} sigma'(z^{l+1}) ... w^n sigma'(z^n) grad_{a^n} C`: a factor w sigma' for each neuron
    on the way back. The sigmoid's sigma' is at most 1/4, so gradients vanish where |w| < 4 and explode where
    |w| sigma' > 1; at z = 0 the first of four is (w/4)^3 times the last.

    Args:
      weights: w^1 ... w^n, (n,): w^l comes into neuron l. (w^1, from the input, is part of z^1 and of no gradient.)
      zs: weighted inputs z^1 ... z^n, (n,), or (n, N) for N samples.
      output_gradient: grad_{a^n} C, a scalar, or (N,).
      activation: sigma: "sigmoid", "tanh" or "relu".

    Returns:
      dC/db^1 ... dC/db^n, shaped like `zs`.

    Raises:
      ValueError: an unknown activation, an empty chain, or shapes that do not fit.
      TypeError: complex arrays.

    Source: lecture 004, "a simple example" (n = 4).
    """
    slope = _known("activation", activation, ACTIVATIONS)[1]
    w, z, gradient_a = _real(weights, zs, output_gradient)
    if not z.ndim or w.shape != z.shape[:1] or gradient_a.shape != z.shape[1:] or not len(z):
        raise ValueError(
            f"a chain of n neurons has weights (n,), zs (n,) or (n, N) and output_gradient () or (N,), "
            f"got shapes {w.shape}, {z.shape} and {gradient_a.shape}"
        )
    found = [slope(z[-1]) * gradient_a]  # dC/db^n = sigma'(z^n) grad C
    for i in reversed(range(len(z) - 1)):
        found.append(slope(z[i]) * w[i + 1] * found[-1])  # dC/db^l = sigma'(z^l) w^{l+1} dC/db^{l+1}
    return jnp.stack(found[::-1])


def _forward(
    weights: list[jax.Array], biases: list[jax.Array], x: jax.Array, activation: str, cost: str
) -> tuple[list[jax.Array], list[jax.Array]]:
    sigma = ACTIVATIONS[activation][0]
    zs, activations = [], [x]  # a^0 = x
    for w, b in zip(weights, biases, strict=True):
        zs.append(activations[-1] @ w.T + b)  # z^l = w^l a^{l-1} + b^l, for each row
        activations.append(sigma(zs[-1]))  # a^l = sigma(z^l)
    if cost == "cross_entropy":
        activations[-1] = jax.nn.softmax(zs[-1])
    return zs, activations


def _output_error(y: jax.Array, z: jax.Array, a: jax.Array, activation: str, cost: str) -> tuple[jax.Array, jax.Array]:
    """BP1 for `C = sum_i C_i`: C, and delta^L of each sample."""
    if cost == "mse":
        gradient_a = 2 / y.shape[1] * (a - y)
        return mse(y, a) * len(y), gradient_a * ACTIVATIONS[activation][1](z)  # BP1: grad_a C (.) sigma'(z^L)
    total = jnp.sum(y, axis=1, keepdims=True)  # 1 for one-hot rows
    return jnp.sum(cross_entropy_with_logits(y, z)), a * total - y  # BP1 where sigma is the softmax: a^L - y


def _checked(layers: Layers, x: Any, activation: str, cost: str, y: Any = None) -> Any:
    """Weights, biases, x (and y), in the dtype to compute in, once everything is seen to fit."""
    _known("activation", activation, ACTIVATIONS)
    _known("cost", cost, ("mse", "cross_entropy"))
    for number, pair in enumerate(layers, 1):  # an array's rows would be taken for pairs, were they two long
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = f"{len(pair)} entries" if isinstance(pair, tuple | list) else type(pair).__name__
            raise ValueError(f"layer {number} must be a pair (w, b), got {got}")
    if not len(layers):
        raise ValueError("layers is empty: a network has at least one layer (w, b)")
    ws, bs = zip(*layers, strict=True)
    x, *arrays = _real(x, *ws, *bs, *([] if y is None else [y]))
    weights, biases = arrays[: len(ws)], arrays[len(ws) : 2 * len(ws)]
    if x.ndim != 2 or not x.size:
        raise ValueError(f"x must have shape (N, P), a row for each of N >= 1 samples, got {x.shape}")
    width, before = x.shape[1], "x"
    for number, (w, b) in enumerate(zip(weights, biases, strict=True), 1):
        if w.ndim != 2 or w.shape[1] != width or b.shape != w.shape[:1] or not w.size:
            raise ValueError(
                f"layer {number}: w of shape (to, {width}) and b of shape (to,) fit to {before}, "
                f"which has {width} columns, got {w.shape} and {b.shape}"
            )
        width, before = w.shape[0], f"layer {number}"
    if y is not None and arrays[-1].shape != (len(x), width):
        raise ValueError(
            f"y has shape {arrays[-1].shape}, the network's output {(len(x), width)}: they must be equal "
            "(class labels become rows by one_hot(labels, classes))"
        )
    return weights, biases, x, *([] if y is None else arrays[-1:])


def _real(*values: Any) -> list[jax.Array]:
    """All as arrays in one dtype, that to compute in."""
    arrays = [jnp.asarray(value) for value in values]
    for array in arrays:
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(f"back-propagation is for real arrays, got dtype {array.dtype} of shape {array.shape}")
    dtype = arithmetic_dtype(*[array.dtype for array in arrays])
    return [array.astype(dtype) for array in arrays]


def _known(name: str, value: Any, known: Any) -> Any:
    """What `value` names in `known`, a mapping or a tuple of names."""
    if value not in tuple(known):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    return known[value] if isinstance(known, Mapping) else value

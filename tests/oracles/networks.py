"""Losses and back-propagation, index by index.

Nothing here is a matrix product: every sum runs over an index that the lecture writes, one sample at a time, so that
a transposed weight or a batch summed twice cannot hide. Layers are pairs (w, b), `w[j][k]` from node k to node j.
"""

import math

import numpy as np

SIGMA = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z)),
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
}
# e^-|z| / (1 + e^-|z|)^2 and 1 / cosh^2, neither of which cancels
SLOPE = {
    "sigmoid": lambda z: math.exp(-abs(z)) / (1 + math.exp(-abs(z))) ** 2,
    "tanh": lambda z: 1 / math.cosh(z) ** 2,
    "relu": lambda z: 1.0 if z > 0 else 0.0,
}


def mse(y, y_hat):
    """Lectures 000 and 004: 1/N sum (y_i - y_hat_i)^2. Its gradient by y_hat_i is 2 (y_hat_i - y_i) / N."""
    pairs = list(zip(_flat(y), _flat(y_hat), strict=True))
    return math.fsum((a - b) ** 2 for a, b in pairs) / len(pairs)


def mae(y, y_hat):
    """Lecture 000: 1/N sum |y_i - y_hat_i|."""
    pairs = list(zip(_flat(y), _flat(y_hat), strict=True))
    return math.fsum(abs(a - b) for a, b in pairs) / len(pairs)


def cross_entropy(o, y_hat):
    """Lecture 002, one sample: - sum_i o_i log(y_hat_i), 0 log 0 = 0."""
    terms = []
    for a, b in zip(_flat(o), _flat(y_hat), strict=True):
        if a != 0:
            terms.append(-a * (math.log(b) if b > 0 else -math.inf))
    return math.fsum(terms)


def cross_entropy_with_logits(o, logits):
    """The same, of softmax(logits): sum_i o_i (log sum_k e^{z_k - z_max} - (z_i - z_max))."""
    z = _flat(logits)
    largest = max(z)
    total = math.log(math.fsum(math.exp(k - largest) for k in z))
    return math.fsum(a * (total - (k - largest)) for a, k in zip(_flat(o), z, strict=True))


def softmax(z):
    """e^{z_i} / sum_k e^{z_k}."""
    z = _flat(z)
    e = [math.exp(k - max(z)) for k in z]
    return [k / math.fsum(e) for k in e]


def network(layers, x, activation="sigmoid", cost="mse"):
    """One sample x through all layers: the lists z^1 ... z^L and a^0 ... a^L."""
    zs, activations = [], [_flat(x)]
    for w, b in layers:
        z = [math.fsum(w[j][k] * a for k, a in enumerate(activations[-1])) + b[j] for j in range(len(b))]
        zs.append([float(v) for v in z])
        activations.append([SIGMA[activation](v) for v in zs[-1]])
    if cost == "cross_entropy":
        activations[-1] = softmax(zs[-1])
    return zs, activations


def back_propagation(layers, x, y, activation="sigmoid", cost="mse", reduction="mean"):
    """Lecture 004's steps 1 to 4, for each sample in turn: (C, [(dC/dw, dC/db), ...])."""
    layers = [(np.asarray(w, np.float64), np.asarray(b, np.float64)) for w, b in layers]
    found = [(np.zeros(w.shape), np.zeros(b.shape)) for w, b in layers]
    value = 0.0
    share = 1 / len(x) if reduction == "mean" else 1.0
    for sample, target in zip(np.asarray(x, np.float64), np.asarray(y, np.float64), strict=True):
        zs, activations = network(layers, sample, activation, cost)
        last, outputs = activations[-1], len(target)
        if cost == "mse":
            value += share * mse(target, last)
            delta = [2 / outputs * (last[j] - target[j]) * SLOPE[activation](zs[-1][j]) for j in range(outputs)]
        else:
            value += share * cross_entropy_with_logits(target, zs[-1])
            # sum_i dC/da_i da_i/dz_j with C = - sum o_i log a_i and da_i/dz_j = a_i ([i = j] - a_j)
            delta = [
                math.fsum(-target[i] * ((1.0 if i == j else 0.0) - last[j]) for i in range(outputs))
                for j in range(outputs)
            ]
        for layer in range(len(layers) - 1, -1, -1):
            w, _ = layers[layer]
            for j in range(w.shape[0]):
                found[layer][1][j] += share * delta[j]
                for k in range(w.shape[1]):
                    found[layer][0][j, k] += share * activations[layer][k] * delta[j]
            if layer:
                delta = [
                    math.fsum(w[j, k] * delta[j] for j in range(w.shape[0])) * SLOPE[activation](zs[layer - 1][k])
                    for k in range(w.shape[1])
                ]
    return value, found


def four_neurons(w, z, gradient):
    """Lecture 004's chain, its four lines as they stand (sigmoid). w[1] is w^2; w[0] is used by none."""
    s = [SLOPE["sigmoid"](v) for v in z]
    return [
        s[0] * w[1] * s[1] * w[2] * s[2] * w[3] * s[3] * gradient,
        s[1] * w[2] * s[2] * w[3] * s[3] * gradient,
        s[2] * w[3] * s[3] * gradient,
        s[3] * gradient,
    ]


def _flat(values):
    return [float(v) for v in np.ravel(np.asarray(values, np.float64))]

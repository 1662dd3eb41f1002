"""What the tests of the models share: counting, quick weights, and NumPy's convolutions and poolings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

ALL_AXES_BUT_THE_LAST = (0, 1, 2)


def parameters(make):
    """How many numbers `make(rngs=...)` would train, from shapes alone: nothing is allocated."""
    model = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def filled(make):
    """`make(rngs=...)` with NumPy's numbers in all its arrays: no bias is 0, no scale is 1, nothing is compiled."""
    abstract = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    graph, floats, rest = nnx.split(abstract, (nnx.Param, nnx.BatchStat), ...)
    rng = np.random.default_rng(0)

    def numbers(path, leaf):
        if len(leaf.shape) > 1:
            return jnp.asarray(rng.normal(size=leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1])), float)
        near_one = any(name in jax.tree_util.keystr(path) for name in ("scale", "var"))
        return jnp.asarray(near_one + 0.1 * rng.random(leaf.shape), float)

    def randomness(leaf):
        return jax.random.key(0) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.uint32(0)

    return nnx.merge(graph, jax.tree_util.tree_map_with_path(numbers, floats), jax.tree.map(randomness, rest))


def seeded(seed=0):
    """Random numbers whose programs compile quickly."""
    return nnx.Rngs(jax.random.key(seed, impl="unsafe_rbg"))


@nnx.jit
def run(model, x):
    """One compiled call, as a program would make it."""
    return model(x)


def array(parameter):
    return np.asarray(parameter[...], float)


def windows(x, size, stride):
    """(N, H, W, C) to (N, H', W', C, size, size)."""
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]


def padded(x, padding, value=0.0):
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=value)


def convolution(x, layer, padding=0, stride=1):
    """y[n, i, j, d] = sum_{abc} x[n, stride i + a - padding, stride j + b - padding, c] w[a, b, c, d] + bias."""
    kernel = array(layer.kernel)
    y = np.einsum("nijcab,abcd->nijd", windows(padded(x, padding), len(kernel), stride), kernel)
    return y if layer.bias is None else y + array(layer.bias)


def maximum(x, size, stride, padding=0):
    return windows(padded(x, padding, -np.inf), size, stride).max((-2, -1))


def dense(x, layer):
    return x @ array(layer.kernel) + array(layer.bias)


def normalised(x, layer):
    """Batch normalisation in training, eps inside the root."""
    mean, variance = x.mean(ALL_AXES_BUT_THE_LAST), x.var(ALL_AXES_BUT_THE_LAST)
    return (x - mean) / np.sqrt(variance + 1e-5) * array(layer.scale) + array(layer.bias)

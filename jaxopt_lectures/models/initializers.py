"""Initial weights: the sparse ones of lecture 002's paper, and jax's own under one roof.

Here are `glorot_normal`, `glorot_uniform`, `he_normal`, `he_uniform`, `normal` and `orthogonal` of
`jax.nn.initializers`, unchanged. Each call makes a function `(key, shape, dtype) -> weights` that Flax layers take as
`kernel_init`; a kernel's last axis counts the units it feeds, all other axes their inputs.

Sources: X. Glorot, Y. Bengio, AISTATS 2010 (variance 2 / (inputs + outputs)); K. He et al., ICCV 2015 (variance
2 / inputs, for ReLU); A. Saxe, J. McClelland, S. Ganguli, ICLR 2014 (orthogonal); J. Martens, "Deep learning via
Hessian-free optimization", ICML 2010 (sparse); I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of
initialization and momentum in deep learning", ICML 2013 (sparse, section 3.1; recurrent, section 4.1).
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import (
    Initializer,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    normal,
    orthogonal,
)

__all__ = ["echo", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "normal", "orthogonal", "sparse"]


def sparse(connections: int = 15, scale: float = 1.0) -> Initializer:
    """Weights of which every unit has only `connections` that are not 0, each drawn from N(0, scale^2).

    Which inputs a unit listens to is random, and another choice for every unit. So the size of its input does not grow
    with the layer below, and units differ from each other although none is saturated. Biases start at 0. For tanh
    units Sutskever et al. take `scale=0.25` and biases of 0.5, which imitates logistic units, because
    sigmoid(z) = (1 + tanh(z / 2)) / 2.

    Args:
      connections: weights per unit that are not 0, >= 1; all of them if the unit has fewer inputs.
      scale: their standard deviation, > 0.

    Returns:
      `(key, shape, dtype) -> weights`, where the units are the last axis of `shape` and their inputs all other axes
      (for a convolution: a window of every channel).

    Raises:
      ValueError: a number outside its range; a shape with fewer than two axes, when the initializer is called.

    Source: J. Martens, ICML 2010; I. Sutskever et al., ICML 2013, section 3.1 (lecture 002).
    """
    if connections < 1:
        raise ValueError(f"connections must be at least 1, got {connections}")
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}")

    def draw(key: Any, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        del out_sharding  # weights are drawn where jax draws; its own initializers know the argument
        if len(shape) < 2:
            raise ValueError(f"sparse weights need a shape of inputs and units, got {tuple(shape)}")
        return _sparse(key, tuple(shape), dtype, connections, scale)

    return draw


@partial(jax.jit, static_argnums=(1, 2, 3, 4))  # compiled as one, in half the time
def _sparse(key: Any, shape: tuple[int, ...], dtype: Any, connections: int, scale: float) -> jax.Array:
    inputs, units = math.prod(shape[:-1]), shape[-1]
    where, values = jax.random.split(key)
    first = jnp.broadcast_to(jnp.arange(inputs)[:, None] < connections, (inputs, units))
    chosen = jax.random.permutation(where, first, axis=0, independent=True)
    drawn = jnp.asarray(scale, dtype) * jax.random.normal(values, (inputs, units), dtype)
    return jnp.where(chosen, drawn, jnp.zeros((), dtype)).reshape(shape)


def echo(radius: float = 1.1, connections: int = 15) -> Initializer:
    """Sparse recurrent weights, scaled so that the largest eigenvalue has the absolute value `radius`.

    Below 1 a tanh network forgets its inputs, far above 1 its gradients explode; slightly above 1 it remembers. With it
    go weights N(0, 0.001^2) from inputs of which many are noise, N(0, 0.1^2) from others and to the outputs, biases 0.

    The largest absolute value is the limit of `norm(W^k)^(1/k)`, taken at k = 2^20 by squaring, which needs no
    eigenvalues and therefore runs under `jit` on any device.

    Args:
      radius: spectral radius, > 0.
      connections: weights per unit that are not 0, >= 1. With very few, W can be nilpotent: its radius is 0, and the
        weights are not numbers.

    Returns:
      `(key, shape, dtype) -> weights` for a square shape.

    Raises:
      ValueError: a number outside its range; a shape that is not square, when the initializer is called.

    Source: I. Sutskever et al., ICML 2013, section 4.1 and table 4 (lecture 002), after H. Jaeger, H. Haas, 2004.
    """
    if not radius > 0:
        raise ValueError(f"radius must be above 0, got {radius}")
    weights = sparse(connections)

    def draw(key: Any, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        del out_sharding
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"recurrent weights need a square shape, got {tuple(shape)}")
        # half precision is too coarse to square a matrix 20 times
        w = weights(key, shape, dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)
        return (w * (radius / _spectral_radius(w))).astype(dtype)

    return draw


def _spectral_radius(w: jax.Array) -> jax.Array:
    # norm(W^(2^j)) is the product of what was divided out: its error at step j counts 2^-j, so rounding stays small.
    def double(_: Any, carry: Any) -> Any:
        logarithm, power, share = carry
        norm = jnp.linalg.norm(power)
        power = power / norm
        return logarithm + share * jnp.log(norm), jnp.matmul(power, power, precision="highest"), share / 2

    zero = jnp.zeros((), w.dtype)
    return jnp.exp(jax.lax.fori_loop(0, 21, double, (zero, w, zero + 1))[0])

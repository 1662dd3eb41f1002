"""Models of other making as Flax NNX modules: a pair of functions, a Linen module."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


class Applied(nnx.Module):
    """`apply(params, *inputs)` as a module; every array of `params` is a parameter."""

    def __init__(self, params: Any, apply: Callable[..., Any]) -> None:
        leaves, self.treedef = jax.tree.flatten(params)
        self.params, self.apply = nnx.List([nnx.Param(leaf) for leaf in leaves]), apply

    def __call__(self, *inputs: Any) -> Any:
        """What `apply` gives."""
        return self.apply(self.treedef.unflatten([param[...] for param in self.params]), *inputs)


class FromLinen(nnx.Module):
    """A Linen module; in training mode its other collections change, and it is told `train=True` if it asks."""

    def __init__(self, module: Any, inputs: tuple[Any, ...], seed: int) -> None:
        streams = nnx.Rngs(seed, params=seed, dropout=seed + 1)
        self.inner = nnx.bridge.lazy_init(nnx.bridge.ToNNX(module, rngs=streams), *inputs)
        self.deterministic = False
        self.asks = "train" in inspect.signature(module.__call__).parameters

    def __call__(self, *inputs: Any) -> Any:
        """What the module gives."""
        told = {"train": not self.deterministic} if self.asks else {}
        return self.inner(*inputs, mutable=not self.deterministic, **told)


def from_functions(init: Callable[[jax.Array], Any], apply: Callable[..., Any]) -> Callable[[int], nnx.Module]:
    """A `Task.model` of two functions.

    Args:
      init: key -> parameters, a tree of arrays.
      apply: `(parameters, *inputs)` -> what the model gives.
    """
    return lambda seed: Applied(init(jax.random.key(seed)), apply)


def from_linen(module: Any, *inputs: Any) -> Callable[[int], nnx.Module]:
    """A `Task.model` of a Linen module; batch statistics and dropout keys are carried along.

    A module whose `__call__` has an argument `train` is told whether it is being trained.

    Args:
      module: the Linen module.
      inputs: arrays of the shapes and dtypes that it will be called with, to draw the parameters for.
    """
    return lambda seed: FromLinen(module, inputs, seed)

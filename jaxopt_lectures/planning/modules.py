"""Flax NNX modules as shapes, and with their repeated blocks rematerialized."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxopt_lectures.planning.residuals import cast


class _Again(nnx.Module):
    """A block whose inside is computed once more in the backward pass, and not kept."""

    def __init__(self, block: Any) -> None:
        self.block = block

    def __call__(self, *inputs: Any) -> Any:
        return nnx.remat(lambda block, *inputs: block(*inputs))(self.block, *inputs)


def parts(model: nnx.Module) -> tuple[Any, Any, int]:
    """Its parameters as a mapping of shapes, what makes it whole again, and the bytes of what is no parameter."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    numbers = [x for x in jax.tree.leaves(rest) if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params, rest))
    return shapes[0], (graph, shapes[1]), sum(int(x.size) * int(x.dtype.itemsize) for x in numbers)


def shapes_of(make: Callable[[], nnx.Module]) -> Any:
    """The module with shapes in place of arrays; nothing is drawn."""
    return nnx.eval_shape(make)


def plain(params: Any) -> Any:
    """The parameters of a module as nested dictionaries."""
    return nnx.to_pure_dict(params)


def blocks_of(model: nnx.Module) -> list[Any]:
    """The lists of equal blocks in a module."""
    lists = [value for _, module in nnx.iter_modules(model) for value in vars(module).values()]
    found = [value for value in lists if isinstance(value, nnx.List) and len(value) > 1]
    return [value for value in found if isinstance(value[0], nnx.Module) and len({type(one) for one in value}) == 1]


def loss_of(whole: Any, loss: Callable[..., Any], dtype: Any, again: bool) -> Callable[..., Any]:
    """`(params, rest, *batch)` -> scalar, of `loss(model, *batch)`."""
    graph, _ = whole

    def run(params: Any, rest: Any, *batch: Any) -> Any:
        model = nnx.merge(graph, cast(params, dtype), rest, copy=True)
        model.train()
        for blocks in blocks_of(model) if again else ():
            for number in range(len(blocks)):
                blocks[number] = _Again(blocks[number])
        return loss(model, *batch)

    return run

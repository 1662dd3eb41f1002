"""Numbers of many arrays, a norm above all, in one call for every few of them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.reductions import one_by_one
from jaxopt_lectures.kernels.cpu import library
from jaxopt_lectures.kernels.cpu.kernels import PLAIN_TILE, Prepared, numbers_of, of_any_size
from jaxopt_lectures.kernels.cpu.source import kernel
from jaxopt_lectures.kernels.cpu.translate import translated
from jaxopt_lectures.kernels.derived import derived

_TOGETHER = 256
"""Arrays in one call."""


def parts(
    lookup: library.Lookup, function: Callable[..., jax.Array], arrays: Sequence[jax.Array], *operands: Any
) -> jax.Array:
    """What `core.reductions.parts` asks for, by kernels where there are any."""
    dtypes = {a.dtype for a in arrays}
    found = []
    for dtype in sorted(dtypes, key=str):
        own = [a for a in arrays if a.dtype == dtype]
        made = prepared(function, str(dtype), tuple(str(jnp.result_type(x)) for x in operands))
        target = made if isinstance(made, str) else lookup(made.kernel)
        if isinstance(target, str):
            found.append(one_by_one(function, own, *operands))
        else:
            found.append(_differentiable(function, made, target.target)(own, operands))
    return jnp.concatenate(found)


@functools.cache
def prepared(function: Callable[..., jax.Array], dtype: str, operands: tuple[str, ...]) -> Prepared | str:
    """The kernel of a reduction of arrays of that dtype, or what cannot be translated."""
    uniforms = [jax.ShapeDtypeStruct((), each) for each in operands]

    def one(size: int) -> Prepared:
        tile = [jax.ShapeDtypeStruct((size,), dtype)]
        program = translated(lambda tiles, numbers, given: function(*tiles, *given), tile, [], uniforms, size)
        where = "static_cast<float*>(leaf.out[0])[leaf.before + tile]"
        return Prepared(kernel(program, [f"{dtype} leaf.in[0]"], [], [where]), program, words=False)

    return of_any_size(one)


@functools.cache
def _differentiable(function: Any, made: Prepared, target: str) -> Callable[..., jax.Array]:
    def plainly(arrays: Sequence[jax.Array], operands: Any) -> jax.Array:
        sizes = [_tiles(a) for a in arrays]
        whole = one_by_one(function, arrays, *operands)
        # as many numbers as the kernel gives: the whole, and nothing of the rest
        starts = np.cumsum([0, *sizes[:-1]])
        return jnp.zeros(sum(sizes), whole.dtype).at[starts].set(whole)

    def run(arrays: Sequence[jax.Array], operands: Any) -> jax.Array:
        numbers = numbers_of(made, operands)
        found = []
        for start in range(0, len(arrays), _TOGETHER):
            group = arrays[start : start + _TOGETHER]
            shapes = np.asarray([(1, a.size, PLAIN_TILE, 0) for a in group], np.int64).reshape(-1)
            result = jax.ShapeDtypeStruct((sum(map(_tiles, group)),), jnp.float32)
            call = jax.ffi.ffi_call(target, [result])
            found += call(numbers, jnp.zeros((1, 1), jnp.uint32), *group, kernel=made.kernel.name, shapes=shapes)
        return jnp.concatenate(found)

    return derived(run, plainly)


def _tiles(a: jax.Array) -> int:
    return -(-a.size // PLAIN_TILE)

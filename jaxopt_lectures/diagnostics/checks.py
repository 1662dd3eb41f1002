"""What the diagnostics ask of their inputs, with one wording for each error."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.checks import check_floating
from jaxopt_lectures.core.rule import as_arrays


def floating(params: Any, what: str = "parameter") -> Any:
    """`params` with arrays as leaves (not weakly typed, so that a loop may carry them).

    Raises:
      TypeError: a leaf that is not a real floating-point array, named by its path.
      ValueError: there are no leaves.
    """
    leaves = as_arrays(jax.tree.leaves(params))
    if not leaves:
        raise ValueError(f"a tree of {what}s must have at least one leaf, got {params!r}")
    check_floating(params, leaves, what)
    return jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(leaf, leaf.dtype) for leaf in leaves])


def scalar_valued(fun: Callable[..., Any]) -> Callable[..., jax.Array]:
    """`fun`, which raises TypeError when it is called and its value is not one floating-point number."""

    def checked(*args: Any) -> jax.Array:
        value = fun(*args)
        one = jax.tree.structure(value) == jax.tree.structure(0)
        if not one or jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            given = f"{jnp.result_type(value)} of shape {jnp.shape(value)}" if one else type(value).__name__
            raise TypeError(f"the function must return one real floating-point number, got {given}")
        return jnp.asarray(value)

    return checked


def like(params: Any, other: Any, what: str) -> Any:
    """`other` as a tree with the structure, shapes and dtypes of `params`.

    Raises:
      TypeError: a leaf of `other` that is not a real floating-point array.
      ValueError: another structure, or a leaf of another shape, named by its path.
    """
    mine, theirs = jax.tree.structure(params), jax.tree.structure(other)
    if mine != theirs:
        raise ValueError(f"the {what} must be a tree like the parameters, {mine}; it is {theirs}")
    leaves = as_arrays(jax.tree.leaves(other))
    check_floating(other, leaves, what)
    paths = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), given in zip(paths, leaves, strict=True):
        if jnp.shape(leaf) != given.shape:
            name = jax.tree_util.keystr(path)
            raise ValueError(f"{what}{name} has shape {given.shape}, the parameter {jnp.shape(leaf)}")
    cast = [jnp.asarray(given, jnp.result_type(leaf)) for (_, leaf), given in zip(paths, leaves, strict=True)]
    return jax.tree.unflatten(mine, cast)

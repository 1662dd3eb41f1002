"""The user's function and point, as a function of one vector.

A point may be an array, a list of numbers, any tree of arrays, or an NNX module, whose `nnx.Param`s are minimised over
and whose other variables stay as they are.
"""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.checks import check_floating
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.rule import as_arrays


@dataclass(frozen=True)
class Form:
    """How a point is made of a vector: static, so it can be part of a key.

    Attributes:
      treedef: the tree of its arrays.
      shapes: their shapes.
      dtypes: their dtypes.
      dtype: the vector's, float64 if one of them is, else float32.
      shardings: where they lie, for those whose type says so; None for others.
      flat: whether the vector is one array, or a list with one for each of theirs.
      graph: what is left of an NNX module without its arrays; None for other points.
    """

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    dtype: Any
    shardings: tuple[Any, ...]
    flat: bool
    graph: Any = None

    def of_leaves(self) -> "Form":
        """The same with a vector that keeps the arrays apart, and so their sharding."""
        return dataclasses.replace(self, flat=False)

    def vector(self, tree: Any) -> Any:
        """A tree like the point as a vector."""
        leaves = [jnp.asarray(leaf).astype(self.dtype) for leaf in self.treedef.flatten_up_to(tree)]
        if not self.flat:
            return leaves
        flat = [self._whole(leaf).ravel() for leaf in leaves]
        return flat[0] if len(flat) == 1 else jnp.concatenate(flat)

    def tree(self, vector: Any) -> Any:
        """The tree of arrays, in the point's dtypes."""
        if self.flat:
            ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
            vector = jnp.split(vector, ends) if len(ends) else [vector]
        arrays = [v.reshape(s) if self.flat else v for v, s in zip(vector, self.shapes, strict=True)]
        if self.flat:
            placed = zip(arrays, self.shardings, strict=True)
            arrays = [a if where is None else jax.sharding.reshard(a, where) for a, where in placed]
        return self.treedef.unflatten([array.astype(dtype) for array, dtype in zip(arrays, self.dtypes, strict=True)])

    def _whole(self, leaf: jax.Array) -> jax.Array:
        """The array on every device, if its type says that it is not."""
        mesh = jax.typeof(leaf).sharding.mesh
        return jax.sharding.reshard(leaf, jax.NamedSharding(mesh, jax.P())) if vectors.is_sharded(leaf) else leaf

    def gradient(self, vector: Any) -> Any:
        """A gradient like the point: for an NNX module, the state of its parameters."""
        return self.tree(vector)

    def point(self, vector: Any, rest: Any) -> Any:
        """What `fun` is called with."""
        tree = self.tree(vector)
        if self.graph is None:
            return tree
        from flax import nnx

        return nnx.merge(self.graph, tree, rest, copy=True)


def taken_apart(x0: Any, flat: bool) -> tuple[Form, Any, Any]:
    """The form of a point, its tree of arrays, and what else an NNX module keeps.

    Raises:
      TypeError: integers, complex numbers or what is no array, naming the leaf.
      ValueError: nothing to minimise over.
    """
    graph, rest = None, None
    flax = sys.modules.get("flax.nnx")  # a module can only be given by who has imported it
    if flax is not None and isinstance(x0, flax.Module):
        graph, x0, rest = flax.split(x0, flax.Param, ...)
    elif type(x0) in (list, tuple) and x0:
        x0 = _as_one_array(x0)
    leaves, treedef = jax.tree.flatten(x0)
    try:
        leaves = as_arrays(leaves)
    except TypeError as error:
        raise TypeError(f"x0 must be an array or a tree of arrays, got {x0!r}") from error
    check_floating(x0, leaves, "x0")
    if sum(leaf.size for leaf in leaves) == 0:
        raise ValueError("x0 has no elements: there is nothing to minimise over")
    dtypes = tuple(jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in leaves)
    shapes = tuple(leaf.shape for leaf in leaves)
    flat = flat or not any(_spread(leaf) for leaf in leaves)
    shardings = tuple(jax.typeof(leaf).sharding if vectors.is_sharded(leaf) else None for leaf in leaves)
    form = Form(treedef, shapes, dtypes, arithmetic_dtype(*dtypes), shardings, flat, graph)
    return form, treedef.unflatten(leaves), rest


def _as_one_array(x0: Any) -> Any:
    """Numbers in lists as an array, as SciPy takes them; other lists stay trees."""
    if _are_numbers(x0):
        return np.asarray(x0)
    alike = all(isinstance(v, (jax.Array, np.ndarray, np.generic)) and v.ndim == 0 for v in x0)
    return jnp.stack([jnp.asarray(v) for v in x0]) if alike else x0


def _are_numbers(value: Any) -> bool:
    if type(value) in (list, tuple):
        return bool(value) and all(map(_are_numbers, value))
    return isinstance(value, (bool, int, float, np.number))


def _spread(leaf: Any) -> bool:
    """Whether an array lies on several devices, as far as can be known."""
    if isinstance(leaf, jax.core.Tracer):
        return vectors.is_sharded(leaf)
    return isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1


@dataclass(frozen=True)
class Objective:
    """What the user gave: the static key of a compiled solve.

    Attributes:
      fun: `fun(x, *args)`, a scalar; `(scalar, aux)` with `has_aux`.
      jac: None: its gradient is JAX's; True: `fun` returns `(scalar, gradient)`; or `jac(x, *args)`.
      hess: `hess(x, *args)`, a matrix over the flat point, or None.
      hessp: `hessp(x, v, *args)`, or None.
      has_aux: see `fun`.
      form: of the point.
    """

    fun: Callable[..., Any]
    jac: Any
    hess: Callable[..., Any] | None
    hessp: Callable[..., Any] | None
    has_aux: bool
    form: Form

    def evaluate(self, vector: Any, rest: Any, args: tuple[Any, ...]) -> tuple[jax.Array, Any, Any]:
        """Value, gradient (a vector) and aux."""
        if self.jac is None:
            (value, aux), gradient = jax.value_and_grad(self._value, has_aux=True)(vector, rest, args)
            return value, gradient, aux
        point = self.form.point(vector, rest)
        if self.jac is True:
            (value, gradient), aux = self._split(self.fun(point, *args), pair=True)
        else:
            (value, aux), gradient = self._value(vector, rest, args), self.jac(point, *args)
        self._check_shapes("jac", gradient)
        return self._scalar(value), self.form.vector(gradient), aux

    def product(self, vector: Any, direction: Any, rest: Any, args: tuple[Any, ...]) -> Any:
        """The Hessian times a vector: forward over reverse, or as the user gave it."""
        point = self.form.point(vector, rest)
        if self.hessp is not None:
            product = self.hessp(point, self.form.tree(direction), *args)
            self._check_shapes("hessp", product)
            return self.form.vector(product)
        if self.hess is not None:
            matrix = jnp.asarray(self.hess(point, *args)).astype(self.form.dtype)
            if matrix.shape != (direction.size, direction.size):
                raise ValueError(f"hess must return a matrix of {direction.size} rows, got shape {matrix.shape}")
            return matrix @ direction
        return jax.jvp(lambda v: self.evaluate(v, rest, args)[1], (vector,), (direction,))[1]

    def _value(self, vector: Any, rest: Any, args: tuple[Any, ...]) -> tuple[jax.Array, Any]:
        value, aux = self._split(self.fun(self.form.point(vector, rest), *args), pair=False)
        return self._scalar(value), aux

    def _split(self, result: Any, pair: bool) -> tuple[Any, Any]:
        """What `fun` returned, without and with aux; with jac=True SciPy's order is ((value, gradient), aux)."""
        expected = "(value, gradient)" if pair else "a scalar"
        if self.has_aux:
            if not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError(f"with has_aux=True, fun must return ({expected}, aux), got {_described(result)}")
            result, aux = result
        else:
            aux = None
        if pair and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"with jac=True, fun must return {expected}, got {_described(result)}")
        return result, aux

    def _scalar(self, value: Any) -> jax.Array:
        if isinstance(value, tuple):
            raise TypeError(
                "fun must return a scalar, got a tuple: has_aux=True for (value, aux), jac=True for (value, gradient)"
            )
        if not hasattr(value, "dtype") and not isinstance(value, (int, float)):
            raise TypeError(f"fun must return a scalar, got {_described(value)}")
        value = jnp.asarray(value)
        if value.shape != ():
            raise ValueError(f"fun must return a scalar, got shape {value.shape}: sum or average it")
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"fun must return a real floating-point number, got dtype {value.dtype}")
        return value.astype(self.form.dtype)

    def _check_shapes(self, name: str, tree: Any) -> None:
        shapes = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(tree))
        if shapes != self.form.shapes:
            raise ValueError(f"{name} must return a gradient of x's shape, {self.form.shapes}, got {shapes}")


def _described(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"

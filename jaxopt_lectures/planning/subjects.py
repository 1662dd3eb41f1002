"""What is planned for: a network known by name, a module, a tree of arrays, a task."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.planning import configurations
from jaxopt_lectures.planning.configurations import Configuration
from jaxopt_lectures.planning.on_device import local
from jaxopt_lectures.planning.residuals import Residuals, cast, extrapolated, residuals
from jaxopt_lectures.scaling.layouts import Rules
from jaxopt_lectures.tasks.task import Task, taken


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something with parameters, and perhaps a loss.

    Attributes:
      name: what a plan calls it.
      rules: where its parameters lie on a mesh, if it says so.
      batch: examples of a step on all devices together; None where no loss is known.
      repeats: how many blocks it has that can be rematerialized.
      others: bytes of arrays of the model that are no parameters: batch statistics.
    """

    name: str
    rules: Rules | None
    batch: int | None
    repeats: int
    others: int = 0

    def params(self, dtype: Any) -> Any:
        """The parameters as a tree of `jax.ShapeDtypeStruct`; in that dtype if it is not None."""
        raise NotImplementedError

    def folded(self, dtype: Any) -> tuple[Any, Any, int] | None:
        """The parameters with one and with two of its equal blocks, and how many it has; None if none are known."""
        return None

    def kept(self, place: Callable[[Any], Any], parts: int, dtype: Any, compute: Any, again: bool) -> Residuals | None:
        """What waits on a device for the backward pass; None if no loss is known.

        Args:
          place: parameters -> parameters that lie where they are used.
          parts: into how many the batch is divided.
          dtype: of the parameters.
          compute: dtype of the forward pass; that of the parameters if None.
          again: whether blocks are rematerialized.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Named(Subject):
    """A network of `configurations`."""

    configuration: Configuration = dataclasses.field(kw_only=True)

    def params(self, dtype: Any) -> Any:
        """Float32 if not told."""
        return self.configuration.params(dtype or jnp.float32)

    def folded(self, dtype: Any) -> tuple[Any, Any, int] | None:
        """Of networks with at least three equal blocks."""
        sizes = self.configuration.architecture
        if sizes.blocks < 3:
            return None
        return sizes.params(dtype or jnp.float32, 1), sizes.params(dtype or jnp.float32, 2), sizes.blocks

    def kept(self, place: Callable[[Any], Any], parts: int, dtype: Any, compute: Any, again: bool) -> Residuals:
        """Of one block and of two; each further one keeps exactly as much as the second."""
        assert self.batch is not None
        sizes, dtype = self.configuration.architecture, dtype or jnp.float32
        inputs = sizes.inputs(self.batch // parts, compute or dtype)

        def some(blocks: int) -> Residuals:
            params = local(place(sizes.params(dtype, blocks)))
            return residuals(lambda params, x: sizes.loss(cast(params, compute), x, again), params, inputs)

        return some(1) if sizes.blocks == 1 else extrapolated(some(1), some(2), sizes.blocks)


@dataclasses.dataclass(frozen=True)
class Traced(Subject):
    """Parameters and a loss that can be traced.

    Attributes:
      shapes: of the parameters.
      rest: further trees of shapes that the loss takes before the batch; they lie whole on each device.
      inputs: the whole batch.
      loss: (dtype, whether blocks are rematerialized) -> `(params, *rest, *inputs)` -> scalar; None if there is none.
      outward: gives parameters the form in which the optimizer sees them.
    """

    shapes: Any = dataclasses.field(kw_only=True)
    rest: tuple[Any, ...] = dataclasses.field(default=(), kw_only=True)
    inputs: tuple[Any, ...] = dataclasses.field(default=(), kw_only=True)
    loss: Callable[[Any, bool], Callable[..., Any]] | None = dataclasses.field(default=None, kw_only=True)
    outward: Callable[[Any], Any] = dataclasses.field(default=lambda params: params, kw_only=True)

    def params(self, dtype: Any) -> Any:  # noqa: D102
        return self.outward(cast(self.shapes, dtype))

    def kept(self, place: Callable[[Any], Any], parts: int, dtype: Any, compute: Any, again: bool) -> Residuals | None:
        """Of the whole model, on its part of the batch; that parameters are cut is not seen."""
        if self.loss is None:
            return None
        params = cast(self.shapes, dtype)
        mine = jax.tree.map(lambda x: jax.ShapeDtypeStruct((x.shape[0] // parts, *x.shape[1:]), x.dtype), self.inputs)
        return residuals(self.loss(compute, again), params, *mine, rest=self.rest)


def subject_of(asked: Any, loss: Callable[..., Any] | None, batch: Any, parts: int) -> Subject:
    """What was asked for, ready to be measured.

    Raises:
      KeyError: no network of that name.
      ValueError: a batch that the devices do not divide, a loss without a batch or a batch without a loss.
      TypeError: something that has no parameters.
    """
    if isinstance(asked, str):
        known = configurations.get(asked)
        return _named(asked, known, batch, loss, parts)
    if isinstance(asked, Configuration):
        return _named("network", asked, batch, loss, parts)
    if isinstance(asked, Task):
        return _module(asked.name, _model_of(asked), asked.loss, _examples(asked, batch), parts)
    kinds = {kind.__module__.partition(".")[0] for kind in type(asked).__mro__}
    if "flax" in kinds and callable(getattr(asked, "train", None)):
        return _module(type(asked).__name__, asked, loss, batch, parts)
    leaves = jax.tree.leaves(asked)
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise TypeError(
            f"memory_plan takes a Flax NNX module, a tree of arrays or jax.ShapeDtypeStruct, a Task, or one of "
            f"{', '.join(configurations.names())}; got {type(asked).__name__}"
        )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), asked)
    if _pair(loss, batch) is None:
        return Traced("parameters", None, None, 0, shapes=shapes)
    inputs, size = _inputs(batch, parts)

    def made(dtype: Any, again: bool) -> Callable[..., Any]:
        del again
        return lambda params, *batch: loss(cast(params, dtype), *batch)  # type: ignore[misc]

    return Traced("parameters", None, size, 0, shapes=shapes, inputs=inputs, loss=made)


def _named(name: str, known: Configuration, batch: Any, loss: Any, parts: int) -> Named:
    if loss is not None:
        raise ValueError(f"{name} has a loss of its own: leave loss out; batch is a number of examples")
    size = _divided(parts if batch is None else batch, parts)
    sizes = known.architecture
    return Named(name, sizes.rules, size, sizes.repeats, configuration=known)


def _module(name: str, model: Any, loss: Any, batch: Any, parts: int) -> Traced:
    from jaxopt_lectures.planning import modules

    params, whole, others = modules.parts(model)
    rules, given = getattr(type(model), "mesh_rules", None), _pair(loss, batch)
    if given is None:
        return Traced(name, rules, None, 0, others, shapes=params, outward=modules.plain)
    inputs, size = _inputs(batch, parts)

    def made(dtype: Any, again: bool) -> Callable[..., Any]:
        return modules.loss_of(whole, loss, dtype, again)

    repeats = sum(map(len, modules.blocks_of(model)))
    rest = (whole[1],)
    return Traced(
        name, rules, size, repeats, others, shapes=params, rest=rest, inputs=inputs, loss=made, outward=modules.plain
    )


def _model_of(task: Task) -> Any:
    from jaxopt_lectures.planning import modules

    return modules.shapes_of(lambda: task.model(0))


def _examples(task: Task, batch: Any) -> tuple[Any, ...]:
    """A batch of a task, as shapes: the first example, as many times."""
    size = _count(task.batch_size if batch is None else batch)
    first = [taken(part, np.array([0])) for part in task.data().train]
    return tuple(jax.ShapeDtypeStruct((size, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype)) for x in first)


def _pair(loss: Any, batch: Any) -> Any:
    """Both or none."""
    if (loss is None) != (batch is None):
        given, missing = ("batch", "loss") if loss is None else ("loss", "batch")
        raise ValueError(
            f"{given} is given without {missing}: activations need both, loss(model, x, y) and batch=(x, y)"
        )
    return loss


def _inputs(batch: Any, parts: int) -> tuple[tuple[Any, ...], int]:
    """The arrays of a batch as shapes, and how many examples they have."""
    if not isinstance(batch, Sequence) or not all(hasattr(x, "shape") for x in jax.tree.leaves(batch)):
        raise ValueError(
            f"batch must be what the loss takes after the model, as arrays or shapes (x, y), got {batch!r}"
        )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tuple(batch))
    sizes = {x.shape[0] if x.shape else 0 for x in jax.tree.leaves(shapes)}
    if len(sizes) != 1:
        raise ValueError(f"the arrays of a batch must have one number of examples as their first axis, got {sizes}")
    return shapes, _divided(sizes.pop(), parts)


def _divided(batch: Any, parts: int) -> int:
    batch = _count(batch)
    if batch % parts:
        raise ValueError(f"batch={batch} cannot be divided into {parts} parts: take {-(-batch // parts) * parts}")
    return batch


def _count(batch: Any) -> int:
    if not isinstance(batch, (int, np.integer)) or isinstance(batch, bool) or batch < 1:
        raise ValueError(f"batch must be a number of examples, at least 1, got {batch!r}")
    return int(batch)

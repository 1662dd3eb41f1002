"""`memory_plan`: does a training run fit, and what to change if not. Nothing is allocated; no device need exist."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.core.transformation import check_transformation
from jaxopt_lectures.planning.changes import Change, changes_of
from jaxopt_lectures.planning.measuring import Bytes, Choice, Measuring
from jaxopt_lectures.planning.on_device import missed
from jaxopt_lectures.planning.subjects import subject_of
from jaxopt_lectures.planning.words import aligned, amount, size_text
from jaxopt_lectures.scaling.layouts import Rules, rules_on
from jaxopt_lectures.scaling.meshes import planned, text
from jaxopt_lectures.storage.codecs import codec
from jaxopt_lectures.wrappers.wrapped import treated


@dataclasses.dataclass(frozen=True)
class MemoryPlan(Bytes):
    """Bytes on each device of a training run; its text is a table.

    Those of `Bytes`: parameters, gradients, state, others, activations, temporaries, and their total.

    Attributes:
      model: its name.
      count: number of parameters.
      optimizer: in words.
      mesh: axes and sizes, "data=64,model=8".
      devices: how many there are.
      zero: 0, 1 or 3.
      batch: examples of a step on all devices; None where no loss is known.
      remat: whether blocks are rematerialized.
      memory: bytes of each device, if told.
      changes: single changes, the one that saves most first.
      remedy: the least change after which it fits; None if it fits, or if none makes it.
      least: bytes after all changes together.
      notes: what was left whole, and what is not counted.
    """

    model: str
    count: int
    optimizer: str
    mesh: str
    devices: int
    zero: int
    batch: int | None
    remat: bool
    memory: int | None
    changes: tuple[Change, ...]
    remedy: Change | None
    least: int
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool | None:
        """Whether that is within the memory; None if that was not told."""
        return None if self.memory is None else self.total <= self.memory

    @property
    def shown(self) -> tuple[Change, ...]:
        """The changes, and the remedy where it is not one of them."""
        extra = () if self.remedy is None or self.remedy in self.changes else (self.remedy,)
        return (*self.changes, *extra)

    def heading(self) -> str:
        """What is planned, in one line."""
        words = [f"{self.model}, {amount(self.count)} parameters", self.optimizer]
        words.append(f"{self.mesh} ({self.devices} device{'s' if self.devices > 1 else ''}), zero={self.zero}")
        words += [] if self.batch is None else [f"batch {self.batch}"]
        return "; ".join([*words, *(["blocks rematerialized"] if self.remat else [])])

    def verdict(self) -> tuple[str, ...]:
        """Whether it fits, and what is the least to change; nothing if no memory was told."""
        if self.memory is None:
            return ()
        needed = f"{size_text(self.total)} of {size_text(self.memory)}"
        if self.fits:
            return (f"fits: {needed}",)
        if self.remedy is not None:
            return (f"does not fit: {needed}", f"fits with {self.remedy.what}: {size_text(self.remedy.after.total)}")
        least = f"all changes together leave {size_text(self.least)}: take more devices or a smaller batch"
        return (
            f"does not fit: {needed}",
            least if self.changes else "nothing here makes it smaller: take more devices",
        )

    def table(self) -> list[tuple[str, str, str, str]]:
        """The table's cells, header first, total last: what, bytes, share, how they are known."""
        known = {"gradients": "as the parameters", "temporaries": "estimated"}
        known["activations"] = "not counted" if self.batch is None else "estimated"
        lines = [("on each device", "bytes", "share", "")]
        for name, size in self.pieces.items():
            if size or name != "batch statistics":
                share = f"{100 * size / max(self.total, 1):.0f} %"
                lines.append((name, size_text(size), share, known.get(name, "exact")))
        return [*lines, ("total", size_text(self.total), "", "")]

    def change_table(self) -> list[tuple[str, str, str]]:
        """The cells of the single changes, header first: what, bytes after it, share saved."""
        lines = [("one change", "total", "saves")]
        return lines + [(one.what, size_text(one.after.total), f"{100 * one.saves:.0f} %") for one in self.changes]

    def __str__(self) -> str:
        tables: list[Sequence[tuple[str, ...]]] = [self.table(), *([self.change_table()] if self.changes else [])]
        blocks = [[self.heading()], *(aligned(lines) for lines in tables), list(self.verdict())]
        blocks.append([f"note: {note}" for note in self.notes])
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def save(self, path: str | PathLike[str]) -> None:
        """Draws the plan as a bar, with one for each change, to a file: .png, .pdf, .svg.

        Raises:
          ValueError: an ending that is no kind of picture.
        """
        from jaxopt_lectures.planning import picture

        picture.save(self, path)


def memory_plan(
    model_or_shapes: Any,
    tx: optax.GradientTransformation,
    mesh: str | Mapping[str, int] | Mesh | AbstractMesh | None = None,
    *,
    zero: int = 1,
    axis: str = "data",
    rules: Rules | None = None,
    loss: Callable[..., Any] | None = None,
    batch: Any = None,
    remat: bool = False,
    memory: float | None = None,
    store: str | None = None,
    dtype: Any = None,
    compute_dtype: Any = None,
    changes: bool = True,
) -> MemoryPlan:
    """Bytes on each device of a training run, from shapes alone: `print(jol.memory_plan("gpt3-175b", tx, "data=64"))`.

    Parameters and optimizer state are exact. Gradients are counted as the parameters lie. Activations are what the
    forward pass hands to the backward pass, before the compiler saves some of it; temporaries are a rule of thumb.

    Args:
      model_or_shapes: a Flax NNX module, drawn or of `nnx.eval_shape`; a tree of arrays or `jax.ShapeDtypeStruct`; a
        `Task`; or the name of a network, `jaxopt_lectures.planning.configurations.names()`.
      tx: the transformation, ours or optax's.
      mesh: "data=64,model=8", a mapping, or a mesh; one device if None.
      zero: 0, the state lies as the parameters; 1, it is cut along `axis` as well; 3, so are parameters and gradients.
      axis: the mesh axis along which the batch is divided.
      rules: where parameters lie, as of `params_sharding`; the model's own `mesh_rules` if None.
      loss: `(model, *batch) -> scalar`, or of parameters if they were given; named networks and tasks have their own.
      batch: of all devices together. What the loss takes after the model, as arrays or shapes: (x, y). For a named
        network or a task a number of examples; one on each device, or the task's own, if None.
      remat: whether the inside of each block is computed again in the backward pass (`jax.checkpoint`).
      memory: of each device in GB (10^9 bytes), to be told what to change so that the run fits.
      store: codec in which the state is kept, as by `jol.store(tx, store)`.
      dtype: of the parameters, if other than they have.
      compute_dtype: of the forward pass, if other than that of the parameters.
      changes: whether to try single changes, which takes most of the time.

    Raises:
      KeyError: no network of that name; the message has the nearest one.
      TypeError: something without parameters; `tx` is not a transformation.
      ValueError: an axis that the mesh has not, another `zero`, a batch that the axis does not divide, a model without
        blocks to rematerialize, a codec that the state cannot be kept in, memory below 0.
    """
    check_transformation(tx, "memory_plan's argument")
    over = planned({axis: 1} if mesh is None else mesh)
    _check(over, zero, axis, memory)
    if store is not None:
        codec(store)
    subject = subject_of(model_or_shapes, loss, batch, over.shape.get(axis, 1))
    if remat and not subject.repeats:
        raise ValueError(f"{subject.name} has no loss, or no list of equal blocks to rematerialize: leave remat out")
    cuts = rules_on(over, subject.rules) if rules is None else dict(rules)
    compute = None if compute_dtype is None else jnp.dtype(compute_dtype)
    measuring = Measuring(subject, tx, over, cuts, axis, compute)
    choice = Choice(zero, store, None if dtype is None else jnp.dtype(dtype).name, remat)
    found, limit = measuring(choice), None if memory is None else round(memory * 1e9)
    tried, remedy, least = changes_of(measuring, choice, limit) if changes else ((), None, found.total)
    shapes = measuring.params(choice.dtype, zero)
    return MemoryPlan(
        **vars(found),
        model=subject.name,
        count=sum(math.prod(p.shape) for p in jax.tree.leaves(shapes)),
        optimizer=_optimizer(measuring.stored(store), shapes),
        mesh=text(over.shape),
        devices=math.prod(over.shape.values()),
        zero=zero,
        batch=subject.batch,
        remat=remat,
        memory=limit,
        changes=tried,
        remedy=remedy,
        least=least,
        notes=tuple(_notes(measuring, choice)),
    )


def _check(mesh: AbstractMesh, zero: int, axis: str, memory: float | None) -> None:
    if zero not in (0, 1, 3) or isinstance(zero, bool):
        raise ValueError(f"zero must be 0 (as the parameters), 1 (state cut) or 3 (parameters cut too), got {zero!r}")
    if axis not in mesh.axis_names and (zero or axis != "data"):
        known = ", ".join(map(repr, mesh.axis_names))
        raise ValueError(f"zero={zero} names the axis {axis!r}; the mesh has {known}: choose one of them, or zero=0")
    if memory is not None and not 0 < memory < math.inf:
        raise ValueError(f"memory must be the GB of each device, above 0, got {memory!r}")


def _optimizer(tx: Any, params: Any) -> str:
    """What is done with the parameters, in words."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    words = list(dict.fromkeys(treated(tx, path_text(path), p) for path, p in leaves))
    return " / ".join(words[:3]) + (" / ..." if len(words) > 3 else "")


def _notes(measuring: Measuring, choice: Choice) -> Iterator[str]:
    """What was left whole, and what is not seen."""
    subject, parts = measuring.subject, f"{measuring.axis}={measuring.parts}"
    whole = missed(measuring.params(choice.dtype, choice.zero), measuring.rules)
    if whole:
        more = f" and {len(whole) - 1} more" if len(whole) > 1 else ""
        yield (
            f"{next(iter(whole))}{more}, {size_text(sum(whole.values()))}: a rule cuts an axis that the mesh does not "
            "divide, so it lies whole along it; pad it"
        )
    state = measuring.state(choice.dtype, choice.zero, choice.code)
    if state.arrays:
        arrays = f"{state.arrays} array{'s' if state.arrays > 1 else ''} of the state, {size_text(state.whole)}"
        yield f"{arrays}: {parts} divides none of their axes, so they lie as without it"
    if subject.batch is None:
        yield "activations are not counted: they need loss and batch"
    elif subject.folded(None) is None and math.prod(measuring.mesh.shape.values()) > measuring.parts:
        yield f"activations are divided by {parts} only; a model that is cut otherwise keeps fewer"

"""A step over all leaves: those that have a kernel in one pass, the others by the plain step."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import reductions, sharding
from jaxopt_lectures.core.keeping import Keeping, Own, Row
from jaxopt_lectures.core.passes import Passes
from jaxopt_lectures.core.step import step
from jaxopt_lectures.kernels import cpu, gpu
from jaxopt_lectures.kernels.body import Kind, Leaf, kind_of
from jaxopt_lectures.kernels.cpu import library
from jaxopt_lectures.kernels.derived import derived
from jaxopt_lectures.storage.codes import Encoded, everywhere
from jaxopt_lectures.storage.rounding import bits, summed

Taken = Callable[[Sequence[Leaf], Any, jax.Array], list[Any]]
"""A kernel: `(leaves, commons, words)` to the new parameter and slots of each."""

_DEVICES = {"cpu": cpu.ready, "gpu": gpu.ready}


@dataclass(frozen=True)
class Leaves:
    """The leaves of one step.

    Attributes:
      passes: the step.
      treedef: of the parameters.
      leaves: each as a kernel gets it, with slots as they are kept.
      kinds: of each.
      commons: of each, what the steps of its parts share.
    """

    passes: Passes
    treedef: Any
    leaves: list[Leaf]
    kinds: list[Kind]
    commons: list[Any]

    @property
    def keepings(self) -> list[Keeping | None]:
        """Of each part."""
        return [part.keeping for part in self.passes.parts]

    def kernels(self, lookup: library.Lookup, sharded: bool | None) -> list[Taken | str]:
        """Of each leaf its kernel, or why there is none."""
        device = jax.default_backend()
        if device not in _DEVICES:
            return [f"there are no kernels for {device}"] * len(self.leaves)
        if _divided([leaf.p for leaf in self.leaves], sharded):
            return ["arrays may lie on several devices, where XLA divides the plain step"] * len(self.leaves)
        known: dict[Any, Any] = {}
        ready, out = _DEVICES[device], []
        for kind, leaf, common in zip(self.kinds, self.leaves, self.commons, strict=True):
            same = tuple(id(h) for _, h, _ in common)  # leaves of one dtype share what their steps share
            if same not in known:
                known[same] = shapes_of(common)
            out.append(_unfit(leaf, common) or ready(kind, leaf, known[same], lookup))
        return out

    def words(self) -> jax.Array:
        """(leaves, n, 2) uint32, of the random bits of each slot, and of the sum, which come last."""
        found = []
        for part in self.passes.parts:
            shape = len(self.leaves), len(part.rows[0].own.slots)
            nothing = jnp.zeros((*shape, 2), jnp.uint32)
            found.append(part.keeping.words(part.count, shape) if part.keeping else nothing)
        if self.passes.rounding is not None:
            found.append(self.passes.rounding[:, None])
        return jnp.concatenate(found, 1)

    def taken(self, kernels: Sequence[Taken | str]) -> tuple[Any, Any]:
        """The new parameters and state."""
        groups: dict[tuple[bool, Kind], list[int]] = {}
        for place, (kernel, kind) in enumerate(zip(kernels, self.kinds, strict=True)):
            groups.setdefault((isinstance(kernel, str), kind), []).append(place)
        words = self.words()
        out: list[Any] = [None] * len(self.leaves)
        for (_, kind), places in groups.items():
            slow = functools.partial(_plainly, kind, self.keepings)
            first = kernels[places[0]]
            run = slow if isinstance(first, str) else derived(first, slow)
            found = run([self.leaves[place] for place in places], self.commons[places[0]], words[jnp.asarray(places)])
            for place, result in zip(places, found, strict=True):
                out[place] = result
        new: list[list[Any]] = []
        place = 0
        for part in self.kinds[0].parts:
            names, start, place = [name for name, _ in part.codes], place, place + len(part.codes)
            new.append([dict(zip(names, slots[start:place], strict=True)) for _, slots in out])
        return self.treedef.unflatten([p for p, _ in out]), self.passes.state(new)


def shapes_of(commons: Any) -> Any:
    """The shapes and dtypes of what all leaves share, to be hashed."""
    leaves, treedef = jax.tree.flatten(commons)
    return treedef, tuple((jnp.shape(x), str(jnp.result_type(x))) for x in leaves)


def leaves_of(passes: Passes, params: Any) -> Leaves:
    """The leaves of a step; `params` as `passes` were made of them."""
    given, treedef = jax.tree.flatten(params)
    rows = [[part.rows[place] for part in passes.parts] for place in range(len(given))]
    kinds = [kind_of(own, p, passes.rounding is not None) for own, p in zip(rows, given, strict=True)]
    leaves = [
        Leaf(own[0].own.g, p, tuple(slot for row in own for _, slot in sorted(row.own.slots.items())))
        for own, p in zip(rows, given, strict=True)
    ]
    return Leaves(passes, treedef, leaves, kinds, [tuple(row.common for row in own) for own in rows])


def reductions_of(
    gradients: Any, lookup: library.Lookup, sharded: bool | None
) -> contextlib.AbstractContextManager[None]:
    """Where norms of gradients are taken by kernels too, if they can be."""
    if jax.default_backend() != "cpu" or _divided(jax.tree.leaves(gradients), sharded):
        return contextlib.nullcontext()
    return reductions.taken_over(functools.partial(cpu.reductions.parts, lookup))


def _plainly(kind: Kind, keepings: Any, leaves: Sequence[Leaf], commons: Any, words: jax.Array) -> list[Any]:
    """What a kernel gives, by the plain step."""

    def one(leaf: Leaf, words: jax.Array) -> Any:
        update, fresh, place = leaf.g, [], 0
        for part, keeping, common in zip(kind.parts, keepings, commons, strict=True):
            names, start, place = [name for name, _ in part.codes], place, place + len(part.codes)
            old = dict(zip(names, leaf.slots[start:place], strict=True))
            row = Row(part.formula, Own(update, old, part.read(leaf.p), None), common)
            update, new = keeping.one(step, row, words[start:place]) if keeping else step(*row)
            fresh += [new[name] for name in names]
        random = bits(words[-1], everywhere(leaf.p.shape)) if kind.at_random else None
        return summed(leaf.p, update, random), tuple(fresh)

    return [one(leaf, words[place]) for place, leaf in enumerate(leaves)]


def _unfit(leaf: Leaf, commons: Any) -> str | None:
    """What no kernel of any device takes."""
    if any(t.dtype != jnp.float32 for _, _, t in commons):
        return "it is computed in float64"
    narrow = [x.dtype for x in (leaf.g, leaf.p) if x.dtype not in (jnp.float32, jnp.bfloat16)]
    if narrow:
        return f"its dtype is {narrow[0]}"
    if any(getattr(slot, "shape", None) != leaf.p.shape for slot in leaf.slots if not isinstance(slot, Encoded)):
        return "a slot is not shaped like it"
    return None


def _divided(arrays: Sequence[Any], sharded: bool | None) -> bool:
    """Whether arrays may lie on several devices, of which each is to do its part."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.are_all_axes_manual:
        return False
    if sharded is not None:
        return sharded
    if not any(isinstance(p, jax.core.Tracer) for p in arrays):
        return any(len(p.sharding.device_set) > 1 for p in arrays if isinstance(p, jax.Array))
    return jax.device_count() > 1 or any(sharding.mesh_of(p) is not None for p in arrays)

"""Checkpoints of a run: orbax writes and deletes them, this names their leaves and reads them back with their types."""

import ast
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from jaxopt_lectures.training.processes import agreed

_KEPT = 3


class Unreadable(ValueError):
    """A folder or a checkpoint cannot be gone on from; the message is a sentence for the user."""


class Checkpoints:
    """The last three checkpoints and the best, in one folder; written in the background, whole or not at all.

    Args:
      folder: where; made if it is not there.
      larger_is_better: whether the best has the largest metric, or the smallest.
    """

    def __init__(self, folder: Path, larger_is_better: bool) -> None:
        self.folder, self._told = folder.absolute(), False
        self._worst = -sys.float_info.max if larger_is_better else sys.float_info.max
        best = managers.BestN(
            get_metric_fn=lambda metrics: metrics["metric"],
            reverse=not larger_is_better,
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics["metric"],  # so that metrics are written
            best_mode="max" if larger_is_better else "min",
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(_KEPT), best]),
            cleanup_tmp_directories=True,
            save_root_metadata=False,
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, state: Any, meta: dict[str, Any], metric: float | None) -> None:
        """Begins to write a checkpoint; the one before must have been waited for.

        Args:
          state: a tree of arrays; it may be donated as soon as this returns.
          meta: what JSON can tell, `step` among it.
          metric: to be the best by; the worst that there is where it is None or not finite.

        Raises:
          OSError: it could not be begun.
        """
        leaves = [_data(leaf) for leaf in jax.tree.leaves(state)]
        together = _lie_together(leaves)
        arrays = _packed(leaves) if together else {f"{i:06}": jnp.copy(leaf) for i, leaf in enumerate(leaves)}
        meta = meta | {"leaves": described(state), "packed": together}
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(meta))
        known = metric is not None and math.isfinite(metric)
        try:
            self.manager.save(
                meta["step"], args=arguments, metrics={"metric": metric if known else self._worst}, force=True
            )
        except ValueError as error:  # what tensorstore makes of a full disk
            raise OSError(_first_line(error)) from error

    def wait(self) -> None:
        """Until all is on disk.

        Raises:
          OSError: it could not be written.
        """
        try:
            self.manager.wait_until_finished()
            self.manager.check_for_errors()
        except (OSError, ValueError) as error:  # tensorstore's are ValueErrors
            self._told = True
            raise OSError(_first_line(error)) from error

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, the last one first."""
        return sorted(self.manager.all_steps(), reverse=True)

    def drop(self, step: int) -> None:
        """Deletes a checkpoint."""
        self.manager.delete(step)

    def restore(self, like: Any, converted: Callable[[Any], Any]) -> tuple[Any, dict[str, Any]] | None:
        """The last checkpoint that can be read, with its meta; None where there is none at all.

        What lies behind it is deleted, with a warning: it will be written again.

        Args:
          like: a tree with the structure, shapes, dtypes and devices of what was saved.
          converted: puts slots that were kept in other blocks, as on another mesh, into those of `like`.

        Raises:
          Unreadable: there are some, and none can be read; or the last one is of another tree.
        """
        broken: list[str] = []
        for step in agreed(self.steps()):
            try:
                meta = self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
                saved = _as_saved(meta["leaves"], like)
                _check_same(meta["leaves"], described(saved), step)
                state = self._read(step, saved, meta["packed"])
                state = state if described(saved) == described(like) else converted(state)
            except Unreadable:
                raise
            except Exception as error:  # whatever a torn file makes of the readers
                broken.append(f"step {step}: {_first_line(error)}")
                continue
            for later in [other for other in self.steps() if other > step]:
                self.drop(later)
            if broken:
                warnings.warn(f"{self.folder}: torn checkpoints were left out ({'; '.join(broken)})", stacklevel=2)
            return state, meta
        if broken:
            raise Unreadable(f"no checkpoint in {self.folder} can be read: {'; '.join(broken)}")
        return None

    def close(self) -> None:
        """Waits, and ends the background work; what could not be written was told by `wait`, or is a warning now."""
        try:
            self.manager.close()
        except (OSError, ValueError) as error:
            if not self._told:
                warnings.warn(f"a checkpoint could not be written: {_first_line(error)}", stacklevel=2)

    def _read(self, step: int, like: Any, packed: bool) -> Any:
        leaves, treedef = jax.tree.flatten(like)
        data = [_data(leaf) for leaf in leaves]
        shapes = {f"{i:06}": _shape(leaf) for i, leaf in enumerate(data)}
        if packed:  # by a run on one device; each process reads it all
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            found = jax.eval_shape(_packed, data)
            shapes = {name: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=here) for name, one in found.items()}
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
        found = self.manager.restore(step, args=arguments)["state"]
        parts = _unpacked(found, data) if packed else [found[name] for name in sorted(found)]
        return treedef.unflatten([_as_before(part, leaf) for part, leaf in zip(parts, leaves, strict=True)])


def described(tree: Any) -> list[str]:
    """A line for each leaf: path, dtype, shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}" for path, leaf in leaves]


def _as_saved(lines: list[str], like: Any) -> Any:
    """The tree with the scales that were saved: as many as there were blocks, which end where parts of devices end."""

    def one(line: str, mine: str, leaf: Any) -> Any:
        (path, *shape), (own, *_) = line.rsplit(" (", 1), mine.rsplit(" (", 1)
        if line == mine or path != own or not path.split(" ")[0].endswith(".scale"):
            return leaf
        whole = leaf.sharding
        if isinstance(whole, jax.sharding.NamedSharding):
            whole = jax.sharding.NamedSharding(whole.mesh, jax.sharding.PartitionSpec())
        return jax.ShapeDtypeStruct(ast.literal_eval("(" + shape[0]), leaf.dtype, sharding=whole)

    leaves, treedef = jax.tree.flatten(like)
    if len(leaves) != len(lines):
        return like
    return treedef.unflatten([one(*row) for row in zip(lines, described(like), leaves, strict=True)])


def _check_same(saved: list[str], mine: list[str], step: int) -> None:
    for theirs, ours in zip(saved, mine, strict=False):
        if theirs != ours:
            kept = " (slots are kept in another code: jol.convert_state converts a state)"
            raise Unreadable(
                f"the checkpoint of step {step} is of another optimizer or model: it has {theirs}, this run {ours}"
                + (kept if ".codes " in theirs + ours else "")
            )
    if len(saved) != len(mine):
        longer, whose = (saved, "the checkpoint") if len(saved) > len(mine) else (mine, "this run")
        first = longer[min(len(saved), len(mine))]
        raise Unreadable(f"the checkpoint of step {step} is of another optimizer or model: only {whose} has {first}")


def _lie_together(leaves: list[Any]) -> bool:
    """Whether all lie on one and the same device."""
    return len(set().union(*(leaf.sharding.device_set for leaf in leaves))) == 1


@jax.jit
def _packed(leaves: list[Any]) -> dict[str, Any]:
    """One array for each dtype: a file for each of many small arrays takes longer than to train them."""
    names = sorted({leaf.dtype.name for leaf in leaves})
    return {name: jnp.concatenate([leaf.ravel() for leaf in leaves if leaf.dtype.name == name]) for name in names}


def _unpacked(arrays: dict[str, Any], leaves: list[Any]) -> list[np.ndarray]:
    """The parts of packed arrays, of shapes and dtypes like the leaves."""
    rest = {name: np.asarray(array) for name, array in arrays.items()}
    parts = []
    for leaf in leaves:
        name = leaf.dtype.name
        parts.append(rest[name][: leaf.size].reshape(leaf.shape))
        rest[name] = rest[name][leaf.size :]
    return parts


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _data(leaf: Any) -> Any:
    """The leaf as numbers; random keys are some."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _as_before(numbers: Any, leaf: Any) -> Any:
    """What was read, as a leaf like that one: a key where it is one, free to go to any device where it is."""
    if isinstance(numbers, np.ndarray) and not (isinstance(leaf, jax.Array) and leaf.is_fully_addressable):
        numbers = jax.make_array_from_callback(numbers.shape, _data(leaf).sharding, lambda index: numbers[index])
    elif isinstance(leaf, jax.Array):
        numbers = jax.device_put(numbers, leaf.sharding) if leaf.committed else jnp.asarray(np.asarray(numbers))
    return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else numbers


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__

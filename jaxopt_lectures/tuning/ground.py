"""What all runs on a task have in common: its examples, first weights and orders by seed, its metric."""

import functools
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.tasks.task import Data, Examples, Task, check, is_array, taken
from jaxopt_lectures.training.batches import deal
from jaxopt_lectures.training.evaluation import weights_of
from jaxopt_lectures.training.parts import parts
from jaxopt_lectures.training.program import TrainState


class Lane(NamedTuple):
    """One run among many.

    Attributes:
      values: the optimizer's arguments.
      seed: of the first weights and of the order of the examples.
    """

    values: dict[str, Any]
    seed: int


class Ground:
    """A task, ready to be trained many times.

    Args:
      task: what to train.
      devices: where; all of this process if None.

    Raises:
      Unfit: the parts of the task do not fit together, or its data cannot be used.
    """

    def __init__(self, task: Task, devices: Any = None) -> None:
        self.data: Data = task.data()
        check(task, self.data)
        self.task, self.devices = task, list(devices or jax.local_devices())
        self.mesh = jax.sharding.Mesh(np.array(self.devices), ("lanes",))
        self.everywhere = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())
        self.examples = self._here(self.data.train)
        self._parts = {name: self._here(part) for name, part in self._judged().items()}
        self._firsts: dict[int, tuple[Any, Any]] = {}
        self._lock, self._rows = threading.Lock(), functools.lru_cache(maxsize=64)(self._dealt)
        self._judge = jax.jit(self._metric)

    @functools.cached_property
    def sha256(self) -> str:
        """Of the data, all of which is read for it: once."""
        return self.data.sha256

    @property
    def scored(self) -> str:
        """The part whose metric is the final word: that to test on, where there is one."""
        return "test" if "test" in self._parts else "validation"

    def examples_of(self, part: str) -> int:
        """How many examples a part has."""
        return len(self._parts[part].x)

    def first(self, seed: int) -> tuple[Any, Any]:
        """Freshly drawn parameters, and what else the model keeps."""
        with self._lock:
            if seed not in self._firsts:
                self._firsts[seed] = parts(self.task).start(seed)
            return self._firsts[seed]

    def firsts(self, lanes: list[Lane]) -> tuple[Any, Any]:
        """Those of every lane, along a first axis."""
        trees = [self.first(lane.seed) for lane in lanes]
        return stacked(trees)

    def rows(self, lanes: list[Lane], start: int, steps: int, capacity: int) -> np.ndarray:
        """Which examples the steps from `start` on take, (lanes, capacity, batch size) int32."""
        dealt = np.zeros((len(lanes), capacity, self.task.batch_size), np.int32)
        for index, lane in enumerate(lanes):
            dealt[index, :steps] = self._rows(lane.seed, start, steps)
        return dealt

    def judge(self, states: TrainState, part: str, count: int) -> np.ndarray:
        """The metric of the first `count` of some lanes' evaluation weights, (count,) float64.

        One after the other: many at once would take many times the memory.
        """
        examples = self._parts[part]
        values = [self._judge(states, np.int32(index), *examples) for index in range(count)]
        return np.array(jax.device_get(values), float)

    def _metric(self, states: TrainState, index: jax.Array, x: Any, y: Any) -> jax.Array:
        state = jax.tree.map(lambda leaf: leaf[index], states)
        return parts(self.task).metric(weights_of(state), state.rest, x, y)

    def _judged(self) -> dict[str, Examples]:
        found = {"validation": self.data.validation, "test": self.data.test}
        return {name: part for name, part in found.items() if part is not None}

    def _here(self, part: Examples) -> Examples:
        arrays = (a if is_array(a) else taken(a, np.arange(len(a))) for a in part)
        return Examples(*(jax.device_put(jnp.asarray(array), self.everywhere) for array in arrays))

    def _dealt(self, seed: int, start: int, steps: int) -> np.ndarray:
        return deal((seed, 0), len(self.data.train.x), self.task.batch_size, start, steps)


@jax.jit
def stacked(trees: list[Any]) -> Any:
    """Trees of one structure as one, their arrays along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

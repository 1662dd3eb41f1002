"""Many runs of one optimizer side by side, each with its own numbers: one compiled program for all of them.

Every number that is tried is an operand of the program, so another value compiles nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lectures.training.evaluation import weights_of
from jaxopt_lectures.training.program import TrainState, begun, is_fine, make_step
from jaxopt_lectures.tuning.ground import Ground, Lane, stacked
from jaxopt_lectures.tuning.memory import needed

Form = Literal["loop", "map", "single"]
_ROWS = 2**20
"""No more row numbers are dealt at once."""
_STEPS = 2**10

Factory = Callable[..., optax.GradientTransformation]


class Way(NamedTuple):
    """How lanes are run.

    Attributes:
      form: "loop", all steps in one program, lanes side by side (`vmap`); "map", all steps in one program, lane by lane
        (`lax.map`); "single", a program a step, lanes side by side.
      lanes: how many in one program on each device.
      workers: how many programs at once.
    """

    form: Form
    lanes: int
    workers: int = 1

    def __str__(self) -> str:
        many = {"loop": "side by side", "map": "in turn", "single": "side by side, step by step"}[self.form]
        return f"{self.lanes} {many}, {self.workers} at once"


class Program:
    """The compiled runs of some lanes.

    Args:
      ground: task, examples, devices.
      factory: `factory(**values)` gives the optimizer.
      fixed: the arguments that are the same in all lanes.
      names: the others.
      form, lanes: see `Way`.
      look: the most steps that are taken between two looks.
    """

    def __init__(
        self,
        ground: Ground,
        factory: Factory,
        fixed: Mapping[str, Any],
        names: Sequence[str],
        form: Form,
        lanes: int,
        look: int,
    ) -> None:
        self.ground, self.names, self.form = ground, tuple(names), form
        self.lanes = lanes * len(ground.devices)
        self.capacity = max(1, min(look, _STEPS, _ROWS // (lanes * ground.task.batch_size)))
        self._factory, self._fixed = factory, dict(fixed)
        lane = jax.sharding.PartitionSpec("lanes")
        self._apart = jax.sharding.NamedSharding(ground.mesh, lane)
        self._compiled: Any = None
        self._start = self._spread(self._started, (lane, lane, lane))
        self._step = self._spread(self._many, (lane, lane, lane, None, lane, None), donate=(1, 2))
        self._fine = self._spread(jax.vmap(_is_fine), (lane,))

    def start(self, lanes: list[Lane]) -> tuple[Any, TrainState]:
        """The numbers of the lanes and their states before the first step."""
        hypers = {name: jnp.asarray([lane.values[name] for lane in lanes], float) for name in self.names}
        params, rest = self.ground.firsts(lanes)
        hypers, params, rest = jax.device_put((hypers, params, rest), self._apart)
        state = self._start(hypers, params, rest)
        if self._compiled is None:
            rows, losses = self._chunk(lanes, 0, 1)
            self._compiled = self._step.lower(hypers, state, losses, self.ground.examples, rows, np.int32(1)).compile()
        return hypers, state

    @property
    def nbytes(self) -> int:
        """Bytes that it takes while it runs, on each device; known once it has started."""
        return needed(self._compiled)

    @property
    def decomposes(self) -> bool:
        """Whether it calls LAPACK; known once it has started."""
        return "lapack_" in self._compiled.as_text()

    def put(self, states: list[TrainState]) -> TrainState:
        """The states of single lanes side by side; the last is repeated where there are too few."""
        return jax.device_put(stacked(filled(states, self.lanes)), self._apart)

    def advance(
        self, hypers: Any, state: TrainState, lanes: list[Lane], start: int, steps: int
    ) -> tuple[TrainState, jax.Array]:
        """Takes so many steps, at most `capacity`; the sum of each lane's losses, (lanes,) float32."""
        rows, losses = self._chunk(lanes, start, steps)
        if self.form != "single":
            return self._called(hypers, state, losses, rows, np.int32(steps))
        for index in range(steps):
            state, losses = self._called(hypers, state, losses, rows, np.int32(index))
        return state, losses

    def fine(self, state: TrainState) -> np.ndarray:
        """Which lanes have lost nothing, (lanes,) bool."""
        return np.asarray(self._fine(state))

    def _called(self, hypers: Any, state: TrainState, losses: jax.Array, rows: jax.Array, number: np.int32) -> Any:
        return self._compiled(hypers, state, losses, self.ground.examples, rows, number)

    def _chunk(self, lanes: list[Lane], start: int, steps: int) -> Any:
        rows = self.ground.rows(lanes, start, steps, self.capacity)
        return jax.device_put((rows, np.zeros(len(lanes), np.float32)), self._apart)

    def _optimizer(self, hypers: Mapping[str, Any]) -> optax.GradientTransformation:
        return self._factory(**self._fixed, **hypers)

    def _started(self, hypers: Any, params: Any, rest: Any) -> TrainState:
        def one(hypers: Any, params: Any, rest: Any) -> TrainState:
            return begun(params, self._optimizer(hypers).init(params), rest)

        return jax.vmap(one)(hypers, params, rest)

    def _many(self, hypers: Any, state: TrainState, losses: Any, examples: Any, rows: Any, number: Any) -> Any:
        """Steps of all lanes: `number` of them, or, where each is a program, the one of that number."""

        def step(hypers: Any, state: TrainState, loss: Any, rows: Any, index: Any) -> Any:
            x, y = (part[rows[index]] for part in examples)
            state, value = make_step(self.ground.task, self._optimizer(hypers), guard=False)(state, x, y)
            return state, loss + value

        def lane(hypers: Any, state: TrainState, loss: Any, rows: Any) -> Any:
            return jax.lax.fori_loop(
                0, number, lambda i, carry: step(hypers, carry[0], carry[1], rows, i), (state, loss)
            )

        if self.form == "single":
            return jax.vmap(step, in_axes=(0, 0, 0, 0, None))(hypers, state, losses, rows, number)
        if self.form == "map":
            return jax.lax.map(lambda operands: lane(*operands), (hypers, state, losses, rows))
        return jax.vmap(lane)(hypers, state, losses, rows)

    def _spread(self, function: Callable[..., Any], specs: tuple[Any, ...], donate: tuple[int, ...] = ()) -> Any:
        """The function compiled; on several devices each does its share of the lanes, and sees no other."""
        if len(self.ground.devices) > 1:
            everywhere = jax.sharding.PartitionSpec()
            specs = tuple(everywhere if spec is None else spec for spec in specs)
            lane = jax.sharding.PartitionSpec("lanes")
            function = jax.shard_map(function, mesh=self.ground.mesh, in_specs=specs, out_specs=lane, check_vma=False)
        return jax.jit(function, donate_argnums=donate)


def filled(parts: list[Any], size: int) -> list[Any]:
    """As many as a program takes: the last is repeated."""
    return parts + [parts[-1]] * (size - len(parts))


@jax.jit
def taken_out(states: TrainState, index: int) -> TrainState:
    """The state of one lane."""
    return jax.tree.map(lambda leaf: leaf[index], states)


def _is_fine(state: TrainState) -> jax.Array:
    weights = weights_of(state)
    return is_fine(state) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(weights)]))

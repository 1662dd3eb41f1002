"""Training on a mesh of eight devices is training on one, but for rounding, with less memory on each."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.training.checkpoints import Unreadable
from jaxopt_lectures.training.placement import placed
from jaxopt_lectures.training.program import make_step, start
from tests.training.test_program import same
from tests.training.tiny import BATCH, KEEPING, TASK, poisoned
from tests.training.wide import WIDE, double_plane, transformer

WAYS = [("data=8", 0), ("data=8", 1), ("data=8", 3), ("data=4,model=2", 1)]
ADAM = jol.adam(0.02)
CAST = dataclasses.replace(TASK, loss=lambda model, x, y: jnp.mean((model(x) - y.astype(x.dtype)) ** 2))


def trained(task=TASK, steps=10, tx=ADAM, **more):
    return jol.fit(task, tx, steps=steps, **({"way": "loop", "eval_every": 10, "log": None} | more))


def near(one, other, **most):
    """Parameters and optimizer state."""
    for a, b in zip(*(jax.tree.leaves((run.state.params, run.state.opt_state)) for run in (one, other)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **most)


def share(tree):
    """Bytes on the first device, of all bytes."""
    leaves = jax.tree.leaves(tree)
    here = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    return here / sum(leaf.nbytes for leaf in leaves)


# The same numbers


@pytest.fixture(scope="module")
def alone():
    """Runs on one device, each made once."""
    made = {}

    def run(name, *given, **more):
        if name not in made:
            made[name] = trained(*given, **more)
        return made[name]

    return run


@pytest.mark.parametrize(("mesh", "zero"), WAYS)
def test_in_float64(mesh, zero, x64, alone):
    one = alone("wide", WIDE, 200)
    other = trained(WIDE, 200, mesh=mesh, zero=zero)
    np.testing.assert_allclose(other.metric, one.metric, rtol=0, atol=1e-9)
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-6)  # they are kept in float32
    near(other, one, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("mesh", "zero"), WAYS[1::2])
def test_in_float32(mesh, zero, alone):
    one, other = alone("narrow", steps=200), trained(steps=200, mesh=mesh, zero=zero)
    np.testing.assert_allclose(other.loss[0], one.loss[0], rtol=1e-6)
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-3)


def test_a_transformer_whose_layers_are_cut():
    """By the rules of its class; dropped features are those that one device drops."""
    task = transformer(0.1)
    one, other = trained(task, 20), trained(task, 20, mesh="data=4,model=2")
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-5)
    specs = {jax.tree_util.keystr(path): leaf.sharding.spec for path, leaf in
             jax.tree_util.tree_leaves_with_path(other.state.params)}  # fmt: skip
    cut = [path for path, spec in specs.items() if "model" in jax.tree.leaves(tuple(spec))]
    assert len(cut) == 11, "kernels of six layers, four biases, the tokens"
    np.testing.assert_allclose(jol.evaluate(task, other.model), one.metric[-1], rtol=1e-5)
    assert share(other.state.params) < 0.6
    plain = placed(task, "data=4,model=2", 1, {}, False, 1)
    assert share(start(task, plain.optimizer(ADAM), placement=plain).params) == 1


def test_batch_statistics_are_those_of_the_whole_batch():
    """With plain gradient steps: a bias before batch norm has no gradient but rounding, which Adam makes large."""
    one, other = (trained(KEEPING, tx=jol.sgd(0.05), **more) for more in ({}, {"mesh": "data=8"}))
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-5)
    np.testing.assert_allclose(other.metric, one.metric, rtol=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        {"accumulate": 2, "mesh": "data=4"},
        {"compute_dtype": "bfloat16", "task": CAST},
        {"tx": jol.store(jol.adam(0.02), "bf16")},
        {"tx": jol.schedule_free_adamw(0.02)},
        {"way": "single"},
        {"resident": False},
        {"scatter": True},
        {"scatter": True, "zero": 3, "accumulate": 2, "mesh": "data=4"},
    ],
    ids=lambda more: " ".join(more),
)
def test_options_mean_what_they_mean_on_one_device(more):
    plain = {key: value for key, value in more.items() if key not in ("mesh", "zero", "scatter")}
    one, other = trained(**plain), trained(**({"mesh": "data=8"} | more))
    loose = "compute_dtype" in more or "bf16" in str(more)
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-2 if loose else 1e-5)
    np.testing.assert_allclose(other.metric, one.metric, rtol=2e-2 if loose else 1e-5)


def test_what_is_not_finite(tmp_path):
    runs = [
        trained(poisoned(), on_nonfinite="rollback", checkpoint=tmp_path / str(mesh), mesh=mesh)
        for mesh in (None, "data=8")
    ]
    assert [(e["event"], e["step"]) for e in runs[0].events] == [(e["event"], e["step"]) for e in runs[1].events]
    np.testing.assert_allclose(runs[1].loss, runs[0].loss, rtol=1e-5)


@pytest.mark.parametrize("card", jol.registry.cards(), ids=lambda card: card.name)
def test_every_optimizer(card, x64):
    """Two steps with state and parameters cut eight ways."""
    tx = card.factory() if "line search" in card.tags else card.factory(0.01)
    placement = placed(WIDE, "data=8", 3, None, False, 1)
    x, y = (jnp.asarray(part[:BATCH]) for part in double_plane().train)
    ends = []
    for where, mine in ((None, tx), (placement, placement.optimizer(tx))):
        state, step = start(WIDE, mine, placement=where), jax.jit(make_step(WIDE, mine, guard=False, placement=where))
        for _ in range(2):
            state, _ = step(state, x, y)
        ends.append(state.params)
    for one, other in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=1e-9)


# Memory


@pytest.mark.parametrize(("zero", "params", "state"), [(0, 1, 1), (1, 1, 0.2), (3, 0.2, 0.2)])
def test_bytes_on_each_device(zero, params, state):
    placement = placed(transformer(), "data=8", zero, None, False, 1)
    found = start(transformer(), placement.optimizer(ADAM), placement=placement)
    assert share(found.params) <= params
    assert share(found.opt_state) <= state
    if not zero:
        assert share((found.params, found.opt_state)) == 1


# Checkpoints


def test_a_run_goes_on_on_another_mesh(tmp_path):
    """From one device to eight, four by two, and back."""
    tx = jol.schedule_free_adamw(0.02)
    whole = trained(steps=40, tx=tx)
    places = [{}, {"mesh": "data=8"}, {"mesh": "data=4,model=2", "zero": 3}, {}]
    for count, place in enumerate(places):
        run = trained(steps=10 + 10 * count, tx=tx, checkpoint=tmp_path, **place)
        told = json.loads((tmp_path / "run.json").read_text())
        assert told.get("mesh") == place.get("mesh")
    assert run.step.tolist() == whole.step.tolist()
    np.testing.assert_allclose(run.loss, whole.loss, rtol=1e-5)
    near(run, whole, rtol=1e-3, atol=1e-5)


def test_slots_in_other_blocks_are_put_into_those_of_the_mesh(tmp_path):
    """Blocks end where a device's part ends: there are more of them on more devices."""
    tx = jol.store(jol.adam(0.02), "int8")
    task = dataclasses.replace(TASK, model=lambda seed: MLP((2, 64, 64, 1), activation=jnp.tanh, rngs=nnx.Rngs(seed)))
    plain = trained(task, 20)
    shapes = []
    for steps, place in ((10, {"mesh": "model=2", "zero": 0, "rules": {"kernel": (None, "model")}}), (20, {})):
        run = trained(task, steps, tx, checkpoint=tmp_path, **place)
        shapes.append([leaf.shape for leaf in jax.tree.leaves(run.state.opt_state)])
    assert shapes[0] != shapes[1]
    np.testing.assert_allclose(run.loss, plain.loss, rtol=0.05)


@pytest.mark.parametrize("zero", [1, 3])
def test_on_the_same_mesh_it_is_the_same_to_the_last_bit(zero, tmp_path):
    more = {"mesh": "data=4,model=2", "zero": zero, "tx": jol.store(jol.adam(0.02), "int8"), "steps": 20}
    whole = trained(KEEPING, **more)
    trained(KEEPING, **(more | {"steps": 10}), checkpoint=tmp_path)
    again = trained(KEEPING, **more, checkpoint=tmp_path)
    same(again.state, whole.state)
    place = placed(KEEPING, "data=4,model=2", zero, None, False, 1)
    first = start(KEEPING, place.optimizer(more["tx"]), placement=place)
    before, *after = (jax.tree.map(lambda leaf: leaf.sharding, state) for state in (first, whole.state, again.state))
    assert after == [before, before], "or the next steps would be another program"


# What cannot be done


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mesh": "data=3"}, "do not divide the 8 devices"),
        ({"mesh": "data"}, "must be NAME=SIZE"),
        ({"mesh": "data=8", "zero": 2}, "zero must be 0"),
        ({"mesh": "data=8", "zero": True}, "zero must be 0"),
        ({"mesh": "model=8"}, "zero=1 cuts along the axis 'data', the mesh has model=8"),
        ({"mesh": "model=8", "zero": 0, "scatter": True}, "scatter=True cuts along"),
        ({"mesh": "data=8", "accumulate": 2}, "accumulate=2 parts cannot be divided by data=8: .* multiple of 16"),
        ({"mesh": "data=8", "rules": {"kernel": ("model",)}}, "names the axis 'model'"),
        ({"rules": {}}, "rules needs a mesh"),
        ({"scatter": True}, "scatter needs a mesh"),
        ({"mesh": "data=4,model=2", "scatter": True}, "a mesh of one axis"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input(more, said):
    with pytest.raises(ValueError, match=said):
        trained(**more)


def test_a_mesh_of_types_and_a_scatter_of_no_one():
    with pytest.raises(ValueError, match="Auto"):
        trained(mesh=jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,)))
    with pytest.raises(TypeError, match="scatter must be True or False"):
        trained(mesh="data=8", scatter=1)
    with pytest.raises(ValueError, match="keeps batch statistics or random keys"):
        trained(KEEPING, mesh="data=8", scatter=True)
    with pytest.raises(ValueError, match="a batch of 12 cannot be divided by data=8: choose a multiple of 8"):
        trained(dataclasses.replace(TASK, batch_size=12), mesh="data=8")


def test_a_mesh_without_data_needs_no_batch_that_it_divides():
    task = dataclasses.replace(TASK, batch_size=7)
    one, other = trained(task), trained(task, mesh="model=2", zero=0)
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-5)


def test_another_optimizer_is_refused_on_a_mesh_too(tmp_path):
    trained(checkpoint=tmp_path, mesh="data=8")
    with (
        pytest.warns(UserWarning, match="is now lion"),
        pytest.raises(Unreadable, match="of another optimizer or model"),
    ):
        trained(checkpoint=tmp_path, mesh="data=4", steps=20, tx=jol.lion(1e-3))


def test_a_mesh_may_be_handed_over():
    history = trained(mesh=jol.mesh_of("data=2"), zero=0)
    assert isinstance(history.model, nnx.Module)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(history.state)} == {2}

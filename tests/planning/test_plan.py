import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures import registry, tasks
from jaxopt_lectures.models.transformer import GPT
from jaxopt_lectures.planning.configurations import Configuration
from jaxopt_lectures.planning.plan import memory_plan
from jaxopt_lectures.planning.transformers import Transformer

MESH, RULES = "data=4,model=2", {"a": (None, "model"), "e": ("model",)}
SHAPES = {"a": (64, 128), "d": (7,), "e": (6, 64)}
PARAMS = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
CODES = (None, "int8", "int4", "bf16", "fp8")
CARDS = registry.cards()
SIZES = Transformer(512, 64, layers=12, heads=4, width=64, inner=256)
SMALL = Configuration(SIZES, 0)
FEW = dataclasses.replace(SIZES, layers=3)


def sizes(*asked, **options):
    """A plan without its changes."""
    return memory_plan(*asked, **options, changes=False)


def bytes_on_the_first_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def optimizer(card, code):
    tx = card.factory(card.learning_rate)
    return tx if code is None else jol.store(tx, code, min_size=64)


@pytest.fixture(scope="module")
def live():
    mesh = jol.mesh_of(MESH)
    layout = jol.params_sharding(PARAMS, mesh, RULES)
    return mesh, layout, jax.device_put({name: jnp.ones(shape) for name, shape in SHAPES.items()}, layout)


@pytest.mark.parametrize("code", CODES)
def test_state_and_parameters_are_those_of_arrays(code, live):
    """To the byte, on a mesh of eight devices; many cards in one chain, which compiles once."""
    mesh, layout, params = live
    cards = CARDS if code in (None, "int8") else [registry.get(name) for name in ("adam", "muon", "psgd_kron")]
    tx = jol.chain(*(optimizer(card, code) for card in cards))
    state = jol.shard(tx, mesh, zero=1, params=layout).init(params)
    plan = sizes(PARAMS, tx, mesh, rules=RULES)
    assert plan.state == bytes_on_the_first_device(state)
    assert plan.parameters == plan.gradients == bytes_on_the_first_device(params)


@pytest.mark.parametrize("zero", [0, 3])
def test_other_zeros_are_those_of_arrays(zero, live):
    mesh, _, _ = live
    layout = jol.params_sharding(PARAMS, mesh, RULES, spread="data" if zero else None)
    params = jax.device_put({name: jnp.ones(shape) for name, shape in SHAPES.items()}, layout)
    state = jol.shard(jol.adam(1e-3), mesh, zero=min(zero, 1), params=layout).init(params)
    plan = sizes(PARAMS, jol.adam(1e-3), mesh, rules=RULES, zero=zero)
    assert plan.state == bytes_on_the_first_device(state)
    assert plan.parameters == bytes_on_the_first_device(params)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_two_blocks_tell_the_state_of_all(card):
    """A network by name is measured on two of its blocks; as a tree, as it is."""
    tx = card.factory(card.learning_rate)
    folded = sizes(Configuration(FEW, 0), tx, MESH)
    whole = sizes(FEW.params(jnp.float32), tx, MESH, rules=FEW.rules)
    assert folded.state == whole.state
    assert folded.parameters == whole.parameters


def test_blocks_that_are_treated_unlike_are_all_measured():
    frozen = jol.by_path({"blocks/2/": None, ".*": jol.adam(1e-3)})
    small = Configuration(FEW, 0)
    plan, all_alike = sizes(small, frozen, MESH), sizes(small, jol.adam(1e-3), MESH)
    assert plan.state < all_alike.state
    assert plan.state == sizes(FEW.params(jnp.float32), frozen, MESH, rules=FEW.rules).state


def test_the_largest_one_by_hand():
    """175 B parameters of 4 bytes over 8 devices; two slots, cut over the other 64 as well."""
    plan = sizes("gpt3-175b", jol.adam(1e-3), "data=64,model=8")
    whole = (50257 + 2048) * 12288  # tokens and positions; besides them biases and norms
    assert math.isclose(plan.parameters, 4 * ((plan.count - whole) / 8 + whole), rel_tol=1e-3)
    assert math.isclose(plan.state, 2 * plan.parameters / 64, rel_tol=1e-3)
    assert plan.gradients == plan.parameters
    assert any("tokens/embedding (50257, 12288), 2.47 GB" in note for note in plan.notes)


def test_activations_fall_as_they_should():
    plain = sizes(SMALL, jol.adam(1e-3), "data=4", batch=32)
    assert plain.activations > 0.9 * 2 * sizes(SMALL, jol.adam(1e-3), "data=4", batch=16).activations
    assert sizes(SMALL, jol.adam(1e-3), "data=8", batch=32).activations < 0.6 * plain.activations
    assert sizes(SMALL, jol.adam(1e-3), "data=4,model=4", batch=32).activations < 0.7 * plain.activations
    again = sizes(SMALL, jol.adam(1e-3), "data=4", batch=32, remat=True)
    inputs_of_blocks = 12 * 8 * 64 * 64 * 4
    rest = 3 * (8 * 64 * 512 + 64 * 512) * 4  # scores, and the embedding turned round
    assert inputs_of_blocks <= again.activations <= inputs_of_blocks + rest


def test_a_module_with_its_loss_and_batch():
    model = nnx.eval_shape(lambda: GPT(512, context=64, layers=12, heads=4, width=64, rngs=nnx.Rngs(0)))
    tokens = jax.ShapeDtypeStruct((32, 64), jnp.int32)

    def loss(model, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    found = sizes(model, jol.adam(1e-3), "data=4", loss=loss, batch=(tokens, tokens))
    known = sizes(SMALL, jol.adam(1e-3), "data=4", batch=32)
    assert (found.parameters, found.state, found.batch) == (known.parameters, known.state, 32)
    assert math.isclose(found.activations, known.activations, rel_tol=0.02)
    again = sizes(model, jol.adam(1e-3), "data=4", loss=loss, batch=(tokens, tokens), remat=True)
    assert again.activations < 0.2 * found.activations
    cut = sizes(model, jol.adam(1e-3), "data=4,model=2")
    assert cut.parameters == sizes(SMALL, jol.adam(1e-3), "data=4,model=2").parameters
    assert "activations are not counted" in str(cut)


def test_a_module_keeps_its_statistics_whole():
    task = dataclasses.replace(tasks.get("digits_resnet"), batch_size=64)
    plan = sizes(task, jol.adam(1e-3), "data=8")
    _, statistics = nnx.state(nnx.eval_shape(lambda: task.model(0)), nnx.Param, nnx.BatchStat)
    assert plan.others == sum(4 * x.size for x in jax.tree.leaves(statistics)) > 0
    assert plan.activations > 0
    assert "batch statistics" in str(plan)


def test_a_tree_with_a_loss():
    def loss(params, x):
        return jnp.sum(jnp.tanh(x @ params["w"]) ** 2)

    params, x = {"w": jnp.ones((8, 16))}, jnp.ones((4, 8))
    plan = sizes(params, optax.adam(1e-3), "data=2", loss=loss, batch=(x,))
    assert plan.state == 2 * 8 * 16 * 4 // 2 + 4  # two slots, cut in two, and a count
    assert 2 * 16 * 4 <= plan.activations <= 4 * 2 * 16 * 4  # tanh of two examples, and what its slope needs


def test_changes_are_plans_of_their_own():
    asked = {"mesh": "data=8", "zero": 0, "batch": 64}
    plan = memory_plan(SMALL, jol.adam(1e-3), **asked)
    changed = {
        "state cut (zero=1)": {"zero": 1},
        "parameters cut too (zero=3)": {"zero": 3},
        "blocks rematerialized": {"remat": True},
        "int8 state": {"store": "int8"},
        "int4 state": {"store": "int4"},
        "bfloat16 parameters": {"dtype": "bfloat16"},
    }
    for change in plan.changes:
        other = sizes(SMALL, jol.adam(1e-3), **(asked | changed[change.what]))
        assert change.after.total == other.total
        assert math.isclose(change.saves, 1 - other.total / plan.total)
    assert [change.after.total for change in plan.changes] == sorted(change.after.total for change in plan.changes)
    assert {"blocks rematerialized", "state cut (zero=1)"} <= {change.what for change in plan.changes}


def test_the_least_remedy():
    plan = memory_plan(Configuration(FEW, 0), jol.adam(1e-3), "data=8", zero=0, batch=64)
    best = plan.changes[0].after.total
    fits = memory_plan(Configuration(FEW, 0), jol.adam(1e-3), "data=8", zero=0, batch=64, memory=plan.total / 1e9)
    one = memory_plan(Configuration(FEW, 0), jol.adam(1e-3), "data=8", zero=0, batch=64, memory=best / 1e9)
    two = memory_plan(Configuration(FEW, 0), jol.adam(1e-3), "data=8", zero=0, batch=64, memory=(best - 1) / 1e9)
    none = memory_plan(Configuration(FEW, 0), jol.adam(1e-3), "data=8", zero=0, batch=64, memory=1e-6)
    assert fits.fits
    assert fits.remedy is None
    assert not one.fits
    assert one.remedy in one.changes
    assert two.remedy.what.count(",") >= 1
    assert two.remedy.after.total < best
    assert none.remedy is None
    assert f"all changes together leave {none.least / 1e6:.3g} MB" in str(none)
    assert none.least <= two.remedy.after.total


def test_its_text_and_picture(tmp_path):
    plan = sizes("gpt2-small", jol.adam(1e-3), "data=8,model=4", store="int8", memory=1)
    text = str(plan)
    for word in ("124.4 million parameters", "store(adam, 'int8')", "exact", "estimated", "total", "does not fit"):
        assert word in text
    assert sum(plan.pieces.values()) == plan.total
    plan.save(tmp_path / "plan.png")
    plan.save(tmp_path / "plan.svg")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"must end in \.png"):
        plan.save(tmp_path / "plan.foo")


def test_what_cannot_be_divided_is_told():
    plan = sizes({"w": jax.ShapeDtypeStruct((7, 5), jnp.float32)}, jol.adam(1e-3), "data=4")
    assert "2 arrays of the state, 280 B: data=4 divides none of their axes" in plan.notes[0]


@pytest.mark.parametrize(
    ("asked", "options", "kind", "told"),
    [
        ("gpt2-smal", {}, KeyError, "did you mean 'gpt2-small'"),
        (3, {}, TypeError, "memory_plan takes a Flax NNX module"),
        (PARAMS, {"zero": 2}, ValueError, "zero must be 0"),
        (PARAMS, {"mesh": "model=4"}, ValueError, "the mesh has 'model'"),
        (PARAMS, {"mesh": "data=4,model"}, ValueError, "must be NAME=SIZE"),
        (PARAMS, {"mesh": "data=4", "rules": {"a": (None, "model")}}, ValueError, "'model'"),
        (PARAMS, {"batch": 4}, ValueError, "batch is given without loss"),
        (PARAMS, {"remat": True}, ValueError, "leave remat out"),
        (PARAMS, {"memory": 0}, ValueError, "memory must be the GB"),
        (PARAMS, {"store": "int9"}, ValueError, "no codec is called 'int9'"),
        ("gpt2-small", {"mesh": "data=8", "batch": 12}, ValueError, "take 16"),
        ("gpt2-small", {"batch": 0}, ValueError, "at least 1"),
    ],
)
def test_what_cannot_be_planned(asked, options, kind, told):
    with pytest.raises(kind, match=told):
        memory_plan(asked, jol.adam(1e-3), **options)


def test_no_transformation():
    with pytest.raises(TypeError, match="memory_plan's argument"):
        memory_plan(PARAMS, "adam")


def test_the_batch_itself_is_counted():
    """A linear loss keeps nothing but its inputs."""
    x = jax.ShapeDtypeStruct((1024, 4096), jnp.float32)
    params = {"w": jax.ShapeDtypeStruct((4096,), jnp.float32)}
    plan = sizes(params, jol.sgd(0.1), "data=8", loss=lambda params, x: jnp.sum(x @ params["w"]), batch=(x,))
    assert plan.activations == 1024 * 4096 * 4 // 8


def test_temporaries_of_narrow_parameters_have_float32_among_them():
    """Slot or gradient in float32, the update and the new value in bfloat16."""
    plan = sizes({"w": jax.ShapeDtypeStruct((1000,), jnp.bfloat16)}, jol.adam(0.1))
    assert plan.temporaries == 1000 * (4 + 2 + 2)


@pytest.mark.parametrize("memory", [0, -1, math.inf, math.nan])
def test_memory_is_a_number_of_gigabytes(memory):
    with pytest.raises(ValueError, match="memory must be the GB of each device"):
        sizes(PARAMS, jol.adam(0.1), memory=memory)

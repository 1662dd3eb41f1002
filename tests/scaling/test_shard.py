"""State in its place: made there, kept there, with the numbers of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_lectures as jol
from jaxopt_lectures.scaling.traffic import collectives

KINDS = pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])


def mesh_of_kind(kind=AxisType.Auto):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))


def tree(seed, count=1):
    rng = np.random.default_rng(seed)
    shapes = {"w": (16, 32), "b": (32,), "odd": (7,)}
    made = [{name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()} for _ in range(count)]
    return made if count > 1 else made[0]


def laid_out(mesh):
    return jol.params_sharding(tree(0), mesh, {"w": (None, "model")})


def trained(tx, params, grads, state=None):
    @jax.jit
    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params) if state is None else state
    for gradient in grads:
        params, state = step(params, state, gradient)
    return params, state


def same_place(tree, layout):
    for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(layout), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim), (leaf.sharding, sharding)


def bytes_on(device, tree):
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == device
    )


@KINDS
@pytest.mark.parametrize("zero", [0, 1])
def test_numbers_and_places(kind, zero):
    mesh, grads = mesh_of_kind(kind), tree(1, count=3)
    layout = laid_out(mesh)
    params = jax.device_put(tree(0), layout)
    tx = jol.shard(jol.adamw(0.1, weight_decay=0.1), mesh, zero, params=layout)
    state = tx.init(params)
    expected = jol.state_sharding(jol.adamw(0.1), params, mesh, zero)
    same_place(state, expected)
    after, state = trained(tx, params, jax.device_put(grads, [layout] * 3), state)
    same_place(state, expected)
    same_place(after, layout)
    alone, _ = trained(jol.adamw(0.1, weight_decay=0.1), tree(0), grads)
    for name in alone:  # each element has the same operations: only fused multiply-adds may differ
        np.testing.assert_allclose(after[name], alone[name], rtol=1e-6)


def test_state_is_never_whole_on_a_device():
    mesh = jol.mesh_of("data=8")
    params = {"w": jax.device_put(jnp.ones((64, 64)), NamedSharding(mesh, P()))}
    tx = jol.shard(jol.adam(0.1), mesh, zero=1)
    whole = 2 * 64 * 64 * 4
    state = tx.init(params)
    assert bytes_on(jax.devices()[3], (state.mu, state.nu)) == whole / 8
    _, state = trained(tx, params, [params])
    assert bytes_on(jax.devices()[3], (state.mu, state.nu)) == whole / 8


def test_parameters_of_one_device_are_fine_and_so_are_those_inside_of_a_program():
    mesh = jol.mesh_of("data=8")
    tx, params = jol.shard(jol.adam(0.1), mesh, zero=1), {"w": jnp.ones((64, 64))}
    expected = jol.state_sharding(jol.adam(0.1), params, mesh, 1)
    same_place(tx.init(params), expected)
    same_place(jax.jit(tx.init)(jax.device_put(params, NamedSharding(mesh, P()))), expected)


@KINDS
def test_eager_updates(kind):
    mesh, gradient = mesh_of_kind(kind), tree(1)
    layout = laid_out(mesh)
    tx, params = jol.shard(jol.adam(0.1), mesh, 1, params=layout), jax.device_put(tree(0), layout)
    updates, state = tx.update(jax.device_put(gradient, layout), tx.init(params), params)
    same_place(updates, layout)
    same_place(state, jol.state_sharding(jol.adam(0.1), params, mesh, 1))
    alone, _ = jol.adam(0.1).update(gradient, jol.adam(0.1).init(tree(0)))
    np.testing.assert_allclose(updates["w"], alone["w"], rtol=1e-6)


def test_what_sees_all_elements_sees_them_all():
    """A clip by the global norm, a trust in the mean of all: sums go over the devices."""
    mesh, grads = mesh_of_kind(), tree(1, count=2)
    layout = laid_out(mesh)
    tx = jol.chain(jol.clip_by_global_norm(0.5), jol.adagrad_norm(0.1))
    after, _ = trained(jol.shard(tx, mesh, 1, params=layout), jax.device_put(tree(0), layout), grads)
    alone, _ = trained(tx, tree(0), grads)
    np.testing.assert_allclose(after["w"], alone["w"], rtol=1e-5)  # a sum of 551 squares in another order


def test_other_libraries_transformations():
    mesh, grads = mesh_of_kind(), tree(1, count=2)
    layout = laid_out(mesh)
    for tx in (optax.adam(0.1), optax.chain(optax.clip(0.3), optax.lamb(0.1)), optax.adafactor(0.1)):
        with jax.numpy_dtype_promotion("standard"):
            after, state = trained(jol.shard(tx, mesh, 1, params=layout), jax.device_put(tree(0), layout), grads)
            alone, _ = trained(tx, tree(0), grads)
        # weights near 2 and steps near 0.1, each rounded once a step
        np.testing.assert_allclose(after["w"], alone["w"], rtol=1e-5, atol=4 * np.finfo(np.float32).eps)
        same_place(state, jol.state_sharding(tx, jax.device_put(tree(0), layout), mesh, 1))


def test_wrappers_see_through():
    mesh = mesh_of_kind()
    layout = laid_out(mesh)
    params = jax.device_put(tree(0), layout)
    stored = jol.store(jol.shard(jol.adam(0.1), mesh, 1, params=layout), "int8", min_size=64)
    state = stored.init(params)
    assert state.mu["w"].codes.dtype == jnp.uint8
    assert state.mu["w"].codes.sharding.spec == P("data", "model")
    after, _ = trained(stored, params, tree(1, count=2))
    same_place(after, layout)


def test_explain_tells_the_cuts():
    mesh = mesh_of_kind()
    layout = laid_out(mesh)
    rows = {
        row.path: row.treatment for row in jol.explain(jol.shard(jol.adam(0.1), mesh, 1, params=layout), tree(0)).rows
    }
    assert rows["w"] == "shard(adam; cut over data=4, axis 0)"
    assert rows["odd"] == "shard(adam; on every device: data=4 divides no axis)"
    text = str(jol.explain(jol.shard(jol.adam(0.1), mesh, params=layout), tree(0)))
    assert "shard(adam; as the parameter, P(None, 'model'))" in text
    assert "shard(adam; on every device)" in text


def test_a_cut_that_cuts_nothing_is_told():
    mesh = jol.mesh_of("data=8")
    with pytest.warns(UserWarning, match="zero=1 cuts nothing: data=8 divides no axis"):
        jol.shard(jol.adam(0.1), mesh, 1).init({"w": jnp.ones(7)})


def test_bad_input():
    mesh = jol.mesh_of("data=8")
    with pytest.raises(ValueError, match="zero=1 names the axis 'batch'; the mesh has data=8"):
        jol.shard(jol.adam(0.1), mesh, 1, "batch")
    with pytest.raises(ValueError, match="zero must be 0"):
        jol.shard(jol.adam(0.1), mesh, 3)
    with pytest.raises(TypeError, match="call the factory first"):
        jol.shard(jol.adam, mesh)
    with pytest.raises(ValueError, match=r"memory_kind='tape': cpu devices have .*pinned_host"):
        jol.shard(jol.adam(0.1), mesh, memory_kind="tape")
    with pytest.raises(TypeError, match="arrays on the mesh or of"):
        jol.shard(jol.adam(0.1), mesh, params={"w": 1.0})


def test_state_in_the_hosts_memory():
    mesh, grads = mesh_of_kind(), tree(1, count=2)
    layout = laid_out(mesh)
    params = jax.device_put(tree(0), layout)
    tx = jol.shard(jol.adam(0.1), mesh, 1, params=layout, memory_kind="pinned_host")
    state = tx.init(params)
    after, state = trained(tx, params, jax.device_put(grads, [layout] * 2), state)
    assert {leaf.sharding.memory_kind for leaf in jax.tree.leaves(state)} == {"pinned_host"}
    alone, _ = trained(jol.adam(0.1), tree(0), grads)
    np.testing.assert_allclose(after["w"], alone["w"], rtol=1e-6)


@KINDS
@pytest.mark.parametrize("codec", [None, "int8"])
def test_matrices_are_divided_among_the_devices(kind, codec):
    """Six matrices on four devices along data: two steps' work each instead of six."""
    mesh = mesh_of_kind(kind)
    rng = np.random.default_rng(0)
    params = {f"{i}": jnp.asarray(rng.normal(size=(16, 32)), jnp.float32) for i in range(6)}
    layout = jol.params_sharding(params, mesh)
    tx = jol.muon(0.1) if codec is None else jol.store(jol.muon(0.1), codec, min_size=64)
    divided = jol.shard(tx, mesh, 1, params=layout)

    def program(tx, params):
        step = jax.jit(lambda g, s, p: tx.update(g, s, p))
        return step.lower(params, tx.init(params), params).compile()

    placed = jax.device_put(params, layout)
    alone, shared = program(tx, params), program(divided, placed)
    assert shared.cost_analysis()["flops"] < 0.45 * alone.cost_analysis()["flops"]
    assert "all-to-all" in {one.kind for one in collectives(shared)}
    after, _ = trained(divided, placed, [placed] * 2)
    expected, _ = trained(tx, params, [params] * 2)
    # bfloat16 products in another order, five steps of Newton and Schulz; stored in int8 the same codes
    np.testing.assert_allclose(after["3"], expected["3"], atol=2e-3)


def test_modules_of_flax():
    """`nnx.Optimizer` gives `init` boxed parameters and `update` plain ones."""
    from flax import nnx

    mesh = mesh_of_kind()
    model = nnx.Linear(16, 32, rngs=nnx.Rngs(0))
    layout = jol.params_sharding(nnx.state(model, nnx.Param), mesh, {"kernel": (None, "model")})
    alone = nnx.Linear(16, 32, rngs=nnx.Rngs(0))
    nnx.update(model, jax.device_put(nnx.state(model, nnx.Param), layout))
    x = jnp.linspace(-1.0, 1.0, 64).reshape(4, 16)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.mean(model(x) ** 2))(model))

    for own, tx in ((model, jol.shard(jol.adam(0.1), mesh, 1, params=layout)), (alone, jol.adam(0.1))):
        optimizer = nnx.Optimizer(own, tx, wrt=nnx.Param)
        step(own, optimizer)
        step(own, optimizer)
        if own is model:
            assert optimizer.opt_state.mu.kernel.get_value().sharding.spec == P("data", "model")
    assert model.kernel.get_value().sharding.spec == P(None, "model")
    # two steps of 0.1, each to 1e-5, may leave next to nothing of a weight
    np.testing.assert_allclose(model.kernel.get_value(), alone.kernel.get_value(), rtol=1e-5, atol=2 * 0.1 * 1e-5)


def test_some_of_the_parameters():
    """Inside of a choice by path, and of a mask: places are found by path."""
    mesh, grads = mesh_of_kind(), tree(1, count=2)
    layout = laid_out(mesh)
    params = jax.device_put(tree(0), layout)
    mask = {"w": True, "b": False, "odd": False}
    kinds = [
        lambda tx: jol.by_path({"w": tx, ".*": jol.sgd(0.1)}),
        lambda tx: optax.masked(tx, mask),
    ]
    for kind in kinds:
        sharded = kind(jol.shard(jol.adam(0.1), mesh, 1, params=layout))
        after, _ = trained(sharded, params, grads)
        alone, _ = trained(kind(jol.adam(0.1)), tree(0), grads)
        for name in alone:
            np.testing.assert_allclose(after[name], alone[name], rtol=1e-6)
    chosen = kinds[0](jol.shard(jol.adam(0.1), mesh, 1, params=layout))
    assert "shard(adam; cut over data=4, axis 0)" in str(jol.explain(chosen, tree(0)))


def test_around_a_sharded_transformation():
    """What traces `init` with shardings as types meets one that is sharded already."""
    mesh = mesh_of_kind()
    layout = laid_out(mesh)
    params = jax.device_put(tree(0), layout)
    sharded = jol.shard(jol.adam(0.1), mesh, 1, params=layout)
    assert jol.state_sharding(sharded, params, mesh, 1).mu["w"].spec == P("data", "model")
    plan = jol.memory_plan(tree(0), sharded, mesh, rules={"w": (None, "model")}, changes=False)
    assert plan.state == bytes_on(jax.devices()[0], sharded.init(params))
    twice, _ = trained(jol.shard(sharded, mesh, 1, params=layout), params, tree(1, count=2))
    alone, _ = trained(jol.adam(0.1), tree(0), tree(1, count=2))
    np.testing.assert_allclose(twice["w"], alone["w"], rtol=1e-6)


def test_state_begins_in_the_hosts_memory_inside_of_a_program():
    mesh = jol.mesh_of("data=8")
    tx = jol.shard(jol.adam(0.1), mesh, 1, memory_kind="pinned_host")
    params = jax.device_put({"w": jnp.ones((64, 8))}, NamedSharding(mesh, P()))
    state = jax.jit(tx.init)(params)
    assert {leaf.sharding.memory_kind for leaf in jax.tree.leaves(state)} == {"pinned_host"}


def test_places_that_cannot_be_known_are_told():
    mesh = mesh_of_kind()
    layout = laid_out(mesh)
    params = jax.device_put(tree(0), layout)
    with pytest.warns(UserWarning, match="tell where they lie"):
        jol.shard(jol.adam(0.1), mesh, 1).init(params)
    tx = jol.shard(jol.adam(0.1), mesh, 1, params={"w": layout["w"]})
    with pytest.raises(ValueError, match="no sharding of parameter 'b'; it has w"):
        tx.init(params)
    other = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    with pytest.raises(ValueError, match="along 'x', an axis of another mesh; shard was given data=4,model=2"):
        jol.shard(jol.adam(0.1), mesh).init(jax.device_put({"w": jnp.ones(8)}, NamedSharding(other, P("x"))))
    mixed = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Explicit))
    with pytest.raises(ValueError, match="all Auto, or all Explicit"):
        jol.shard(jol.adam(0.1), mixed)
    with pytest.raises(TypeError, match=r"a mesh is a jax\.sharding\.Mesh"):
        jol.shard(jol.adam(0.1), None)
    assert jol.shard(jol.adam(0.1), "data=8", 1).init({"w": jnp.ones(8)}).mu["w"].sharding.spec == P("data")


def test_an_axis_of_one_device_cuts_nothing_and_says_so():
    mesh = jol.mesh_of({"data": 1, "model": 8})
    tx = jol.shard(jol.adam(0.1), mesh, 1)
    assert not any(tx.init({"w": jnp.ones(8)}).mu["w"].sharding.spec)
    assert "shard(adam; on every device)" in str(jol.explain(tx, {"w": jnp.ones(8)}))

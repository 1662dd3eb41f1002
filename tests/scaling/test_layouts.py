"""Where parameters and state lie."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_lectures as jol
from jaxopt_lectures.scaling.layouts import cut
from jaxopt_lectures.scaling.meshes import planned

MESH = planned("data=4,model=2")
SHAPES = {"query": {"kernel": (8, 16), "bias": (16,)}, "odd": (7, 5), "scalar": ()}


def shapes():
    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s, jnp.float32), SHAPES, is_leaf=lambda node: isinstance(node, tuple)
    )


def specs(layout):
    return jax.tree.map(lambda sharding: sharding.spec, layout)


def test_rules_by_path_the_first_counts():
    layout = jol.params_sharding(shapes(), MESH, {"kernel": (None, "model"), "query": ("data",), "odd": ("data",)})
    assert specs(layout) == {"query": {"kernel": P(None, "model"), "bias": P("data")}, "odd": P(None), "scalar": P()}


def test_parameters_are_spread_beside_the_rules():
    layout = jol.params_sharding(shapes(), MESH, {"kernel": (None, "model")}, spread="data")
    assert specs(layout)["query"] == {"kernel": P("data", "model"), "bias": P("data")}
    assert specs(layout)["odd"] == P()


def test_flax_modules_have_their_rules():
    from flax import nnx

    from jaxopt_lectures.models import GPT

    model = nnx.eval_shape(lambda: GPT(32, context=8, layers=1, heads=2, width=8, rngs=nnx.Rngs(0)))
    params = nnx.state(model, nnx.Param)
    found = {
        "/".join(map(str, path)): leaf.get_value().spec
        for path, leaf in nnx.to_flat_state(jol.params_sharding(params, MESH, GPT.mesh_rules))
    }
    assert found["blocks/0/query/kernel"] == P(None, "model")
    assert found["blocks/0/fall/kernel"] == P("model", None)
    assert found["blocks/0/rise/bias"] == P("model")
    assert found["blocks/0/fall/bias"] == P()
    assert found["tokens/embedding"] == P("model", None)
    assert found["positions/embedding"] == P()


@pytest.mark.parametrize(
    ("spec", "shape", "expected"),
    [
        (P(), (8, 16), P("data", None)),
        (P(), (7, 16), P(None, "data")),
        (P(), (7, 5), P()),
        (P(), (), P()),
        (P(), (0, 4), P()),
        (P("model"), (8, 16), P("model", "data")),
        (P("model"), (8, 5), P(("model", "data"), None)),
        (P("model"), (6, 5), P("model")),
        (P(None, "data"), (8, 16), P(None, "data")),
        (P(None, ("model", "data")), (8, 16), P(None, ("model", "data"))),
    ],
)
def test_one_more_axis_is_cut(spec, shape, expected):
    assert cut(spec, shape, MESH, "data") == expected


def with_layout(layout):
    return jax.tree.map(lambda p, at: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=at), shapes(), layout)


def test_state_lies_as_its_parameter():
    params = with_layout(jol.params_sharding(shapes(), MESH, {"kernel": (None, "model")}))
    found = specs(jol.state_sharding(jol.adam(1e-3), params, MESH))
    assert found.mu["query"]["kernel"] == found.nu["query"]["kernel"] == P(None, "model")
    assert found.count == P()
    assert not any(found.mu["query"]["bias"])


def test_zero_cuts_what_is_whole_ours_and_others():
    params = with_layout(jol.params_sharding(shapes(), MESH, {"kernel": (None, "model")}))
    for tx, slot in ((jol.adam(1e-3), lambda s: s.mu), (optax.adam(1e-3), lambda s: s[0].mu)):
        found = slot(specs(jol.state_sharding(tx, params, MESH, zero=1)))
        assert found["query"] == {"kernel": P("data", "model"), "bias": P("data")}
        assert not any(found["odd"])
        assert not any(found["scalar"])


def test_factors_of_other_shapes_are_cut_too():
    state = jol.state_sharding(optax.adafactor(1e-3, min_dim_size_to_factor=4), shapes(), MESH, zero=1)
    rows = jax.tree.leaves(specs(state[0].v_row["query"]["kernel"]), is_leaf=lambda x: isinstance(x, P))
    assert rows == [P("data")]
    state = jol.state_sharding(jol.soap(1e-3), shapes(), MESH, zero=1)
    assert specs(state.factors["query"]["kernel"]) == {"left": P("data", None), "right": P("data", None)}


def test_codes_and_scales_lie_together_and_no_block_crosses_an_edge():
    tx = jol.store(jol.adam(1e-3), "int8", min_size=64)
    params = {"w": jax.ShapeDtypeStruct((8, 96), jnp.float32)}
    kept = jol.state_sharding(tx, params, MESH, zero=1).mu["w"]
    assert kept.codes.spec == kept.scale.spec == P("data", None)
    shape = jol.scaling.layouts.state_shapes(tx, params, jol.params_sharding(params, MESH, spread="data")).mu["w"].scale
    assert shape.shape[0] % 4 == 0
    assert kept.scale.shard_shape(shape.shape)[0] == shape.shape[0] // 4


def test_bad_input():
    with pytest.raises(ValueError, match="'pipeline'; the mesh has data=4,model=2"):
        jol.params_sharding(shapes(), MESH, {"kernel": ("pipeline",)})
    with pytest.raises(ValueError, match="has 2 axes, parameter 'query/bias' 1"):
        jol.params_sharding(shapes(), MESH, {"bias": (None, "model")})
    with pytest.raises(ValueError, match="a rule cannot be read as a regular expression"):
        jol.params_sharding(shapes(), MESH, {"w(": ("data",)})
    with pytest.raises(ValueError, match="cuts two axes along one of the mesh"):
        jol.params_sharding(shapes(), MESH, {"kernel": ("model", "model")})
    with pytest.raises(TypeError, match="must give a mesh axis or None for each axis"):
        jol.params_sharding(shapes(), MESH, {"kernel": "data"})
    with pytest.raises(ValueError, match="spread names the axis 'x'"):
        jol.params_sharding(shapes(), MESH, spread="x")
    with pytest.raises(ValueError, match=r"zero must be 0 .* got 2"):
        jol.state_sharding(jol.adam(1e-3), shapes(), MESH, zero=2)
    with pytest.raises(ValueError, match="zero=1 names the axis 'batch'"):
        jol.state_sharding(jol.adam(1e-3), shapes(), MESH, zero=1, axis="batch")
    with pytest.raises(TypeError, match="call the factory first"):
        jol.state_sharding(jol.adam, shapes(), MESH)


def test_memory_kind_is_told():
    mesh = jol.mesh_of("data=8")
    found = jol.state_sharding(jol.adam(1e-3), {"w": jnp.ones((8, 8))}, mesh, 1, memory_kind="pinned_host")
    assert {sharding.memory_kind for sharding in jax.tree.leaves(found)} == {"pinned_host"}
    assert all(isinstance(sharding, NamedSharding) for sharding in jax.tree.leaves(found))

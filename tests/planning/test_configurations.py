import math
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxopt_lectures.core.paths import paths_of
from jaxopt_lectures.models.transformer import GPT
from jaxopt_lectures.planning import configurations
from jaxopt_lectures.planning.residuals import residuals
from jaxopt_lectures.planning.transformers import RULES, Transformer

SMALL = Transformer(64, 16, layers=2, heads=4, width=32, inner=128)


@pytest.mark.parametrize("name", configurations.names())
def test_counted_parameters_are_the_published_ones(name):
    """Within half a unit of the last digit that the source prints; exactly where it prints all."""
    found = configurations.get(name)
    assert abs(found.counted - found.published) <= found.rounding


def test_the_lectures_table_is_there():
    """ "Large networks": GLM-XXLarge 10 B, GPT-3 175 B, ViT-MoE 14.7 B, YOLOv3 65 M, which its layers do not give."""
    counted = {name: configurations.get(name).counted for name in ("glm-10b", "gpt3-175b", "vit-moe-15b", "yolov3")}
    assert round(counted["glm-10b"] / 1e9) == 10
    assert round(counted["gpt3-175b"] / 1e9) == 175
    assert round(counted["vit-moe-15b"] / 1e9, 1) == 14.7
    assert round(counted["yolov3"] / 1e6) == 62
    assert "65 M" in configurations.get("yolov3").doubt


def test_parameters_are_those_of_the_model():
    """Names, shapes and order of GPT, so that its rules and a user's regular expressions fit both."""
    model = nnx.eval_shape(lambda: GPT(64, context=16, layers=2, heads=4, width=32, rngs=nnx.Rngs(0)))
    theirs = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    ours = SMALL.params(jnp.float32)
    assert paths_of(ours) == paths_of(theirs)
    assert [p.shape for p in jax.tree.leaves(ours)] == [p.shape for p in jax.tree.leaves(theirs)]
    for rule, spec in GPT.mesh_rules.items():
        for path in filter(re.compile(rule).search, paths_of(theirs)):
            assert next(mine for pattern, mine in RULES.items() if re.search(pattern, path)) == spec


def test_the_traced_work_is_that_of_the_model():
    """What waits for the backward pass, within the few arrays by which the two losses differ."""
    model = nnx.eval_shape(lambda: GPT(64, context=16, layers=2, heads=4, width=32, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(model)

    def loss(params, tokens):
        scores = nnx.merge(graph, params)(tokens)
        return jnp.mean(jax.nn.logsumexp(scores, -1) - scores[..., 0])

    tokens = SMALL.inputs(3, jnp.float32)
    theirs = residuals(loss, params, tokens).kept
    ours = residuals(SMALL.loss, SMALL.params(jnp.float32), tokens).kept
    assert math.isclose(ours, theirs, rel_tol=0.01)


@pytest.mark.parametrize("sizes", [SMALL, Transformer(64, 16, 4, 4, 32, 64, experts=4, every=2, patch=2)])
def test_the_traced_work_can_be_done(sizes):
    """Shapes fit, in float32 and bfloat16; rematerialized or not, the loss is one number."""
    params = jax.tree.map(lambda p: jnp.full(p.shape, 0.01, p.dtype), sizes.params(jnp.float32))
    inputs = jnp.zeros(sizes.inputs(2, jnp.float32).shape, sizes.inputs(2, jnp.float32).dtype)
    plain, again = jax.jit(lambda *given: (sizes.loss(*given), sizes.loss(*given, True)))(params, inputs)
    assert jnp.isfinite(plain)
    assert jnp.allclose(plain, again)
    narrow = jax.eval_shape(sizes.loss, sizes.params(jnp.bfloat16), sizes.inputs(2, jnp.bfloat16))
    assert (narrow.shape, narrow.dtype) == ((), jnp.float32)


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'gpt3-175b'"):
        configurations.get("gpt3-175")

"""What a compiled program sends, read from its text."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import jaxopt_lectures as jol
from jaxopt_lectures.scaling.traffic import Collective, collectives, sent

LINES = {
    "%a = f32[64,128]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add": (
        Collective("all-reduce", 64 * 128 * 4, 4),
        2 * 64 * 128 * 4 * 3 / 4,
    ),
    "%b = (bf16[8]{0}, /*index=1*/u8[16]{0}) all-gather(%x, %y), replica_groups=[2,4]<=[8], dimensions={0}": (
        Collective("all-gather", 32, 4),
        32 * 3 / 4,
    ),
    "%c = f64[2]{0} reduce-scatter(%x), replica_groups=mesh['axis_0'=8] {'axis_0'}, dimensions={0}": (
        Collective("reduce-scatter", 16, 8),
        16 * 7,
    ),
    "%d = s32[8]{0} all-to-all(%x), replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}": (
        Collective("all-to-all", 32, 4),
        32 * 3 / 4,
    ),
    "%e = pred[8]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}": (
        Collective("collective-permute", 8, 2),
        8,
    ),
    "%f = (f32[2]{0}, f32[16]{0}) all-gather-start(%x), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}": (
        Collective("all-gather", 64, 8),
        64 * 7 / 8,
    ),
    "%h = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1}}": (
        Collective("collective-permute", 32, 2),
        32,
    ),
    "%i = s4[8]{0} all-reduce(%x), replica_groups={{0},{1,2,3}}, to_apply=%add": (
        Collective("all-reduce", 4, 3),
        2 * 4 * 2 / 3,
    ),
    "%g = f32[16]{0} all-gather(%x), replica_groups=mesh['a'=8] {'a':(2)4}, dimensions={0}": (
        Collective("all-gather", 64, 4),
        64 * 3 / 4,
    ),
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("(%")[0].split()[-1])
def test_lines_are_read(line):
    collective, nbytes = LINES[line]
    assert collectives(line) == [collective]
    assert sent(line) == nbytes


def test_others_are_not():
    assert collectives("%h = f32[4]{0} all-gather-done(%f)\n%i = f32[4]{0} add(%x, %all-reduce.1)") == []
    assert collectives("%j = f32[4]{0} all-reduce(%x), replica_groups={{0},{1}}, to_apply=%add") == []  # to nobody


def test_all_devices_are_those_of_the_module():
    header = "HloModule jit_f, num_partitions=8, entry_computation_layout={()->f32[]}"
    line = "%l = f32[4]{0} all-reduce(%x), replica_groups={}, to_apply=%add"
    assert collectives(f"{header}\n{line}") == [Collective("all-reduce", 16, 8)]


def test_a_permutation_to_oneself_sends_nothing():
    assert sent("%m = f32[4]{0} collective-permute(%x), source_target_pairs={{0,0},{1,1}}") == 0


def test_a_form_that_is_not_known_is_told():
    with pytest.raises(ValueError, match="not counted"):
        collectives("%n = f32[4]{0} ragged-all-to-all(%x), replica_groups={{0,1}}")
    with pytest.raises(ValueError, match="unknown devices"):
        collectives("%k = f32[4]{0} all-reduce(%x), replica_groups=everyone")


def test_programs_of_this_jax_are_read():
    """Of every kind, with the numbers that follow from the shapes."""
    mesh = jol.mesh_of("data=8")
    x = jnp.ones((64, 8))
    kinds = {
        "all-reduce": (lambda x: jax.lax.psum(x, "data"), P(), 2 * 7 / 8 * 8 * 8 * 4),
        "all-gather": (lambda x: jax.lax.all_gather(x, "data", tiled=True), P(), 7 / 8 * 64 * 8 * 4),
        "reduce-scatter": (lambda x: jax.lax.psum_scatter(x, "data", tiled=True), P("data"), 7 / 8 * 8 * 8 * 4),
        "all-to-all": (lambda x: jax.lax.all_to_all(x, "data", 1, 0, tiled=True), P(None, "data"), 7 / 8 * 8 * 8 * 4),
    }
    for kind, (function, out, expected) in kinds.items():
        shared = jax.shard_map(function, mesh=mesh, in_specs=P("data"), out_specs=out, check_vma=False)
        compiled = jax.jit(shared).lower(x).compile()
        assert {one.kind for one in collectives(compiled)} == {kind}
        assert sent(compiled) == expected, kind

"""Meshes from words."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from jaxopt_lectures.scaling.meshes import mesh_of, planned, sizes_of, text


def test_sizes_are_read():
    assert sizes_of("data=4,model=2") == {"data": 4, "model": 2} == sizes_of({"data": 4, "model": 2})
    assert sizes_of({"data": np.int64(4)}) == {"data": 4}
    assert sizes_of(" data = 4 ") == {"data": 4}
    assert text(sizes_of("data=4,model=2")) == "data=4,model=2"


def test_a_mesh_takes_its_devices_and_is_the_compilers():
    mesh = mesh_of("data=4,model=2")
    assert dict(mesh.shape) == {"data": 4, "model": 2}
    assert set(mesh.devices.flat) == set(jax.devices())
    assert mesh.axis_types == (AxisType.Auto,) * 2
    assert mesh_of(mesh) is mesh
    assert mesh_of("data=2").size == 2  # two of eight


def test_a_planned_mesh_needs_no_devices():
    mesh = planned("data=1024,model=8")
    assert isinstance(mesh, AbstractMesh)
    assert mesh.size == 8192
    assert planned(mesh) is mesh
    assert planned(mesh_of("data=8")).shape == {"data": 8}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data", "NAME=SIZE"),
        ("data=4;model=2", "NAME=SIZE"),
        ("=4", "NAME=SIZE"),
        ("data=-1", "NAME=SIZE"),
        ("", "at least one axis"),
        ("data=2,data=4", "none twice"),
        ("data=0", "at least 1"),
        ({"data": 2.0}, "at least 1"),
        ({"data": True}, "at least 1"),
        ("data=3", "product is 1 or 2 or 4 or 8"),
        ("data=8,model=2", "16 places"),
    ],
)
def test_what_is_no_mesh(given, said):
    with pytest.raises(ValueError, match=said):
        mesh_of(given)


def test_another_kind_of_thing_is_no_mesh():
    with pytest.raises(TypeError, match="'data=4,model=2' or a mapping"):
        mesh_of(8)

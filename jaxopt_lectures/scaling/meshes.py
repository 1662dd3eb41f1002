"""Meshes from words: "data=4,model=2"."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

Sizes: TypeAlias = str | Mapping[str, int]


def sizes_of(given: Sizes) -> dict[str, int]:
    """The size of each axis by its name: of "data=4,model=2", or of a mapping.

    Raises:
      ValueError: not NAME=SIZE with commas between, a size below 1, a name twice, no axis at all.
    """
    if isinstance(given, Mapping):
        pairs = [(name, _whole(size)) for name, size in given.items()]
    elif isinstance(given, str):
        pairs = [_pair(part, given) for part in given.split(",") if part.strip()]
    else:
        raise TypeError(f"a mesh is a jax.sharding.Mesh, a text like 'data=4,model=2' or a mapping, got {given!r}")
    for name, size in pairs:
        if not isinstance(size, int) or size < 1 or not isinstance(name, str):
            raise ValueError(f"mesh {given!r}: axis {name!r} must have a whole size of at least 1, got {size!r}")
    if not pairs or len({name for name, _ in pairs}) < len(pairs):
        raise ValueError(f"mesh {given!r} must name at least one axis, and none twice: 'data=4,model=2'")
    return dict(pairs)


def mesh_of(given: Sizes | Mesh, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh whose axes the compiler handles (`AxisType.Auto`), over as many devices as it has places.

    Args:
      given: the sizes; a `jax.sharding.Mesh` is taken as it is.
      devices: from which to take; all of all processes if None.

    Raises:
      ValueError: as `sizes_of`; the mesh does not divide the devices, or leaves out devices of other processes.
    """
    if isinstance(given, Mesh):
        return given
    sizes = sizes_of(given)
    found, wanted = list(jax.devices() if devices is None else devices), math.prod(sizes.values())
    if len(found) % wanted:
        raise ValueError(
            f"mesh {text(sizes)} has {wanted} places, which do not divide the {len(found)} devices: choose sizes whose "
            f"product is {' or '.join(str(n) for n in range(1, len(found) + 1) if len(found) % n == 0)}"
        )
    if wanted < len(found) and len({device.process_index for device in found}) > 1:
        raise ValueError(f"mesh {text(sizes)} has {wanted} places; with several processes it must use all {len(found)}")
    return jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes), devices=found[:wanted]
    )


def planned(given: Sizes | Mesh | AbstractMesh) -> AbstractMesh:
    """A mesh of devices that need not be there."""
    if isinstance(given, AbstractMesh):
        return given
    if isinstance(given, Mesh):
        return given.abstract_mesh
    sizes = sizes_of(given)
    return AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def check_axis(mesh: Mesh | AbstractMesh, axis: str, what: str) -> None:
    """Raises ValueError unless the mesh has the axis."""
    if axis not in mesh.axis_names:
        raise ValueError(f"{what} names the axis {axis!r}; the mesh has {text(mesh.shape)}")


def text(sizes: Mapping[str, int]) -> str:
    """The sizes in words: "data=4,model=2"."""
    return ",".join(f"{name}={size}" for name, size in sizes.items())


def _whole(size: Any) -> Any:
    """A whole number of any library as Python's; anything else as it is."""
    try:
        return str(size) if isinstance(size, bool) else operator.index(size)
    except TypeError:
        return size


def _pair(part: str, given: str) -> tuple[str, int]:
    name, equals, size = part.partition("=")
    if not equals or not name.strip().isidentifier() or not size.strip().isdecimal():
        raise ValueError(f"mesh {given!r} must be NAME=SIZE with commas between, as 'data=4,model=2'")
    return name.strip(), int(size)

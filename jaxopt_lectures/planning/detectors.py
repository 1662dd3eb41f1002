"""YOLOv3 as shapes, and as work to be traced and never run."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

_STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
"""Channels and residual blocks of Darknet-53."""


@dataclasses.dataclass(frozen=True)
class Detector:
    """Darknet-53 and three heads, one for each scale.

    Attributes:
      classes: of objects.
      edge: pixels along an image's edge, a multiple of 32.
    """

    classes: int = 80
    edge: int = 416

    @property
    def blocks(self) -> int:
        """One: no two parts are equal."""
        return 1

    @property
    def repeats(self) -> int:
        """How many parts can be rematerialized one by one."""
        return sum(repeats for _, repeats in _STAGES)

    @property
    def rules(self) -> Mapping[str, tuple[str | None, ...]]:
        """None: kernels lie whole on each device."""
        return {}

    def params(self, dtype: Any, blocks: int | None = None) -> dict[str, Any]:
        """The parameters, `jax.ShapeDtypeStruct`: kernels, and scale and bias of each batch norm."""
        del blocks
        return dict(_made(self, jnp.dtype(dtype)))

    def inputs(self, examples: int, dtype: Any) -> jax.ShapeDtypeStruct:
        """So many images."""
        return jax.ShapeDtypeStruct((examples, self.edge, self.edge, 3), dtype)

    def loss(self, params: Any, inputs: jax.Array, again: bool = False) -> jax.Array:
        """Mean square of the three outputs, in place of the loss; `again`: residual blocks are rematerialized."""
        outputs = self._forward(_Walk(inputs.dtype, params, again), inputs)
        return sum((jnp.mean(y.astype(jnp.float32) ** 2) for y in outputs), jnp.float32(0))

    def _forward(self, walk: "_Walk", x: jax.Array) -> list[jax.Array]:
        """The three outputs; makes parameters or reads them, as the walk does."""
        x, seen = walk.conv(x, 32, 3), []
        for channels, repeats in _STAGES:
            x = walk.conv(x, channels, 3, stride=2)
            for _ in range(repeats):
                x = walk.residual(x, channels)
            seen.append(x)
        outputs, answers = [], 3 * (self.classes + 5)
        for scale, channels in enumerate((512, 256, 128)):
            if scale:
                x = walk.conv(x, channels, 1)
                x = jnp.concatenate([x.repeat(2, 1).repeat(2, 2), seen[-1 - scale]], -1)
            for size, width in ((1, 1), (3, 2), (1, 1), (3, 2), (1, 1)):
                x = walk.conv(x, width * channels, size)
            outputs.append(walk.conv(walk.conv(x, 2 * channels, 3), answers, 1, last=True))
        return outputs


@functools.cache
def _made(sizes: Detector, dtype: Any) -> dict[str, Any]:
    walk = _Walk(dtype)
    jax.eval_shape(lambda: sizes._forward(walk, jnp.zeros((1, 32, 32, 3), dtype)))
    return walk.made


class _Walk:
    """Goes through the layers in order, making the shapes of their parameters or reading them."""

    def __init__(self, dtype: Any, params: Any = None, again: bool = False) -> None:
        self.dtype, self.params, self.again = dtype, params, again
        self.made: dict[str, Any] = {}
        self.names: Iterator[str] = (f"conv_{number:02d}" for number in range(1000))

    def conv(self, x: jax.Array, channels: int, size: int, *, stride: int = 1, last: bool = False) -> jax.Array:
        """A convolution, batch norm, leaky ReLU; the last ones have a bias instead."""
        return _conv(self._layer(x.shape[-1], channels, size, last), x, stride)

    def residual(self, x: jax.Array, channels: int) -> jax.Array:
        """Half the channels, all of them again, and added."""
        first, second = self._layer(channels, channels // 2, 1), self._layer(channels // 2, channels, 3)

        def block(first: Any, second: Any, x: jax.Array) -> jax.Array:
            return x + _conv(second, _conv(first, x, 1), 1)

        return (jax.checkpoint(block) if self.again else block)(first, second, x)

    def _layer(self, before: int, channels: int, size: int, last: bool = False) -> Any:
        name = next(self.names)
        if self.params is not None:
            return self.params[name]
        shapes = {"kernel": (size, size, before, channels), "bias": (channels,)}
        shapes |= {} if last else {"scale": (channels,)}
        self.made[name] = {key: jax.ShapeDtypeStruct(shape, self.dtype) for key, shape in shapes.items()}
        return {key: jnp.zeros(shape, self.dtype) for key, shape in shapes.items()}


def _conv(layer: Any, x: jax.Array, stride: int) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=numbers)
    if "scale" not in layer:
        return y + layer["bias"]
    wide = y.astype(jnp.float32)
    wide = (wide - wide.mean((0, 1, 2))) * jax.lax.rsqrt(wide.var((0, 1, 2)) + 1e-5)
    return jax.nn.leaky_relu(wide.astype(y.dtype) * layer["scale"] + layer["bias"], 0.1)

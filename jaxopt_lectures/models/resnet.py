"""Residual networks: each block adds to what it was given.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2015 (lecture 000): table 1
(ImageNet), section 4.2 (CIFAR-10). As in torchvision, a bottleneck halves the image in its 3 x 3 convolution, which
changes no number of parameters.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_lectures.models.initializers import he_normal
from jaxopt_lectures.models.parts import batch_normalization, check_image


class ResNet(nnx.Module):
    """A stem, stages of residual blocks `x -> relu(shortcut(x) + F(x))`, the mean over the image, a dense layer.

    Every stage but the first halves the image in its first block. Convolutions have no bias, since each is followed
    by batch normalisation; their weights are drawn after He et al.

    Args:
      blocks: how many blocks each stage has.
      widths: channels of each stage.
      classes: number of logits.
      channels: of an image.
      bottleneck: blocks of 1 x 1, 3 x 3 and 1 x 1 convolutions, whose output has 4 times the channels; otherwise of two
        3 x 3 convolutions.
      stem: "large" is a 7 x 7 convolution and a 3 x 3 maximum, each halving the image; "small" a 3 x 3 convolution.
      shortcut: where a block changes the shape: "projection" is a 1 x 1 convolution with normalisation (option B of the
        paper), "padding" takes every other pixel and adds channels of zeros, without parameters (option A).
      rngs: where the weights are drawn from.

    Raises:
      ValueError: a size below 1, not as many blocks as widths, widths that shrink with "padding", an unknown stem or
        shortcut.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        classes: int,
        *,
        channels: int = 3,
        bottleneck: bool = False,
        stem: Literal["large", "small"] = "large",
        shortcut: Literal["projection", "padding"] = "projection",
        rngs: nnx.Rngs,
    ) -> None:
        if not blocks or len(blocks) != len(widths) or min(*blocks, *widths, classes, channels) < 1:
            raise ValueError(
                "blocks and widths must be equally many, and they, classes and channels >= 1; got blocks "
                f"{tuple(blocks)}, widths {tuple(widths)}, classes {classes}, channels {channels}"
            )
        for name, value, known in (("stem", stem, ("large", "small")), ("shortcut", shortcut, _SHORTCUTS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if shortcut == "padding" and sorted(widths) != list(widths):
            raise ValueError(f"a shortcut by padding can only add channels, but the widths are {tuple(widths)}")
        self.large = stem == "large"
        window, stride = (7, 2) if self.large else (3, 1)
        self.stem = _Convolution(channels, widths[0], window, stride, rngs=rngs)
        self.stages = nnx.List()
        before, growth = widths[0], 4 if bottleneck else 1
        for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stage = nnx.List()
            for block in range(count):
                stride = 2 if index and not block else 1
                stage.append(_Block(before, width, width * growth, stride, shortcut, rngs=rngs))
                before = width * growth
            self.stages.append(stage)
        self.logits = nnx.Linear(before, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images, (..., height, width, channels), to logits, (..., classes)."""
        x = nnx.relu(self.stem(x))
        if self.large:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.logits(jnp.mean(x, axis=(-3, -2)))


def resnet18(classes: int = 1000, *, rngs: nnx.Rngs) -> ResNet:
    """ResNet-18 for ImageNet: 11,689,512 parameters."""
    return ResNet((2, 2, 2, 2), _IMAGENET, classes, rngs=rngs)


def resnet34(classes: int = 1000, *, rngs: nnx.Rngs) -> ResNet:
    """ResNet-34 for ImageNet: 21,797,672 parameters."""
    return ResNet((3, 4, 6, 3), _IMAGENET, classes, rngs=rngs)


def resnet50(classes: int = 1000, *, rngs: nnx.Rngs) -> ResNet:
    """ResNet-50 for ImageNet, of bottlenecks: 25,557,032 parameters."""
    return ResNet((3, 4, 6, 3), _IMAGENET, classes, bottleneck=True, rngs=rngs)


def resnet20(classes: int = 10, *, channels: int = 3, rngs: nnx.Rngs) -> ResNet:
    """ResNet-20 for CIFAR-10, shortcuts without parameters: 269,722 parameters (the paper rounds to 0.27 M)."""
    return _small(3, classes, channels, rngs)


def resnet56(classes: int = 10, *, channels: int = 3, rngs: nnx.Rngs) -> ResNet:
    """ResNet-56 for CIFAR-10, shortcuts without parameters: 853,018 parameters (the paper rounds to 0.85 M)."""
    return _small(9, classes, channels, rngs)


def resnet_small(image: Sequence[int], classes: int, *, rngs: nnx.Rngs) -> ResNet:
    """A ResNet of 6 layers for small images: one block of 16 channels and one of 32.

    For digits, 8 x 8 x 1 and 10 classes: 19,130 parameters.

    Args:
      image: (height, width, channels) of an image.
      classes: number of logits.
      rngs: where the weights are drawn from.

    Raises:
      ValueError: an image below 2 x 2.
    """
    check_image(image, 2, "the second stage halves it")
    return ResNet((1, 1), (16, 32), classes, channels=image[2], stem="small", shortcut="padding", rngs=rngs)


_IMAGENET = (64, 128, 256, 512)
_SHORTCUTS = ("projection", "padding")


def _small(blocks: int, classes: int, channels: int, rngs: nnx.Rngs) -> ResNet:
    return ResNet((blocks,) * 3, (16, 32, 64), classes, channels=channels, stem="small", shortcut="padding", rngs=rngs)


class _Convolution(nnx.Module):
    """A convolution without bias, padded by (window - 1) / 2 on each side, then batch normalisation."""

    def __init__(self, before: int, after: int, window: int, stride: int, *, rngs: nnx.Rngs) -> None:
        side = window // 2
        # "SAME" would pad an even image on one side only when the stride is 2
        self.convolution = nnx.Conv(
            before,
            after,
            (window, window),
            strides=stride,
            padding=((side, side), (side, side)),
            use_bias=False,
            kernel_init=he_normal(),
            rngs=rngs,
        )
        self.norm = batch_normalization(after, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.convolution(x))


class _Block(nnx.Module):
    def __init__(self, before: int, width: int, after: int, stride: int, shortcut: str, *, rngs: nnx.Rngs) -> None:
        # (channels, window) of each convolution; the first 3 x 3 has the stride
        plan = ((width, 1), (width, 3), (after, 1)) if after != width else ((width, 3), (width, 3))
        strided = 1 if after != width else 0
        self.convolutions = nnx.List(
            _Convolution(a, b, window, stride if index == strided else 1, rngs=rngs)
            for index, (a, (b, window)) in enumerate(zip((before, *(c for c, _ in plan)), plan, strict=False))
        )
        self.stride, self.grow = stride, after - before
        changes = stride != 1 or before != after
        project = changes and shortcut == "projection"
        self.projection = _Convolution(before, after, 1, stride, rngs=rngs) if project else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for convolution in self.convolutions[:-1]:
            y = nnx.relu(convolution(y))
        return nnx.relu(self._shortcut(x) + self.convolutions[-1](y))

    def _shortcut(self, x: jax.Array) -> jax.Array:
        if self.projection is not None:
            return self.projection(x)
        x = x[..., :: self.stride, :: self.stride, :]
        return jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, self.grow),))

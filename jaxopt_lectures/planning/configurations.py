"""Large networks by name, as shapes. Published numbers of parameters are compared with counted ones in the tests."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures import registry
from jaxopt_lectures.planning.detectors import Detector
from jaxopt_lectures.planning.transformers import Transformer


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A network of which only shapes are known.

    Attributes:
      architecture: its sizes.
      published: the number of parameters in its source.
      rounding: half a unit of the last digit that the source gives; 0 where it gives all of them.
      doubt: what is not certain, or why the counted number differs.
    """

    architecture: Transformer | Detector
    published: int
    rounding: int = 0
    doubt: str = ""

    def params(self, dtype: Any = jnp.float32) -> Any:
        """The parameters as a tree of `jax.ShapeDtypeStruct`."""
        return self.architecture.params(dtype)

    @property
    def counted(self) -> int:
        """The number of parameters that the shapes have."""
        return sum(math.prod(p.shape) for p in jax.tree.leaves(self.params()))


_gpt2 = functools.partial(Transformer, 50257, 1024)


def gpt2_small() -> Configuration:
    """A. Radford et al., "Language models are unsupervised multitask learners", 2019; count of the weights' file."""
    return Configuration(_gpt2(layers=12, heads=12, width=768, inner=3072), 124_439_808)


def gpt2_medium() -> Configuration:
    """As `gpt2_small`. The paper's table says 345 M, which its authors corrected to 355 M."""
    return Configuration(_gpt2(layers=24, heads=16, width=1024, inner=4096), 354_823_168)


def gpt2_large() -> Configuration:
    """As `gpt2_small`. The paper's table says 762 M, corrected to 774 M."""
    return Configuration(_gpt2(layers=36, heads=20, width=1280, inner=5120), 774_030_080)


def gpt2_xl() -> Configuration:
    """As `gpt2_small`. The paper's table says 1542 M, corrected to 1558 M."""
    return Configuration(_gpt2(layers=48, heads=25, width=1600, inner=6400), 1_557_611_200)


def gpt3_175b() -> Configuration:
    """T. Brown et al., "Language models are few-shot learners", 2020, table 2.1: 175.0 B; tied, vocabulary of GPT-2.

    The sizes printed in that table give 174.6 B, so its last digit is rounded. Every second layer attends to a band of
    positions only; the activations here are those of full attention.
    """
    sizes = Transformer(50257, 2048, layers=96, heads=96, width=12288, inner=4 * 12288)
    return Configuration(
        sizes, 175_000_000_000, 500_000_000, "printed as 175.0 B, though the sizes printed with it give 174.6 B"
    )


def glm_10b() -> Configuration:
    """Z. Du et al., "GLM: General language model pretraining with autoregressive blank infilling", 2022; 10 B.

    Sizes of its published weights: 48 layers, width 4096, 64 heads, vocabulary 50304, two tables of 1025 positions.
    """
    sizes = Transformer(50304, 1024, layers=48, heads=64, width=4096, inner=4 * 4096, tables=2, positions=1025)
    return Configuration(sizes, 10_000_000_000, 500_000_000)


def vit_moe_15b() -> Configuration:
    """C. Riquelme et al., "Scaling vision with sparse mixture of experts", 2021: V-MoE-15B, 14.7 B parameters.

    48 layers, every second one with 32 experts of which 2 see a patch, as the text says. Width, inner features and
    heads are not certain: those here are the width of ViT-g/14 and what then gives the published number.
    """
    sizes = Transformer(
        18291, 256, layers=48, heads=16, width=1408, inner=6400, experts=32, chosen=2, every=2, patch=14
    )
    doubt = "width and inner features chosen so that the number of parameters agrees"
    return Configuration(sizes, 14_700_000_000, 50_000_000, doubt)


def yolov3() -> Configuration:
    """J. Redmon, A. Farhadi, "YOLOv3: An incremental improvement", 2018, for the 80 classes of COCO.

    The lecture's table says 65 M. The layers of the authors' configuration file have 61,949,149 parameters, scales and
    biases of batch norms counted; with the running means and variances their weights' file has 62.0 M numbers.
    """
    return Configuration(Detector(), 61_949_149, doubt="65 M in the lecture's table")


def llama2_7b() -> Configuration:
    """H. Touvron et al., "Llama 2: Open foundation and fine-tuned chat models", 2023; count of the weights' files."""
    sizes = _llama(layers=32, heads=32, width=4096, inner=11008)
    return Configuration(sizes, 6_738_415_616)


def llama2_70b() -> Configuration:
    """As `llama2_7b`; 8 heads of keys and values."""
    sizes = _llama(layers=80, heads=64, width=8192, inner=28672, key_heads=8)
    return Configuration(sizes, 68_976_648_192)


def mixtral_8x7b() -> Configuration:
    """A. Jiang et al., "Mixtral of experts", 2024; count of the weights' files. Activations are for 4096 tokens."""
    sizes = _llama(layers=32, heads=32, width=4096, inner=14336, key_heads=8, experts=8, chosen=2)
    return Configuration(sizes, 46_702_792_704)


_llama = functools.partial(Transformer, 32000, 4096, tables=0, biases=False, gated=True, tied=False)

_CONFIGURATIONS: dict[str, Callable[[], Configuration]] = {
    "gpt2-small": gpt2_small,
    "gpt2-medium": gpt2_medium,
    "gpt2-large": gpt2_large,
    "gpt2-xl": gpt2_xl,
    "gpt3-175b": gpt3_175b,
    "glm-10b": glm_10b,
    "vit-moe-15b": vit_moe_15b,
    "yolov3": yolov3,
    "llama2-7b": llama2_7b,
    "llama2-70b": llama2_70b,
    "mixtral-8x7b": mixtral_8x7b,
}


def names() -> tuple[str, ...]:
    """Every configuration's name."""
    return tuple(_CONFIGURATIONS)


def get(name: str) -> Configuration:
    """The configuration of that name.

    Raises:
      KeyError: no such one; the message has the nearest name, or all of them.
    """
    if name not in _CONFIGURATIONS:
        raise KeyError(registry.unknown(name, "network", list(_CONFIGURATIONS)))
    return _CONFIGURATIONS[name]()

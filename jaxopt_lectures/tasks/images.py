"""The digits of `digits.py` as images, for three convolutional networks that fit them: LeNet's kind, ResNet's, VGG's.

Sources: Y. LeCun et al., Proc. IEEE 86, 1998; K. He et al., arXiv:1512.03385; K. Simonyan, A. Zisserman,
arXiv:1409.1556.
"""

from collections.abc import Callable

from flax import nnx

from jaxopt_lectures.models.lenet import LeNet
from jaxopt_lectures.models.resnet import resnet_small
from jaxopt_lectures.models.vgg import VGG
from jaxopt_lectures.tasks import digits as flat
from jaxopt_lectures.tasks.measures import accuracy, cross_entropy
from jaxopt_lectures.tasks.task import Data, Examples, Task

_IMAGE, _CLASSES = (8, 8, 1), 10


def data() -> Data:
    """The same examples in the same parts, (n, 8, 8, 1) float32."""
    parts = flat.data()
    assert parts.test is not None
    return Data(*(Examples(x.reshape(-1, *_IMAGE), y) for x, y in (parts.train, parts.validation, parts.test)))


def convolutional(seed: int) -> nnx.Module:
    """LeNet with windows of 3 x 3, 16 and 32 channels, 64 hidden units: 7562 parameters."""
    return LeNet(_IMAGE, _CLASSES, channels=(16, 32), dense=(64,), kernel=3, rngs=nnx.Rngs(seed))


def residual(seed: int) -> nnx.Module:
    """A small residual network with batch normalisation: 19,130 parameters."""
    return resnet_small(_IMAGE, _CLASSES, rngs=nnx.Rngs(seed))


def very_deep(seed: int) -> nnx.Module:
    """Two stages of two convolutions with batch normalisation, 16 and 24 channels, and 32 hidden units: 14,762."""
    stages = ((16, 16), (24, 24))
    return VGG(stages, _CLASSES, image=_IMAGE, dense=(32,), batch_norm=True, dropout=0.0, rngs=nnx.Rngs(seed))


def _task(name: str, summary: str, model: Callable[[int], nnx.Module], steps: int) -> Task:
    return Task(
        name=name,
        summary=summary,
        model=model,
        loss=cross_entropy,
        metric=accuracy,
        data=data,
        batch_size=64,
        target=0.95,
        steps=steps,
    )


digits_cnn = _task("digits_cnn", "handwritten digits of 8 x 8 pixels, convolutions after LeNet", convolutional, 600)
digits_resnet = _task("digits_resnet", "handwritten digits of 8 x 8 pixels, residual network", residual, 300)
digits_vgg = _task("digits_vgg", "handwritten digits of 8 x 8 pixels, convolutions after VGG", very_deep, 300)

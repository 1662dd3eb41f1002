"""MNIST, Fashion-MNIST and CIFAR-10, from files in a folder of the user's.

Sources: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86, 1998 (MNIST); H. Xiao, K. Rasul, R. Vollgraf,
arXiv:1708.07747 (Fashion-MNIST); A. Krizhevsky, 2009 (CIFAR-10); K. He et al., arXiv:1512.03385 (ResNet-20).
"""

from functools import partial
from pathlib import Path

import numpy as np
from flax import nnx

from jaxopt_lectures.models.lenet import LeNet
from jaxopt_lectures.models.resnet import resnet20
from jaxopt_lectures.tasks.image_files import find, read_cifar10, read_labelled_idx
from jaxopt_lectures.tasks.measures import accuracy, cross_entropy
from jaxopt_lectures.tasks.task import Data, Examples, Task

_CLASSES = 10
_SHARE, _MOST = 10, 5000  # for validation: the last tenth of the training examples, at most 5000
_BRIGHTEST = np.float32(255)


def mnist(data_dir: Path) -> Task:
    """Handwritten digits of 28 x 28 pixels, LeNet.

    Args:
      data_dir: folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
        t10k-labels-idx1-ubyte, each perhaps with .gz behind.
    """
    return _grey("mnist", "handwritten digits of 28 x 28 pixels, LeNet", data_dir, target=0.98)


def fashion_mnist(data_dir: Path) -> Task:
    """Articles of clothing of 28 x 28 pixels, LeNet; the files are named as MNIST's."""
    return _grey("fashion_mnist", "articles of clothing of 28 x 28 pixels, LeNet", data_dir, target=0.88)


def cifar10(data_dir: Path) -> Task:
    """Small photographs of 32 x 32 pixels, ResNet-20.

    Args:
      data_dir: folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin (the binary version, not the one
        for Python), each perhaps with .gz behind.
    """
    return Task(
        name="cifar10",
        summary="photographs of 32 x 32 pixels, ResNet-20",
        model=_resnet,
        loss=cross_entropy,
        metric=accuracy,
        data=partial(_cifar10_data, data_dir),
        batch_size=128,
        target=0.85,
        steps=8000,
    )


def _grey(name: str, summary: str, data_dir: Path, target: float) -> Task:
    return Task(
        name=name,
        summary=summary,
        model=_lenet,
        loss=cross_entropy,
        metric=accuracy,
        data=partial(_idx_data, data_dir),
        batch_size=64,
        target=target,
        steps=3000,
    )


def _lenet(seed: int) -> nnx.Module:
    return LeNet((28, 28, 1), _CLASSES, rngs=nnx.Rngs(seed))


def _resnet(seed: int) -> nnx.Module:
    return resnet20(_CLASSES, rngs=nnx.Rngs(seed))


def _idx_data(folder: Path) -> Data:
    # Both spellings are about: the dot is what one archive program made of the dash.
    paths = {
        (part, kind): find(folder, [f"{part}-{kind}-idx{rank}-ubyte", f"{part}-{kind}.idx{rank}-ubyte"])
        for part in ("train", "t10k")
        for kind, rank in (("images", 3), ("labels", 1))
    }
    read = {
        part: read_labelled_idx(paths[part, "images"], paths[part, "labels"], image=(28, 28), classes=_CLASSES)
        for part in ("train", "t10k")
    }
    return _split(*read["train"], *read["t10k"])


def _cifar10_data(folder: Path) -> Data:
    paths = [find(folder, [f"{name}.bin"]) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]
    *train, test = map(read_cifar10, paths)
    x, y = (np.concatenate(part) for part in zip(*train, strict=True))
    return _split(x, y, *test)


def _split(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> Data:
    """Pixels from 0 to 1, float32; labels int32; the last of the training examples to validate."""
    last = len(x) - max(1, min(len(x) // _SHARE, _MOST))
    parts = ((x[:last], y[:last]), (x[last:], y[last:]), (x_test, y_test))
    return Data(*(Examples(images / _BRIGHTEST, labels.astype(np.int32)) for images, labels in parts))

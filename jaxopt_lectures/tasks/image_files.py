"""Readers of images on disk: the IDX files of MNIST and Fashion-MNIST, and the binary files of CIFAR-10.

Both formats are plain bytes: nothing in a file is ever executed (no pickle). Each file may be compressed (.gz).

Sources: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits" (IDX); A. Krizhevsky, "Learning
multiple layers of features from tiny images", 2009, and its page for the binary version.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxopt_lectures.tasks.task import Unfit

_UNSIGNED_BYTES = 8  # the IDX type code
_CIFAR_IMAGE = (3, 32, 32)  # planes of red, green, blue, each row by row
_CIFAR_RECORD = 1 + math.prod(_CIFAR_IMAGE)  # a label before every image


def find(folder: Path, names: Sequence[str]) -> Path:
    """The first of the files that is in the folder, as it is or with .gz behind.

    Args:
      folder: where to look.
      names: names the file goes by.

    Raises:
      FileNotFoundError: none is there; the message lists what was looked for.
    """
    wanted = [candidate for name in names for candidate in (name, f"{name}.gz")]
    for candidate in wanted:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(f"no file {', '.join(wanted[:-1])} or {wanted[-1]} in {folder}")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes: two zeros, type, number of dimensions, each as a big-endian int32, the values.

    Args:
      path: the file, compressed if its name ends with .gz.
      dimensions: how many are expected: 3 for images (count, rows, columns), 1 for labels.

    Returns:
      uint8, of the shape that the file states.

    Raises:
      Unfit: the file is no IDX file of bytes, or has other dimensions, too few bytes or too many.
    """
    content = _content(path)
    magic = bytes([0, 0, _UNSIGNED_BYTES, dimensions])
    if content[:4] != magic:
        raise Unfit(f"{path} must begin with the bytes {magic.hex(' ')}, begins with {content[:4].hex(' ')!r}")
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise Unfit(f"{path} is cut off: {len(content)} bytes, its header alone has {header}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    _check_length(path, len(content), header + math.prod(shape))
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_labelled_idx(
    images: Path, labels: Path, *, image: tuple[int, int], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """A pair of IDX files.

    Args:
      images: file of the images.
      labels: file of the labels.
      image: rows and columns that are expected.
      classes: labels are below this.

    Returns:
      (n, rows, columns, 1) uint8 and (n,) uint8.

    Raises:
      Unfit: a file is broken, the images have another shape, there are more or fewer images than labels, or a
        label is out of range.
    """
    x, y = read_idx(images, 3), read_idx(labels, 1)
    if x.shape[1:] != image:
        raise Unfit(f"{images} has images of {_by(x.shape[1:])} pixels, expected {_by(image)}")
    if len(x) != len(y):
        raise Unfit(f"{images} has {len(x)} images, {labels} has {len(y)} labels")
    if not len(x):
        raise Unfit(f"{images} has no images")
    _check_labels(labels, y, classes)
    return x[..., None], y


def read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A file of CIFAR-10's binary version: records of 3073 bytes, a label and 3 planes of 32 x 32 pixels.

    Args:
      path: the file, compressed if its name ends with .gz.

    Returns:
      (n, 32, 32, 3) uint8 and (n,) uint8.

    Raises:
      Unfit: the file is empty or not whole records, or a label is out of range.
    """
    content = _content(path)
    records, rest = divmod(len(content), _CIFAR_RECORD)
    if rest or not records:
        found = f"{len(content)} bytes are {records} records of {_CIFAR_RECORD} bytes and {rest} bytes more"
        raise Unfit(f"{path} is cut off or no CIFAR-10 binary file: {found}")
    table = np.frombuffer(content, np.uint8).reshape(records, _CIFAR_RECORD)
    _check_labels(path, table[:, 0], 10)
    return table[:, 1:].reshape(records, *_CIFAR_IMAGE).transpose(0, 2, 3, 1), table[:, 0]


def _content(path: Path) -> bytes:
    """All bytes, uncompressed."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Unfit(f"{path} is cut off or no gzip file: {error}") from error


def _check_length(path: Path, found: int, expected: int) -> None:
    if found != expected:
        what = "is cut off" if found < expected else "is too long"
        raise Unfit(f"{path} {what}: {found} bytes, its header asks for {expected}")


def _check_labels(path: Path, labels: np.ndarray, classes: int) -> None:
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        first = f"the first is {labels[wrong[0]]}, of example {wrong[0]} (counted from 0)"
        raise Unfit(f"{path} has {len(wrong)} labels out of range 0 to {classes - 1}; {first}")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

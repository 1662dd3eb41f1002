"""Files of images: what is in them is read byte by byte, what is wrong with them is named."""

import gzip
import struct

import jax
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks import image_files

IDX = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
CIFAR = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def idx(array):
    """The bytes of an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def records(labels, images):
    """The bytes of a CIFAR-10 file; images (n, 32, 32, 3)."""
    return b"".join(
        bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, images, strict=True)
    )


def write(folder, name, content, packed=False):
    path = folder / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return path


@pytest.fixture
def mnist(tmp_path):
    """A folder with 20 training and 5 test images, and what is in it."""
    rng = np.random.default_rng(0)
    truth = {}
    for part, count in (("train", 20), ("t10k", 5)):
        truth[part] = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
        for kind, array in zip(("images-idx3", "labels-idx1"), truth[part], strict=True):
            write(tmp_path, f"{part}-{kind}-ubyte", idx(array))
    return tmp_path, truth


@pytest.fixture
def cifar(tmp_path):
    """A folder with five batches of 4 images and a test batch of 3."""
    rng = np.random.default_rng(1)
    truth = []
    for name in CIFAR:
        count = 3 if name.startswith("test") else 4
        truth.append((rng.integers(0, 10, count, np.uint8), rng.integers(0, 256, (count, 32, 32, 3), np.uint8)))
        write(tmp_path, name, records(*truth[-1]))
    return tmp_path, truth


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read(mnist, name, packed):
    folder, truth = mnist
    if packed:
        for file in IDX:
            write(folder, file, (folder / file).read_bytes(), packed=True)
            (folder / file).unlink()
    task = tasks.get(name, data_dir=folder)
    data = task.data()
    x, y = truth["train"]
    # A tenth of 20 to validate; 255 is white, and a quotient of two floats is rounded to the nearest.
    for part, images, labels in (
        (data.train, x[:18], y[:18]),
        (data.validation, x[18:], y[18:]),
        (data.test, *truth["t10k"]),
    ):
        np.testing.assert_array_equal(part.x, images[..., None] / np.float32(255))
        np.testing.assert_array_equal(part.y, labels)
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int32
    assert task.name == name


def test_idx_files_with_a_dot_in_their_name_are_found(mnist):
    folder, _ = mnist
    for file in IDX:
        (folder / file).rename(folder / file.replace("-idx", ".idx"))
    assert len(tasks.get("mnist", folder).data().test.x) == 5


def test_cifar_files_are_read(cifar):
    folder, truth = cifar
    write(folder, CIFAR[0], (folder / CIFAR[0]).read_bytes(), packed=True)
    (folder / CIFAR[0]).unlink()
    data = tasks.get("cifar10", data_dir=str(folder)).data()
    labels = np.concatenate([labels for labels, _ in truth])
    images = np.concatenate([images for _, images in truth])
    for part, chosen in ((data.train, slice(18)), (data.validation, slice(18, 20)), (data.test, slice(20, None))):
        np.testing.assert_array_equal(part.x, images[chosen] / np.float32(255))
        np.testing.assert_array_equal(part.y, labels[chosen])


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_losses_have_the_right_shapes(name, tmp_path):
    task = tasks.get(name, tmp_path)
    image = (32, 32, 3) if name == "cifar10" else (28, 28, 1)

    def both(x, y):
        model = task.model(0)
        model.eval()
        return task.loss(model, x, y), task.metric(model, x, y)

    x, y = jax.ShapeDtypeStruct((7, *image), np.float32), jax.ShapeDtypeStruct((7,), np.int32)
    assert [value.shape for value in nnx.eval_shape(both, x, y)] == [(), ()]


def test_a_missing_file_is_named(mnist, cifar):
    folder = mnist[0]
    (folder / IDX[1]).unlink()
    with pytest.raises(FileNotFoundError) as raised:
        tasks.get("mnist", folder).data()
    for word in (IDX[1], f"{IDX[1]}.gz", "train-labels.idx1-ubyte", str(folder)):
        assert word in str(raised.value)
    (folder / CIFAR[5]).unlink()
    with pytest.raises(FileNotFoundError, match=r"no file test_batch.bin or test_batch.bin.gz in "):
        tasks.get("cifar10", folder).data()


def images(count=6, side=28):
    return np.zeros((count, side, side), np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IDX[0], idx(images())[:-1], r"cut off: 4719 bytes, its header asks for 4720"),
        (IDX[0], idx(images()) + b"x", r"too long: 4721 bytes, its header asks for 4720"),
        (IDX[0], idx(images())[:9], r"cut off: 9 bytes, its header alone has 16"),
        (IDX[0], b"", r"must begin with the bytes 00 00 08 03, begins with ''"),
        (IDX[0], idx(np.zeros(6, np.uint8)), r"must begin with the bytes 00 00 08 03, begins with '00 00 08 01'"),
        (IDX[1], idx(images()), r"must begin with the bytes 00 00 08 01, begins with '00 00 08 03'"),
        (IDX[0], b"\x80\x04\x95\x00", r"must begin with the bytes 00 00 08 03, begins with '80 04 95 00'"),
        (IDX[0], idx(images(side=32)), r"has images of 32 x 32 pixels, expected 28 x 28"),
        (IDX[0], idx(images(19)), r"has 19 images, .*train-labels-idx1-ubyte has 20 labels"),
        (
            IDX[1],
            idx(np.array([3, 9, 10, 255] + 16 * [0], np.uint8)),
            r"has 2 labels out of range 0 to 9; the first is 10, of example 2 \(counted from 0\)",
        ),
        (f"{IDX[0]}.gz", gzip.compress(idx(images(20)), mtime=0)[:-20], r"ubyte.gz is cut off or no gzip file"),
        (f"{IDX[0]}.gz", idx(images(20)), r"ubyte.gz is cut off or no gzip file"),
    ],
)
def test_a_broken_idx_file_is_named(mnist, name, content, message):
    folder, _ = mnist
    (folder / name.removesuffix(".gz")).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        tasks.get("mnist", folder).data()
    assert str(folder / name) in str(raised.value)


def test_an_empty_pair_is_refused(mnist):
    folder, _ = mnist
    (folder / IDX[0]).write_bytes(idx(images(0)))
    (folder / IDX[1]).write_bytes(idx(np.zeros(0, np.uint8)))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte has no images"):
        tasks.get("mnist", folder).data()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(3073 * 4 - 1), r"12291 bytes are 3 records of 3073 bytes and 3072 bytes more"),
        (b"", r"0 bytes are 0 records of 3073 bytes and 0 bytes more"),
        (bytes(3073) + b"\x0b" + bytes(3072), r"has 1 labels out of range 0 to 9; the first is 11, of example 1"),
    ],
)
def test_a_broken_cifar_file_is_named(cifar, content, message):
    folder, _ = cifar
    (folder / CIFAR[2]).write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        tasks.get("cifar10", folder).data()
    assert str(folder / CIFAR[2]) in str(raised.value)


def test_a_reader_of_any_dimensions(tmp_path):
    table = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.testing.assert_array_equal(image_files.read_idx(write(tmp_path, "table", idx(table)), 2), table)

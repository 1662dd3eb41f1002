"""The digits: scikit-learn's, all of them, in stated shares; the loss is the cross-entropy."""

import numpy as np

from jaxopt_lectures import tasks


def test_digits_are_all_there_once_in_equal_shares():
    from sklearn.datasets import load_digits

    digits = tasks.get("digits").data()
    parts = digits.train, digits.validation, digits.test
    found = np.concatenate([np.column_stack([part.x * 16, part.y]) for part in parts])
    x, y = load_digits(return_X_y=True)
    wanted = np.column_stack([x, y])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], wanted[np.lexsort(wanted.T)])
    for part, size in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert part.x.dtype == np.float32
        assert part.x.min() == 0
        assert part.x.max() == 1
        # Stratified: each digit's share is the same everywhere, up to one example.
        assert np.abs(np.bincount(part.y) - size * np.bincount(y)).max() <= 1.5


def test_digits_loss_is_the_cross_entropy():
    task, rng = tasks.get("digits"), np.random.default_rng(0)
    logits, y = rng.normal(size=(5, 10)).astype(np.float32), np.array([3, 1, 4, 1, 5], np.int32)
    p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
    # float32 sums of 10 terms of size 1: a few units of 6e-8
    np.testing.assert_allclose(task.loss(lambda x: x, logits, y), -np.log(p[range(5), y]).mean(), rtol=1e-6)
    assert task.metric(lambda x: x, logits, logits.argmax(1)) == 1


def test_the_images_are_the_digits_rows():
    flat, images = tasks.get("digits").data(), tasks.get("digits_cnn").data()
    assert images.train.x.shape == (1078, 8, 8, 1)
    np.testing.assert_array_equal(images.test.x[3, 2, :, 0], flat.test.x[3, 16:24])
    np.testing.assert_array_equal(images.validation.y, flat.validation.y)

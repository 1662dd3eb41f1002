"""Photographs: blocks are averaged, patches do not overlap between parts, decibels are decibels."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks import photographs


@pytest.fixture(scope="module")
def china():
    return photographs.read("china.jpg")


def test_a_photograph_is_colours_between_0_and_1(china):
    assert china.shape == (427, 640, 3)
    assert china.dtype == np.float32
    assert 0 <= china.min() < china.max() <= 1


def test_a_pixel_of_the_picture_is_the_mean_of_a_block(china):
    small = photographs.shrunk(china)
    assert small.shape == (64, 96, 3)
    # 71 x 106 blocks, of which 3 rows and 5 columns are left out before the first
    for row, column in ((0, 0), (63, 95), (10, 20)):
        top, left = 6 * (row + 3), 6 * (column + 5)
        wanted = china[top : top + 6, left : left + 6].astype(float).mean(axis=(0, 1))
        np.testing.assert_allclose(small[row, column], wanted, rtol=1e-6)  # 36 float32 additions


def test_places_are_square_and_centred():
    places = photographs.coordinates().reshape(64, 96, 2)
    np.testing.assert_allclose(places[0, 0], [-63 / 96, -95 / 96], rtol=1e-6)
    np.testing.assert_allclose(places[1, 1] - places[0, 0], [2 / 96, 2 / 96], rtol=1e-5)
    # summed in float64: float32 entries are rounded symmetrically
    np.testing.assert_allclose(places.mean(axis=(0, 1), dtype=float), 0, atol=1e-9)


def test_fourier_features_are_cosines_and_sines_of_fixed_frequencies():
    features = photographs.fourier_features(jnp.asarray(photographs.coordinates()[::500]))
    assert features.shape == (13, 128)
    # cos^2 + sin^2, float32
    np.testing.assert_allclose(features[:, :64] ** 2 + features[:, 64:] ** 2, 1, rtol=1e-6)
    np.testing.assert_array_equal(photographs.fourier_features(jnp.zeros((1, 2)))[0, :64], 1)


def test_patches_are_cut_from_separate_columns_and_the_noise_is_what_was_added(china):
    data = tasks.get("denoising").data()
    grey = china.mean(axis=-1)
    clean = [part.x - part.y for part in (data.train, data.validation, data.test)]
    # the noisy pixel was rounded: 6e-8 times 1.5
    np.testing.assert_allclose(clean[0][0], grey[:8, :8].ravel(), atol=2e-7)
    # 80 columns of patches: 56 to train, 12 to validate, 12 to test; 53 rows in each of two photographs
    assert [len(part) for part in clean] == [2 * 53 * 56, 2 * 53 * 12, 2 * 53 * 12]
    np.testing.assert_allclose(clean[1][0], grey[:8, 448:456].ravel(), atol=2e-7)
    np.testing.assert_allclose(clean[2][0], grey[:8, 544:552].ravel(), atol=2e-7)
    noise = np.concatenate([part.y for part in (data.train, data.validation, data.test)]).astype(float)
    # 540,000 draws: the mean's deviation is 1.4e-4, the deviation's 1e-4; five of them
    assert abs(noise.mean()) < 7e-4
    assert noise.std() == pytest.approx(photographs.NOISE, abs=5e-4)


def test_decibels_of_noise_left_as_it_is_and_of_noise_halved():
    task = tasks.get("denoising")
    x, y = task.data().validation
    left = float(task.metric(lambda x: 0 * y, x, y))
    # 10 log10 of a mean of 81,000 squares whose deviation is 0.5 %: 0.02 dB, five of them
    assert left == pytest.approx(20, abs=0.1)
    assert float(task.metric(lambda x: y / 2, x, y)) == pytest.approx(left + 20 * np.log10(2), abs=1e-4)
    assert task.target > left + 3, "a target that the noisy picture does not meet"


def test_a_picture_lies_between_0_and_1():
    task = tasks.get("photograph")
    x, _ = task.data().train
    colours = task.model(0)(x[::100])
    assert colours.shape == (62, 3)
    assert 0 < colours.min() < colours.max() < 1

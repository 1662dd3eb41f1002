"""CURVES: images of smooth curves through three random points, drawn here as the literature draws them.

Source: G. Hinton, R. Salakhutdinov, Science 313, 2006, supporting material: 28 x 28 pixels, 20,000 curves to train and
10,000 to test, each given by six numbers. The original file is not distributed with this package and its pen is not
described, so the images are alike, not the same: errors here and in the literature are of the same kind, no more.
"""

import numpy as np

PIXELS = 28
_MARGIN = 3.0  # pixels between a point and the border
_PEN = 1.0  # pixels, the standard deviation of the stroke's profile
# Places of the pen along a curve. The widest gap of a curve is 0.95 pixels in the median and 2.3 at most; between two
# places so far apart the ink falls to one half.
_STROKES = 48
_AT_ONCE = 500  # images drawn together, to bound memory


def draw(points: np.ndarray) -> np.ndarray:
    """Images of the parabolas p(t) through p(0), p(1/2), p(1).

    Args:
      points: (n, 3, 2), row and column of the three points, in pixels.

    Returns:
      (n, 784) float32, ink between 0 and 1: exp(-d^2 / (2)) at distance d from the pen's nearest place.
    """
    t = np.linspace(0, 1, _STROKES)
    # Lagrange's interpolation at 0, 1/2, 1
    basis = np.stack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)])
    images = np.empty((len(points), PIXELS, PIXELS), np.float32)
    for first in range(0, len(points), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        pen = np.einsum("kt,nkd->ndt", basis, points[part])  # (at once, 2, strokes)
        distance = np.arange(PIXELS) - pen[..., None]
        profile = np.exp(-(distance**2) / (2 * _PEN**2)).astype(np.float32)  # (at once, 2, strokes, pixels)
        ink = np.zeros((len(pen), PIXELS, PIXELS), np.float32)
        for stroke in range(_STROKES):
            row, column = profile[:, 0, stroke], profile[:, 1, stroke]
            np.maximum(ink, row[:, :, None] * column[:, None, :], out=ink)
        images[part] = ink
    return images.reshape(-1, PIXELS * PIXELS)


def images(count: int, seed: int) -> np.ndarray:
    """`count` curves whose points lie anywhere in the image but for a margin of 3 pixels; (count, 784) float32."""
    rng = np.random.default_rng(seed)
    return draw(rng.uniform(_MARGIN, PIXELS - 1 - _MARGIN, (count, 3, 2)))

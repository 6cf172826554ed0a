"""Draws digits: a 5 x 7 font, enlarged, moved about, thickened and sprinkled with noise.

Shapes: N images of 28 x 28.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 28
_GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
_FONT = np.array([[[int(dot) for dot in row] for row in glyph.split()] for glyph in _GLYPHS])


def draw_digits(
    count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw random digits.

    Returns:
        Images in 0..1, shape (N, 28, 28), and their classes, shape (N,).
    """
    labels = rng.integers(0, 10, count)
    images = rng.normal(0.1, 0.1, (count, SIDE, SIDE))
    for image, label in zip(images, labels, strict=True):
        scale = int(rng.integers(2, 4))
        glyph = np.kron(_FONT[label], np.ones((scale, scale))) * rng.uniform(0.6, 1.0)
        rows, columns = glyph.shape
        top, left = rng.integers(0, SIDE - rows + 1), rng.integers(0, SIDE - columns + 1)
        image[top : top + rows, left : left + columns] += glyph
    return np.clip(images, 0.0, 1.0).astype(np.float32), labels

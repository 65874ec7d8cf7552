"""Colored Shapes, the toy set of SemGAN ("Adversarial pixel-level generation of semantic images", 5.0.1), drawn from a seed.

2916 label maps of 64x64 pixels: a red square of 10x10 pixels at each of 54x54 places, a blue circle of radius 10 and a green
rectangle at random places; they may overlap, and the circle may cover the square whole. The paper says neither how large the
rectangle is, nor what lies on top, nor the background's colour. Here: 20x10 pixels, upright or lying; rectangle below square
below circle, so that the circle can hide the square; black. Every shape lies wholly inside the picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from roadworthy.runtime.taxonomy import IGNORE, Taxonomy

SIDE = 64  # [pixels], of a picture
SQUARE = 10  # [pixels], side
PLACES = SIDE - SQUARE  # along each side; the paper counts 54
RADIUS = 10  # [pixels], of the circle
RECTANGLE = (10, 20)  # [pixels], its sides

COLORED_SHAPES = Taxonomy(
    name="colored-shapes",
    classes=("background", "circle", "rectangle", "square"),
    palette=((0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0)),
    groups={1: ("background", "circle", "rectangle", "square")},
    folding={**{index: index for index in range(4)}, IGNORE: IGNORE},
)


def draw_colored_shapes(seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draw the whole set: train ids `uint8 [2916, 64, 64]`, in the order of the square's places, row by row."""
    background, circle, rectangle, square = range(4)
    rng = np.random.default_rng([seed, 2916])
    labels = np.full((PLACES * PLACES, SIDE, SIDE), background, np.uint8)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    for index, picture in enumerate(labels):
        height, width = RECTANGLE if rng.random() < 0.5 else RECTANGLE[::-1]
        top, left = rng.integers(0, (SIDE - height + 1, SIDE - width + 1))
        picture[top : top + height, left : left + width] = rectangle
        top, left = divmod(index, PLACES)
        picture[top : top + SQUARE, left : left + SQUARE] = square
        centre_y, centre_x = rng.integers(RADIUS, SIDE - RADIUS, 2)
        picture[(rows - centre_y) ** 2 + (columns - centre_x) ** 2 <= RADIUS**2] = circle
    return labels

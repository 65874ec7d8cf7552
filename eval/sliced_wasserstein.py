"""Sliced Wasserstein distance between two sets of pictures, by scale (Karras et al., arXiv 1710.10196, section 5 and appendix).

Each picture becomes a Laplacian pyramid down to 16 pixels; from each level random 7x7 patches are taken, normalised per colour
to mean 0 and deviation 1 over the set. The distance between the two clouds of patches is the mean, over random directions, of
the 1-D Wasserstein distance of their projections (sorted, then compared one by one). Small at a level: alike at that scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from roadworthy.runtime.errors import BadInput

Floats = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]  # [M, H, W, 3] RGB

PATCH = 7  # [pixels], side
PATCHES = 128  # per picture and level
REPEATS, DIRECTIONS = 4, 128  # 512 directions in all
SMALLEST_LEVEL = 16  # [pixels], the shorter side of the last level
SCALE = 1e3  # distances are reported times this
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def laplacian_pyramid(pictures: npt.NDArray[np.integer | np.floating], levels: int) -> list[Floats]:
    """Return the pyramid of pictures `[M, H, W, 3]`: what each level adds to the next, and the last level as it is.

    Level i is `float32 [M, H / 2^i, W / 2^i, 3]` (sides rounded up); added up from the smallest they give the pictures back.
    """
    pyramid = [pictures.astype(np.float32)]
    for _ in range(levels - 1):
        smaller = _blur(pyramid[-1])[:, ::2, ::2]  # [M, H, W, 3] -> [M, H/2, W/2, 3]
        pyramid[-1] = pyramid[-1] - enlarge(smaller, pyramid[-1].shape[1:3])
        pyramid.append(smaller)
    return pyramid


def enlarge(smaller: Floats, size: tuple[int, ...]) -> Floats:
    """Return pictures `[M, h, w, 3]` at twice the sides, `size` = (H, W): zeros put between, then blurred."""
    larger = np.zeros((len(smaller), *size, smaller.shape[3]), np.float32)
    larger[:, ::2, ::2] = smaller
    return 4 * _blur(larger)


def level_sizes(height: int, width: int) -> list[int]:
    """Return the shorter side of every level of the pyramid [pixels]. Raises `BadInput` for pictures that have none."""
    side, sizes = min(height, width), list[int]()
    while side >= SMALLEST_LEVEL:
        sizes.append(side)
        side = -(-side // 2)
    if not sizes:
        raise BadInput(f"pictures are {width}x{height} pixels, expected sides of at least {SMALLEST_LEVEL}")
    return sizes


def patches(level: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return `count` random patches of each picture `[M, H, W, 3]`, normalised per colour: `float32 [M * count, 147]`."""
    pictures, height, width, channels = level.shape
    every = np.lib.stride_tricks.sliding_window_view(level, (PATCH, PATCH), axis=(1, 2))  # [M, H-6, W-6, 3, 7, 7]
    which = np.repeat(np.arange(pictures), count)
    rows = rng.integers(0, height - PATCH + 1, pictures * count)
    columns = rng.integers(0, width - PATCH + 1, pictures * count)
    chosen = every[which, rows, columns]  # [M * count, 3, 7, 7]
    chosen -= chosen.mean((0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    deviation = chosen.std((0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    chosen /= np.where(deviation > 0, deviation, 1)  # a level without any contrast stays zero
    flat: Floats = chosen.reshape(len(chosen), channels * PATCH * PATCH)
    return flat


def sliced_distance(left: Floats, right: Floats, directions: Floats) -> float:
    """Return the mean 1-D Wasserstein distance of two equally large clouds `[P, D]` along unit `directions` `[K, D]`."""
    if left.shape != right.shape:
        raise BadInput(f"clouds of {left.shape} and {right.shape} values, expected as many points in both")
    along = [np.ascontiguousarray(directions @ cloud.T) for cloud in (left, right)]  # [K, D] x [D, P] -> [K, P]
    for projected in along:
        projected.sort(axis=1)
    return float(np.abs(along[0] - along[1]).mean(dtype=np.float64))


def sliced_wasserstein(
    real: Pictures,
    fake: Pictures,
    *,
    seed: int = 0,
    patches_per_picture: int = PATCHES,
    progress: Callable[[str, float], None] | None = None,
) -> dict[int, float]:
    """Return the distance times 1000 at every level, keyed by its shorter side [pixels], the largest first.

    Raises `BadInput` unless both sets hold as many pictures of one size.
    """
    if real.shape != fake.shape:
        raise BadInput(f"pictures of shapes {real.shape} and {fake.shape}, expected as many of the same size in both sets")
    sizes = level_sizes(*real.shape[1:3])
    pyramids = [laplacian_pyramid(pictures, len(sizes)) for pictures in (real, fake)]
    distances = {}
    for number, size in enumerate(sizes):
        rng = np.random.default_rng([seed, number])
        clouds = [patches(pyramid[number], patches_per_picture, rng) for pyramid in pyramids]
        found = []
        for repeat in range(REPEATS):
            if progress is not None:
                progress(f"sliced Wasserstein distance at {size} pixels", (number + repeat / REPEATS) / len(sizes))
            directions = rng.standard_normal((DIRECTIONS, clouds[0].shape[1]), np.float32)
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            found.append(sliced_distance(clouds[0], clouds[1], directions))
        distances[size] = SCALE * float(np.mean(found))
    return distances


def _blur(pictures: Floats) -> Floats:
    blurred: Floats = correlate1d(correlate1d(pictures, BINOMIAL, axis=1, mode="mirror"), BINOMIAL, axis=2, mode="mirror")
    return blurred

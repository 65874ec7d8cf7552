"""Procedural textures: noise, slabs, grass, leaves, bark, facades with windows, signs. Seeded, tileable, uint8 RGBA.

Alpha is not transparency: it marks glass, which reflects the sky by day and is lit from inside by night.
"""

from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIZE = 128  # [px] of the finest level
FACADES = 12
SPEED_LIMITS = (20, 30, 40, 50, 60, 90)  # km/h with a sign of their own; others are drawn as the nearest
Floats = NDArray[np.float64]


class Layer(IntEnum):
    """Texture layers; facade k is `FACADE + k`."""

    PLAIN = 0
    ASPHALT = 1
    ASPHALT_OLD = 2
    SLABS = 3
    CONCRETE = 4
    GRASS = 5
    MEADOW = 6
    LEAVES = 7
    NEEDLES = 8
    BARK = 9
    PAINT = 10
    PLANKS = 11
    MASONRY = 12
    TILES = 13
    GRAVEL = 14
    METAL = 15
    STOP = 16
    SPEED = 17  # one layer for each of SPEED_LIMITS
    FACADE = 17 + len(SPEED_LIMITS)


LAYERS = Layer.FACADE + FACADES
# Floors that one repeat of a facade shows; its repeat is that many storeys in metres.
FACADE_FLOORS = (2, 3, 4, 2, 3, 4, 2, 3, 3, 2, 4, 3)
STOREY = 3.2  # [m]


def facade_repeat(facade: int) -> float:
    """Texture repeats per metre of facade number `facade`."""
    return 1.0 / (STOREY * FACADE_FLOORS[facade])


@cache
def make_textures(seed: int = 0) -> NDArray[np.uint8]:
    """All layers, uint8 [LAYERS, SIZE, SIZE, 4]; row 0 is the top of the picture. The same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    out = np.zeros((LAYERS, SIZE, SIZE, 4))

    def grey(level: float, spread: float, octaves: int, roughness: float) -> Floats:
        return level + spread * noise(rng, octaves, roughness)

    def fill(layer: int, value: Floats, colour: tuple[float, float, float] = (1, 1, 1)) -> None:
        out[layer, ..., :3] = value[..., None] * np.array(colour)

    fill(Layer.PLAIN, grey(0.95, 0.02, 6, 1.0))
    fill(Layer.ASPHALT, grey(0.34, 0.035, 6, 0.95) + 0.025 * noise(rng, 3, 0.5), (1.0, 1.0, 1.03))
    old = grey(0.46, 0.05, 6, 0.95) + 0.05 * noise(rng, 2, 0.5)
    old[np.abs(noise(rng, 4, 0.6)) < 0.03] *= 0.62  # cracks follow the zero line of a smooth noise
    fill(Layer.ASPHALT_OLD, old, (1.0, 0.98, 0.95))
    slabs = grey(0.58, 0.03, 6, 0.8)
    for row in range(4):
        slabs[row * 32 : row * 32 + 32] *= 1 + 0.05 * rng.standard_normal()
        slabs[row * 32] *= 0.7
        slabs[row * 32 : row * 32 + 32, (row % 2) * 16 :: 32] *= 0.75
    fill(Layer.SLABS, slabs, (1.0, 0.97, 0.92))
    fill(Layer.CONCRETE, grey(0.56, 0.04, 6, 0.8) + 0.03 * noise(rng, 2, 0.5), (0.99, 1.0, 0.98))
    grass = grey(0.85, 0.22, 6, 0.9) + 0.12 * noise(rng, 2, 0.5)
    fill(Layer.GRASS, grass, (0.30, 0.40, 0.17))
    meadow = grey(0.85, 0.2, 6, 0.9)
    fill(Layer.MEADOW, meadow, (0.46, 0.44, 0.24))
    out[Layer.MEADOW, ..., :3] += 0.25 * (noise(rng, 3, 0.6) > 0.6)[..., None] * np.array((-0.3, 0.1, -0.2))
    fill(Layer.LEAVES, np.clip(grey(0.75, 0.33, 6, 1.0), 0.15, 1.5), (0.27, 0.42, 0.16))
    fill(Layer.NEEDLES, np.clip(grey(0.7, 0.28, 6, 1.0), 0.15, 1.5), (0.17, 0.29, 0.17))
    bark = grey(0.85, 0.12, 6, 0.9) + 0.15 * np.sin(np.arange(SIZE) * 2 * np.pi / 16)[None]
    fill(Layer.BARK, bark, (0.38, 0.29, 0.22))
    worn = grey(0.9, 0.05, 6, 0.9) - 0.35 * (noise(rng, 5, 0.9) > 1.5)
    fill(Layer.PAINT, worn)
    planks = grey(0.85, 0.08, 6, 0.9)
    planks[:, ::16] *= 0.45
    planks[:, 1::16] *= 0.8
    planks *= 1 + 0.12 * np.repeat(rng.standard_normal(8), 16)[None]
    fill(Layer.PLANKS, planks, (0.62, 0.5, 0.36))
    masonry = grey(0.8, 0.07, 6, 0.9)
    _courses(masonry, rng, 12, 22, 0.6)
    fill(Layer.MASONRY, masonry, (0.66, 0.6, 0.53))
    tiles = grey(0.8, 0.06, 6, 0.9)
    tiles[::8] *= 0.6
    for row in range(0, SIZE, 16):
        tiles[row : row + 8, ::8] *= 0.75
        tiles[row + 8 : row + 16, 4::8] *= 0.75
    fill(Layer.TILES, tiles)
    fill(Layer.GRAVEL, grey(0.55, 0.1, 7, 1.0), (1.0, 0.94, 0.84))
    fill(Layer.METAL, grey(0.8, 0.03, 6, 0.9) + 0.04 * np.sin(np.arange(SIZE) * np.pi / 4)[:, None])
    red, white, black = (0.74, 0.09, 0.09), (0.92, 0.92, 0.92), (0.05, 0.05, 0.05)
    out[Layer.STOP, ..., :3] = _sign(rng, "STOP", red, white, 40, rim=white, rim_width=0.05)
    for k, limit in enumerate(SPEED_LIMITS):
        out[Layer.SPEED + k, ..., :3] = _sign(rng, str(limit), white, black, 56, rim=red, rim_width=0.11)
    for k in range(FACADES):
        out[Layer.FACADE + k] = _facade(rng, k)
    quantised: NDArray[np.uint8] = (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)
    quantised.setflags(write=False)
    return quantised


def noise(rng: np.random.Generator, octaves: int, roughness: float, size: int = SIZE) -> Floats:
    """Tileable value noise [size, size], mean 0 and deviation 1; `roughness` is the weight ratio of each finer octave."""
    total = np.zeros((size, size))
    weight = 1.0
    for octave in range(octaves):
        cells = min(4 << octave, size)
        values = rng.standard_normal((cells, cells))
        at = np.arange(size) * cells / size
        low = at.astype(int) % cells
        high = (low + 1) % cells
        f = at - at.astype(int)
        f = f * f * (3 - 2 * f)
        across = values[:, low] * (1 - f) + values[:, high] * f
        total += weight * (across[low] * (1 - f)[:, None] + across[high] * f[:, None])
        weight *= roughness
    total -= total.mean()
    result: Floats = total / total.std()
    return result


def _courses(value: Floats, rng: np.random.Generator, height: int, width: int, joint: float) -> None:
    """Draw stones or bricks with darker joints, every second course shifted."""
    for course, row in enumerate(range(0, SIZE, height)):
        offset = (course % 2) * width // 2
        for column in range(-offset, SIZE, width):
            shade = 1 + 0.1 * rng.standard_normal()
            value[row : row + height, max(column, 0) : max(column + width, 0)] *= shade
            if column >= 0:
                value[row : row + height, column : column + 1] *= joint
        value[row : row + 1] *= joint


def _facade(rng: np.random.Generator, k: int) -> Floats:
    """One facade [SIZE, SIZE, 4]: a wall of its own colour and kind, windows in rows, some with curtains."""
    walls = (
        (0.60, 0.36, 0.29), (0.74, 0.69, 0.60), (0.55, 0.56, 0.58), (0.80, 0.78, 0.73), (0.46, 0.39, 0.34), (0.69, 0.55, 0.43),
        (0.40, 0.45, 0.50), (0.64, 0.63, 0.50), (0.50, 0.32, 0.29), (0.73, 0.73, 0.76), (0.36, 0.36, 0.38), (0.58, 0.64, 0.58),
    )  # fmt: skip
    wall = np.array(walls[k])
    shade = 1 + 0.05 * noise(rng, 6, 0.85) + 0.05 * noise(rng, 2, 0.5)
    if k % 3 == 0:
        _courses(shade, rng, 4, 8, 0.84)
    elif k % 4 == 1:
        shade[:: SIZE // 8] *= 0.85
    picture = np.zeros((SIZE, SIZE, 4))
    picture[..., :3] = shade[..., None] * wall
    floors = FACADE_FLOORS[k]
    cell = SIZE // floors
    wide = (0.5, 0.62, 0.42, 0.5, 0.8, 0.55, 0.7, 0.45, 0.4, 0.6, 0.86, 0.5)[k]
    tall = (0.5, 0.45, 0.6, 0.55, 0.5, 0.62, 0.45, 0.5, 0.6, 0.5, 0.62, 0.55)[k]
    frame = np.clip(wall * (1.25 if k % 2 else 0.7), 0, 1)
    for row in range(floors):
        for column in range(floors):
            top, left = int((row + 0.52 - tall / 2) * cell), int((column + 0.5 - wide / 2) * cell)
            bottom, right = int((row + 0.52 + tall / 2) * cell), int((column + 0.5 + wide / 2) * cell)
            glass = np.linspace(1.2, 0.7, bottom - top)[:, None, None] * np.array((0.20, 0.24, 0.29)) * rng.uniform(0.6, 1.6)
            if rng.random() < 0.25:
                glass = glass * 0 + np.array((0.7, 0.66, 0.58)) * rng.uniform(0.6, 1.0)
            picture[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2, :3] = frame
            picture[top:bottom, left:right, :3] = glass
            picture[top:bottom, left:right, 3] = 1.0
            if k not in (4, 10):
                picture[(top + bottom) // 2, left:right, :3] = frame
                picture[top:bottom, (left + right) // 2, :3] = frame
            picture[bottom + 2 : bottom + 4, max(left - 2, 0) : right + 2, :3] = wall * 0.55  # sill and its shade
    return picture


def _sign(
    rng: np.random.Generator, text: str, field: tuple[float, ...], ink: tuple[float, ...], size: int, *,
    rim: tuple[float, ...], rim_width: float,
) -> Floats:  # fmt: skip
    """A sign's face [SIZE, SIZE, 3]: a rim round the middle and a word on it, slightly dirty."""
    image = Image.new("L", (SIZE, SIZE), 0)
    ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), text, fill=255, font=ImageFont.load_default(size), anchor="mm")
    word = np.asarray(image)[..., None] / 255.0
    face = np.array(field) * (1 - word) + np.array(ink) * word
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1
    on_rim = (np.hypot(x, y) > 1 - 2 * rim_width)[..., None]
    face = np.where(on_rim, np.array(rim), face)
    result: Floats = face * (1 + 0.05 * noise(rng, 4, 0.7))[..., None]
    return result

"""The rasteriser's second half, compiled by numba: the colour of every pixel from the visibility buffer.

Strip by strip: what is seen (`visible.py`), its texture, sun and shadow, lamps, reflections, and at last haze, exposure and
sensor noise. Every pixel is shaded once.
"""

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.compiling import Ints, Singles, inner_kernel, kernel
from roadworthy.agent.town.lamplight import light_beams, light_street
from roadworthy.agent.town.light_vector import (
    AMBIENT_R,
    EXPOSURE_R,
    FOG_DENSITY,
    FOG_R,
    FOG_START,
    NIGHT,
    NOISE,
    PUDDLES,
    SUN_G,
    SUN_R,
    SUN_X,
    SUN_Y,
    SUN_Z,
    WET,
)
from roadworthy.agent.town.reflections import wet_ground, window_panes
from roadworthy.agent.town.skylight import mirror_sky
from roadworthy.agent.town.strip import (
    BEAM,
    DARKNESS,
    DENSITY,
    DIRECT,
    EMISSION,
    FACTS_SIZE,
    FIRST_TEXEL,
    INSTANCE,
    LAMPS,
    LAYER,
    LEVEL_GROUND,
    MIRROR_R,
    NEARNESS,
    NORMAL_X,
    NORMAL_Y,
    NORMAL_Z,
    PAINT_B,
    PAINT_G,
    PAINT_R,
    RAY_X,
    RAY_Y,
    RAY_Z,
    REFLECTION,
    SCRATCH_A,
    SCRATCH_B,
    SKY,
    STRIP,
    STRIP_SIZE,
    TAG,
    TEXEL_R,
    TEXTURE_U,
    TEXTURE_V,
    WINDOW,
    W,
    X,
    Y,
    Z,
)
from roadworthy.agent.town.sunlight import light_sun
from roadworthy.agent.town.texturing import find_texels, mix_texels
from roadworthy.agent.town.visible import (
    FACT_CURVED,
    FACT_INSTANCE,
    FACT_LAYER,
    FACT_TAG,
    RECORD_DENSITY,
    RECORD_EMISSION,
    RECORD_FIRST_TEXEL,
    RECORD_LEVEL_GROUND,
    RECORD_NEARNESS,
    RECORD_NORMAL,
    RECORD_PAINT,
    RECORD_SKY,
    RECORD_U,
    RECORD_V,
)

F = np.float32
NOISE_TABLE = 1 << 16
SKY_DEPTH = F(1000.0)  # [m] CARLA's far plane
HAS_SKY, HAS_FACADE, HAS_LEVEL_GROUND = 1, 2, 4  # what a strip shows


def strip_arrays() -> tuple[Singles, Ints, NDArray[np.uint64], Singles]:
    """Room for a strip: quantities, whole numbers, mixed texels, colours. Made here, as numba would compile it for seconds."""
    return (
        np.zeros(STRIP_SIZE, np.float32), np.zeros(FACTS_SIZE, np.int32), np.zeros(STRIP, np.uint64),
        np.zeros(3 * STRIP, np.float32),
    )  # fmt: skip


@kernel
def shade(
    s: Singles, q: Ints, mixed: NDArray[np.uint64], colour: Singles, numbers: Ints, depth: Singles, sky_number: int,
    records: Singles, facts: Ints, window_cells: Ints, first_facade: int, eye: Singles, axes: Singles, half_x: float,
    half_y: float, light: Singles, texels: NDArray[np.uint64], shadow: NDArray[np.int16], drift_x: float, drift_y: float,
    origin_x: float, origin_y: float, cell: float, lamp_map: Singles, lamp_cell: float, headlamps: Singles, clouds: Singles,
    noise: Singles, noise_offset: int, bgra: NDArray[np.uint32], tags: NDArray[np.uint8], instances: Ints, metres: Singles,
) -> None:  # fmt: skip
    """Colour, tag, instance and depth of every pixel.

    `s`, `q`, `mixed`, `colour`: what `strip_arrays` makes; `numbers` int32 [H, W]: rows of `records` and `facts`, -1 for sky,
    which has the row `sky_number`; `depth` [H, W]: 1 / distance along the axis; `bgra` uint32 [H, W].
    """
    height, width = numbers.shape
    for i in range(STRIP_SIZE):
        s[i] = F(0.0)
    night = light[NIGHT]
    sunlit = light[SUN_R] + light[SUN_G] > F(0.01)
    step = F(2.0) * half_x / F(width)
    for iy in range(height):
        ny = (F(1.0) - (F(iy) + F(0.5)) * F(2.0) / F(height)) * half_y
        for first in range(0, width, STRIP):
            n = min(STRIP, width - first)
            nx = (F(first) + F(0.5)) * step - half_x
            here = slice(first, first + n)
            shows = lay_out(
                s, q, n, numbers[iy, here], depth[iy, here], sky_number, records, facts, first_facade, nx, step, ny
            )  # fmt: skip
            for i in range(n):
                tags[iy, first + i] = q[TAG + i]
                instances[iy, first + i] = q[INSTANCE + i]
                metres[iy, first + i] = s[W + i] if s[SKY + i] <= F(0.0) else SKY_DEPTH
            trace_rays(s, n, nx, step, ny, axes, eye)
            find_texels(s, n)
            mix_texels(s, n, texels, mixed)
            if sunlit:
                light_sun(
                    s, n, light[SUN_X], light[SUN_Y], light[SUN_Z], shadow, drift_x, drift_y, origin_x, origin_y, cell
                )  # fmt: skip
            if night > F(0.0):
                light_street(s, n, night, lamp_map, origin_x, origin_y, lamp_cell)
            if headlamps.shape[0] > 0:
                light_beams(s, n, headlamps)
            wet = light[WET] > F(0.0) and shows & HAS_LEVEL_GROUND != 0
            if wet or shows & HAS_SKY:
                mirror_sky(s, n, wet, light, clouds)
            if wet:
                wet_ground(s, n, light[WET], light[PUDDLES], clouds)
            if shows & HAS_FACADE:
                window_panes(s, q, n, first_facade, window_cells, night, light, clouds)
            row_start = (iy * 7919 + first) * 3 + noise_offset
            develop(s, n, light, noise, row_start & (NOISE_TABLE - 1), colour)
            write(colour, n, bgra[iy, here])


@inner_kernel
def lay_out(
    s: Singles, q: Ints, n: int, numbers: Ints, depth: Singles, sky_number: int, records: Singles, facts: Ints,
    first_facade: int, nx: float, step: float, ny: float,
) -> int:  # fmt: skip
    """Spread over a strip what the triangles under it fix, run by run; returns what the strip shows."""
    for i in range(n):
        s[W + i] = F(1.0) / depth[i] if depth[i] > F(0.0) else F(0.0)
    shows = 0
    start = 0
    while start < n:
        number = numbers[start]
        end = start + 1
        while end < n and numbers[end] == number:
            end += 1
        if number < 0:
            number = sky_number
        layer = facts[number, FACT_LAYER]
        tag = facts[number, FACT_TAG]
        instance = facts[number, FACT_INSTANCE]
        curved = facts[number, FACT_CURVED]
        shows |= HAS_SKY if number == sky_number else 0
        shows |= HAS_FACADE if layer >= first_facade else 0
        shows |= HAS_LEVEL_GROUND if records[number, RECORD_LEVEL_GROUND] > F(0.0) else 0
        u0, v0 = records[number, RECORD_U], records[number, RECORD_V]
        u1 = records[number, RECORD_U + 1] + records[number, RECORD_U + 2] * ny
        v1 = records[number, RECORD_V + 1] + records[number, RECORD_V + 2] * ny
        u2, v2 = records[number, RECORD_U + 3], records[number, RECORD_V + 3]
        normal_x, normal_y = records[number, RECORD_NORMAL], records[number, RECORD_NORMAL + 4]
        normal_z = records[number, RECORD_NORMAL + 8]
        red, green, blue = records[number, RECORD_PAINT], records[number, RECORD_PAINT + 4], records[number, RECORD_PAINT + 8]
        density, nearness = records[number, RECORD_DENSITY], records[number, RECORD_NEARNESS]
        first_texel, ground = records[number, RECORD_FIRST_TEXEL], records[number, RECORD_LEVEL_GROUND]
        is_sky, emission = records[number, RECORD_SKY], records[number, RECORD_EMISSION]
        for i in range(start, end):
            x = nx + F(i) * step
            w = s[W + i]
            s[TEXTURE_U + i] = u0 + w * (u1 + u2 * x)
            s[TEXTURE_V + i] = v0 + w * (v1 + v2 * x)
            s[NORMAL_X + i] = normal_x
            s[NORMAL_Y + i] = normal_y
            s[NORMAL_Z + i] = normal_z
            s[PAINT_R + i] = red
            s[PAINT_G + i] = green
            s[PAINT_B + i] = blue
            s[DENSITY + i] = density
            s[NEARNESS + i] = nearness
            s[FIRST_TEXEL + i] = first_texel
            s[LEVEL_GROUND + i] = ground
            s[SKY + i] = is_sky
            s[EMISSION + i] = emission
            q[LAYER + i] = layer
            q[TAG + i] = tag
            q[INSTANCE + i] = instance
        if curved:
            for e in range(6):  # normal and paint
                column = RECORD_NORMAL + 4 * e
                slope = records[number, column + 1] + records[number, column + 2] * ny
                across = records[number, column + 3]
                into = NORMAL_X + e * STRIP
                for i in range(start, end):
                    s[into + i] += s[W + i] * (slope + across * (nx + F(i) * step))
        start = end
    for i in range(n):
        burns = s[EMISSION + i] >= F(0.0)
        s[DARKNESS + i] = F(0.3) if burns else F(1.0)
        s[EMISSION + i] = max(s[EMISSION + i], F(0.0))
        s[REFLECTION + i] = s[SKY + i]
        s[WINDOW + i] = F(0.0)
        s[BEAM + i] = F(0.0)
    return shows


@inner_kernel
def trace_rays(s: Singles, n: int, nx: float, step: float, ny: float, axes: Singles, eye: Singles) -> None:
    """The ray through each pixel and the place where it ends."""
    row_x = axes[2, 0] + axes[1, 0] * ny
    row_y = axes[2, 1] + axes[1, 1] * ny
    row_z = axes[2, 2] + axes[1, 2] * ny
    right_x, right_y, right_z = axes[0, 0], axes[0, 1], axes[0, 2]
    eye_x, eye_y, eye_z = eye[0], eye[1], eye[2]
    for i in range(n):
        x = nx + F(i) * step
        s[RAY_X + i] = row_x + right_x * x
        s[RAY_Y + i] = row_y + right_y * x
        s[RAY_Z + i] = row_z + right_z * x
        s[X + i] = eye_x + s[RAY_X + i] * s[W + i]
        s[Y + i] = eye_y + s[RAY_Y + i] * s[W + i]
        s[Z + i] = eye_z + s[RAY_Z + i] * s[W + i]


@inner_kernel
def develop(s: Singles, n: int, light: Singles, noise: Singles, noise_start: int, colour: Singles) -> None:
    """Bring light, texture, reflection and haze together, then expose with sensor noise: `colour` [3 * STRIP], 0 to 255."""
    fog_start, fog_density, grainy = light[FOG_START], light[FOG_DENSITY], light[NOISE]
    for i in range(n):
        # 1 - exp(-x), with the exponential's series to the sixth power: no step of it leaves the vector unit.
        x = max((s[W + i] - fog_start) * fog_density, F(0.0))
        series = F(1.0) + x * (
            F(1.0) + x * (F(0.5) + x * (F(1 / 6) + x * (F(1 / 24) + x * (F(1 / 120) + x * F(1 / 720)))))
        )  # fmt: skip
        s[SCRATCH_A + i] = F(1.0) - F(1.0) / series
        s[SCRATCH_B + i] = F(0.72) + F(0.28) * s[NORMAL_Z + i]  # what faces down sees less of the sky
    for e in range(3):
        ambient, sun, fog, exposure = light[AMBIENT_R + e], light[SUN_R + e], light[FOG_R + e] * F(255.0), light[EXPOSURE_R + e]
        warm = F(1.0) - F(0.22) * F(e)
        indoors = F(1.0) - F(0.25) * F(e)
        plane = e * STRIP
        grain = noise_start + e * STRIP
        for i in range(n):
            lit = ambient * s[SCRATCH_B + i] + sun * s[DIRECT + i] + warm * s[LAMPS + i] + s[BEAM + i]
            shown = s[PAINT_R + plane + i] * (s[TEXEL_R + plane + i] * lit * s[DARKNESS + i] + s[EMISSION + i])
            shown += (s[MIRROR_R + plane + i] * F(255.0) - shown) * s[REFLECTION + i] + s[WINDOW + i] * indoors
            shown += (fog - shown) * s[SCRATCH_A + i]
            colour[plane + i] = min(max(shown * exposure + grainy * noise[grain + i], F(0.0)), F(255.0))


@inner_kernel
def write(colour: Singles, n: int, bgra: NDArray[np.uint32]) -> None:
    """The strip's pixels as CARLA sends them: blue, green, red, 255."""
    for i in range(n):
        red = np.uint32(colour[i])
        green = np.uint32(colour[STRIP + i])
        blue = np.uint32(colour[2 * STRIP + i])
        bgra[i] = blue | (green << np.uint32(8)) | (red << np.uint32(16)) | np.uint32(0xFF000000)


@kernel
def draw_rain(bgra: NDArray[np.uint8], amount: int, brightness: float, slant: float, seed: int) -> None:
    """Streaks over the picture uint8 [H, W, 4]: `amount` of them, `slant` columns per row."""
    height, width = bgra.shape[0], bgra.shape[1]
    state = np.uint64(seed) * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    for _ in range(amount):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        x = int((state >> np.uint64(33)) % np.uint64(width))
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        y = int((state >> np.uint64(33)) % np.uint64(height))
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        length = 2 + int((state >> np.uint64(40)) % np.uint64(max(2, height // 12)))
        for k in range(length):
            column = x + int(slant * F(k))
            row = y + k
            if row >= height or column < 0 or column >= width:
                break
            for e in range(3):
                bgra[row, column, e] = np.uint8(F(bgra[row, column, e]) * F(0.72) + brightness * F(0.28))

"""The sky in any direction, compiled by numba: for the pixels that see it and for what mirrors it."""

import math

import numpy as np

from roadworthy.agent.town.compiling import Singles, inner_kernel
from roadworthy.agent.town.light_vector import (
    AMBIENT_R,
    CLOUD_SIZE,
    CLOUD_X,
    CLOUD_Y,
    CLOUDS,
    FOG_R,
    GLOW,
    SUN_R,
    SUN_X,
    SUN_Y,
    SUN_Z,
    ZENITH_R,
)
from roadworthy.agent.town.strip import (
    MIRROR_B,
    MIRROR_G,
    MIRROR_R,
    PLACE_U,
    PLACE_V,
    RAY_X,
    RAY_Y,
    RAY_Z,
    SCRATCH_A,
    SCRATCH_B,
    SCRATCH_C,
    SKY,
)

F = np.float32


@inner_kernel
def clouds_at(table: Singles, u: np.float32, v: np.float32) -> np.float32:
    """Bilinear look-up in a tileable square table, one cell per unit."""
    fu = np.floor(u)
    fv = np.floor(v)
    gu = u - fu
    gv = v - fv
    i0 = int(fu) & (CLOUD_SIZE - 1)
    j0 = int(fv) & (CLOUD_SIZE - 1)
    i1 = (i0 + 1) & (CLOUD_SIZE - 1)
    j1 = (j0 + 1) & (CLOUD_SIZE - 1)
    low = table[j0, i0] * (F(1.0) - gu) + table[j0, i1] * gu
    high = table[j1, i0] * (F(1.0) - gu) + table[j1, i1] * gu
    value: np.float32 = low * (F(1.0) - gv) + high * gv
    return value


@inner_kernel
def mirror_sky(s: Singles, n: int, everywhere: bool, light: Singles, clouds: Singles) -> None:
    """Colour of the sky along the rays of a strip, for pixels that show no sky as a level mirror turns them upwards.

    Unless `everywhere`, only pixels that show sky get the right colour.
    """
    for i in range(n):
        rz = s[RAY_Z + i] if s[SKY + i] > F(0.0) else abs(s[RAY_Z + i])
        length = F(1.0) / math.sqrt(s[RAY_X + i] * s[RAY_X + i] + s[RAY_Y + i] * s[RAY_Y + i] + rz * rz)
        up = max(rz * length, F(0.0))
        toward = (s[RAY_X + i] * light[SUN_X] + s[RAY_Y + i] * light[SUN_Y] + rz * light[SUN_Z]) * length
        reach = F(28.0) / (up + F(0.08)) * length
        s[SCRATCH_A + i] = up
        s[SCRATCH_B + i] = max(toward, F(0.0))
        s[PLACE_U + i] = s[RAY_X + i] * reach + light[CLOUD_X]
        s[PLACE_V + i] = s[RAY_Y + i] * reach + light[CLOUD_Y]
    for i in range(n):
        if everywhere or s[SKY + i] > F(0.0):
            s[SCRATCH_C + i] = clouds_at(clouds, s[PLACE_U + i], s[PLACE_V + i])
    for i in range(n):
        up = s[SCRATCH_A + i]
        value = s[SCRATCH_C + i]
        cover = _cover(value, up, light)
        shade = F(0.82) + F(0.16) * value if up > F(0.01) else F(1.0)
        blend = _blend(up)
        glow = _glow(s[SCRATCH_B + i], light) * (F(1.0) - F(0.6) * cover)
        s[MIRROR_R + i] = _tone(np.int64(0), blend, cover, shade, glow, light)
        s[MIRROR_G + i] = _tone(np.int64(1), blend, cover, shade, glow, light)
        s[MIRROR_B + i] = _tone(np.int64(2), blend, cover, shade, glow, light)


@inner_kernel
def mirror_one(s: Singles, i: int, rx: np.float32, ry: np.float32, rz: np.float32, light: Singles, clouds: Singles) -> None:
    """The same for one pixel of a strip in a direction of its own (rz >= 0)."""
    length = F(1.0) / math.sqrt(rx * rx + ry * ry + rz * rz)
    up = rz * length
    toward = max((rx * light[SUN_X] + ry * light[SUN_Y] + rz * light[SUN_Z]) * length, F(0.0))
    reach = F(28.0) / (up + F(0.08)) * length
    value = clouds_at(clouds, rx * reach + light[CLOUD_X], ry * reach + light[CLOUD_Y])
    cover = _cover(value, up, light)
    shade = F(0.82) + F(0.16) * value if up > F(0.01) else F(1.0)
    blend = _blend(up)
    glow = _glow(toward, light) * (F(1.0) - F(0.6) * cover)
    s[MIRROR_R + i] = _tone(np.int64(0), blend, cover, shade, glow, light)
    s[MIRROR_G + i] = _tone(np.int64(1), blend, cover, shade, glow, light)
    s[MIRROR_B + i] = _tone(np.int64(2), blend, cover, shade, glow, light)


@inner_kernel
def _cover(value: np.float32, up: np.float32, light: Singles) -> np.float32:
    """How much of the sky a cloud hides; clouds thin out towards the horizon."""
    thick = min(max((value - F(1.4) + F(2.7) * light[CLOUDS]) * F(0.9), F(0.0)), F(1.0))
    return thick * min(up * F(9.0), F(1.0)) if up > F(0.01) else F(0.0)


@inner_kernel
def _blend(up: np.float32) -> np.float32:
    """Share of the zenith's colour at the sine `up` of the height over the horizon."""
    return min((F(1.0) - (F(1.0) - up) * (F(1.0) - up)) * F(1.35), F(1.0))


@inner_kernel
def _glow(toward: np.float32, light: Singles) -> np.float32:
    """The sun's halo at the cosine `toward` from it."""
    t4 = toward * toward
    t4 = t4 * t4
    t16 = t4 * t4
    t16 = t16 * t16
    t256 = t16 * t16
    t256 = t256 * t256
    t256 = t256 * t256
    t256 = t256 * t256
    halo: np.float32 = light[GLOW] * (F(0.22) * t4 + F(0.35) * t16 + F(1.6) * t256)
    return halo


@inner_kernel
def _tone(e: np.int64, blend: np.float32, cover: np.float32, shade: np.float32, glow: np.float32, light: Singles) -> np.float32:
    """Channel `e` of the sky: an int64, as for literal numbers numba would compile it once for each."""
    clear = light[FOG_R + e] + (light[ZENITH_R + e] - light[FOG_R + e]) * blend
    cloud = (F(0.55) * light[FOG_R + e] + F(0.32) * light[AMBIENT_R + e] + F(0.28) * light[SUN_R + e]) * shade
    tone: np.float32 = clear + (cloud - clear) * cover * F(0.85) + glow * light[SUN_R + e]
    return tone

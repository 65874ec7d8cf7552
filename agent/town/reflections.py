"""What mirrors the sky on a strip of pixels, compiled by numba: wet ground with puddles, and window panes (lit by night)."""

import math

import numpy as np

from roadworthy.agent.town.compiling import Ints, Singles, inner_kernel
from roadworthy.agent.town.skylight import clouds_at, mirror_one
from roadworthy.agent.town.strip import (
    DARKNESS,
    GLASS,
    INSTANCE,
    LAYER,
    LEVEL_GROUND,
    NORMAL_X,
    NORMAL_Y,
    NORMAL_Z,
    RAY_X,
    RAY_Y,
    RAY_Z,
    REFLECTION,
    SCRATCH_A,
    TEXTURE_U,
    TEXTURE_V,
    WINDOW,
    X,
    Y,
)

F = np.float32


@inner_kernel
def wet_ground(s: Singles, n: int, wet: float, puddles: float, clouds: Singles) -> None:
    """Wet, level ground darkens and mirrors the sky; puddles, where the ground lies lowest, mirror more."""
    for i in range(n):
        s[SCRATCH_A + i] = F(0.0)
    if puddles > F(0.0):
        for i in range(n):
            if s[LEVEL_GROUND + i] > F(1.0):
                pool = clouds_at(clouds, s[X + i] * F(1.9), s[Y + i] * F(1.9))
                s[SCRATCH_A + i] = puddles * min(max((pool - F(0.5)) * F(2.0), F(0.0)), F(1.0))
    for i in range(n):
        level = F(1.0) if s[LEVEL_GROUND + i] > F(0.0) and s[NORMAL_Z + i] > F(0.9) else F(0.0)
        square = s[RAY_X + i] * s[RAY_X + i] + s[RAY_Y + i] * s[RAY_Y + i] + s[RAY_Z + i] * s[RAY_Z + i]
        along = s[NORMAL_X + i] * s[RAY_X + i] + s[NORMAL_Y + i] * s[RAY_Y + i] + s[NORMAL_Z + i] * s[RAY_Z + i]
        grazing = F(1.0) - min(abs(along) / math.sqrt(square), F(1.0))
        fresnel = grazing * grazing
        fresnel = fresnel * fresnel * grazing
        mirrored = wet * (F(0.02) + F(0.5) * fresnel) + s[SCRATCH_A + i] * (F(0.05) + F(0.6) * fresnel)
        s[REFLECTION + i] += level * mirrored
        s[DARKNESS + i] -= level * F(0.42) * wet


@inner_kernel
def window_panes(
    s: Singles, q: Ints, n: int, first_facade: int, window_cells: Ints, night: float, light: Singles, clouds: Singles
) -> None:
    """Glass mirrors the sky behind the camera; by night a third of the windows are lit."""
    for i in range(n):
        glass = s[GLASS + i]
        if q[LAYER + i] < first_facade or glass <= F(0.02):
            continue
        rx = s[RAY_X + i]
        ry = s[RAY_Y + i]
        rz = s[RAY_Z + i]
        nx = s[NORMAL_X + i]
        ny = s[NORMAL_Y + i]
        facing = abs(nx * rx + ny * ry + s[NORMAL_Z + i] * rz) / math.sqrt(rx * rx + ry * ry + rz * rz)
        s[REFLECTION + i] = glass * (F(0.10) + F(0.3) * (F(1.0) - facing))
        back = F(2.0) * (nx * rx + ny * ry)
        mirror_one(s, i, rx - back * nx, ry - back * ny, abs(rz), light, clouds)
        if night > F(0.0) and glass > F(0.5):
            # Which window this is decides whether somebody is at home.
            cells = F(window_cells[q[LAYER + i]])
            column = int(np.floor(s[TEXTURE_U + i] * cells))
            row = int(np.floor(s[TEXTURE_V + i] * cells))
            key = column * 73856093 + row * 19349663 + q[INSTANCE + i] * 83492791
            if (key >> 4) % 100 < 32:
                s[WINDOW + i] = glass * night * (F(0.55) + F(0.005) * F((key >> 2) % 90)) * F(200.0)

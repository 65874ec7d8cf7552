"""Textures on a strip of pixels, compiled by numba: which level of detail, which texels, and their mixture."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.compiling import Singles, inner_kernel
from roadworthy.agent.town.strip import (
    DENSITY,
    FIRST_TEXEL,
    GLASS,
    NEARNESS,
    PLACE_U,
    PLACE_V,
    SCRATCH_A,
    SHARE_U,
    SHARE_V,
    TEXEL_B,
    TEXEL_G,
    TEXEL_R,
    TEXTURE_U,
    TEXTURE_V,
    W,
)
from roadworthy.agent.town.textures import LAYERS, SIZE, make_textures

F = np.float32
U64 = np.uint64
TEXELS_PER_LAYER = (4 * SIZE * SIZE - 1) // 3  # each level after the finest is half as wide, down to one texel
_STEEPEST = F(20.0)  # 1 / cosine beyond which a texture is not blurred further


@lru_cache(maxsize=1)
def packed_textures() -> NDArray[np.uint64]:
    """All texels, layer after layer, each with its halved copies behind it: uint64 [T], four channels of 16 bits."""
    levels: list[NDArray[np.float32]] = [make_textures().astype(np.float32)]
    while levels[-1].shape[1] > 1:
        t = levels[-1]
        halved = t[:, ::2, ::2] + t[:, 1::2, ::2] + t[:, ::2, 1::2] + t[:, 1::2, 1::2]
        levels.append((halved / 4).astype(np.float32))
    texels = np.concatenate([t.reshape(LAYERS, -1, 4) for t in levels], axis=1)  # [LAYERS, texels of all levels, 4]
    if texels.shape[1] != TEXELS_PER_LAYER:
        raise AssertionError(f"{texels.shape[1]} texels a layer, expected {TEXELS_PER_LAYER}")
    whole = (texels + 0.5).astype(np.uint64).reshape(-1, 4)
    packed: NDArray[np.uint64] = np.bitwise_or.reduce(whole << np.arange(0, 64, 16, dtype=np.uint64), axis=1)
    return packed


@inner_kernel
def find_texels(s: Singles, n: int) -> None:
    """Choose each pixel's level of detail from its footprint on the surface, and the texels there."""
    for i in range(n):
        # Half-way corrected for the grazing angle, whose cosine is the plane's distance over the pixel's.
        footprint = s[W + i] * s[W + i] * s[DENSITY + i] * min(s[W + i] * s[NEARNESS + i], _STEEPEST)
        size = F(128.0)
        start = F(0.0)
        size = F(64.0) if footprint > F(1.96) else size
        start = F(16384.0) if footprint > F(1.96) else start
        size = F(32.0) if footprint > F(7.84) else size
        start = F(20480.0) if footprint > F(7.84) else start
        size = F(16.0) if footprint > F(31.36) else size
        start = F(21504.0) if footprint > F(31.36) else start
        size = F(8.0) if footprint > F(125.44) else size
        start = F(21760.0) if footprint > F(125.44) else start
        size = F(4.0) if footprint > F(501.76) else size
        start = F(21824.0) if footprint > F(501.76) else start
        size = F(2.0) if footprint > F(2007.04) else size
        start = F(21840.0) if footprint > F(2007.04) else start
        size = F(1.0) if footprint > F(8028.16) else size
        start = F(21844.0) if footprint > F(8028.16) else start
        u = (s[TEXTURE_U + i] - np.floor(s[TEXTURE_U + i])) * size - F(0.5)
        v = (F(1.0) - (s[TEXTURE_V + i] - np.floor(s[TEXTURE_V + i]))) * size - F(0.5)
        column = np.floor(u)
        row = np.floor(v)
        s[SHARE_U + i] = np.floor((u - column) * F(256.0))
        s[SHARE_V + i] = np.floor((v - row) * F(256.0))
        # Textures repeat: before the first texel comes the last, after the last the first.
        left = column if column >= F(0.0) else size - F(1.0)
        right = column + F(1.0) if column + F(1.0) < size else F(0.0)
        top = row if row >= F(0.0) else size - F(1.0)
        top = top if top < size else F(0.0)
        bottom = row + F(1.0) if row + F(1.0) < size else row + F(1.0) - size
        first = s[FIRST_TEXEL + i] + start
        s[PLACE_U + i] = first + top * size + left
        s[PLACE_V + i] = first + bottom * size + left
        s[SCRATCH_A + i] = right - left


@inner_kernel
def mix_texels(s: Singles, n: int, texels: NDArray[np.uint64], mixed: NDArray[np.uint64]) -> None:
    """Mix the four texels round each place. `texels` uint64 [T]: red, green, blue and glass in 16 bits each."""
    for i in range(n):
        u = int(s[SHARE_U + i])
        v = int(s[SHARE_V + i])
        both = (u * v) >> 8
        top = U64(s[PLACE_U + i])
        bottom = U64(s[PLACE_V + i])
        right = U64(int(s[SCRATCH_A + i]))  # a step back at the texture's end, which unsigned numbers make by wrapping round
        # One product weighs all four channels: weights add up to 256, so no channel overflows its 16 bits.
        mixed[i] = (
            texels[top] * U64(256 - u - v + both)
            + texels[top + right] * U64(u - both)
            + texels[bottom] * U64(v - both)
            + texels[bottom + right] * U64(both)
        )
    for i in range(n):
        s[TEXEL_R + i] = F(np.int32(mixed[i] & U64(0xFFFF))) * F(1.0 / 256.0)
        s[TEXEL_G + i] = F(np.int32((mixed[i] >> U64(16)) & U64(0xFFFF))) * F(1.0 / 256.0)
        s[TEXEL_B + i] = F(np.int32((mixed[i] >> U64(32)) & U64(0xFFFF))) * F(1.0 / 256.0)
        s[GLASS + i] = F(np.int32(mixed[i] >> U64(48))) * F(1.0 / (256.0 * 255.0))

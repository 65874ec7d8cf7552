"""The rasteriser's second half, compiled by numba: the colour of every pixel from the visibility buffer.

Texture, sun and shadow, street lamps and headlamps, wet ground, lit windows, haze and sensor noise, worked out once per pixel.
"""

import math

import numpy as np
from numba import njit

from roadworthy.agent.town.kernels import OPTIONS

F = np.float32
# Entries of the light vector (float32 [LIGHT_SIZE]).
(
    SUN_X, SUN_Y, SUN_Z, SUN_R, SUN_G, SUN_B, AMBIENT_R, AMBIENT_G, AMBIENT_B, FOG_R, FOG_G, FOG_B, ZENITH_R, ZENITH_G,
    ZENITH_B, FOG_DENSITY, FOG_START, WET, PUDDLES, NIGHT, EXPOSURE_R, EXPOSURE_G, EXPOSURE_B, NOISE, CLOUDS, CLOUD_X, CLOUD_Y,
    GLOW, LIGHT_SIZE,
) = range(29)  # fmt: skip
NOISE_TABLE = 1 << 16
CLOUD_SIZE = 256
SKY_DEPTH = F(1000.0)  # [m] CARLA's far plane


@njit(**OPTIONS)
def noise_at(table, u, v):  # type: ignore[no-untyped-def]
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
    return low * (F(1.0) - gv) + high * gv


@njit(**OPTIONS)
def _sky(rx, ry, rz, light, clouds, out):  # type: ignore[no-untyped-def]
    """Colour of the sky in a direction, 0 to 1 a channel, before exposure."""
    length = F(1.0) / math.sqrt(rx * rx + ry * ry + rz * rz)
    up = max(rz * length, F(0.0))
    blend = F(1.0) - (F(1.0) - up) * (F(1.0) - up)
    blend = min(blend * F(1.35), F(1.0))
    toward = max((rx * light[SUN_X] + ry * light[SUN_Y] + rz * light[SUN_Z]) * length, F(0.0))
    t4 = toward * toward
    t4 = t4 * t4
    t16 = t4 * t4
    t16 = t16 * t16
    t256 = t16 * t16
    t256 = t256 * t256
    t256 = t256 * t256
    t256 = t256 * t256
    glow = light[GLOW] * (F(0.22) * t4 + F(0.35) * t16 + F(1.6) * t256)
    cover = F(0.0)
    if up > F(0.01):
        reach = F(28.0) / (up + F(0.08)) * length
        u = rx * reach + light[CLOUD_X]
        v = ry * reach + light[CLOUD_Y]
        fu = np.floor(u)
        fv = np.floor(v)
        gu = u - fu
        gv = v - fv
        i0 = int(fu) & (CLOUD_SIZE - 1)
        j0 = int(fv) & (CLOUD_SIZE - 1)
        i1 = (i0 + 1) & (CLOUD_SIZE - 1)
        j1 = (j0 + 1) & (CLOUD_SIZE - 1)
        value = (clouds[j0, i0] * (F(1.0) - gu) + clouds[j0, i1] * gu) * (F(1.0) - gv) + (
            clouds[j1, i0] * (F(1.0) - gu) + clouds[j1, i1] * gu
        ) * gv
        cover = min(max((value - F(1.4) + F(2.7) * light[CLOUDS]) * F(0.9), F(0.0)), F(1.0)) * min(up * F(9.0), F(1.0))
        shade = F(0.82) + F(0.16) * value
    else:
        shade = F(1.0)
    for e in range(3):
        clear = light[FOG_R + e] + (light[ZENITH_R + e] - light[FOG_R + e]) * blend
        cloud = (F(0.55) * light[FOG_R + e] + F(0.32) * light[AMBIENT_R + e] + F(0.28) * light[SUN_R + e]) * shade
        out[e] = clear + (cloud - clear) * cover * F(0.85) + glow * light[SUN_R + e] * (F(1.0) - F(0.6) * cover)


@njit(**OPTIONS)
def _sun(px, py, pz, n0, n1, n2, light, shadow, drift_x, drift_y, origin_x, origin_y, cell):  # type: ignore[no-untyped-def]
    """Share of direct sun on a surface: the cosine times how many of the four nearest shadow cells leave it lit."""
    cosine = n0 * light[SUN_X] + n1 * light[SUN_Y] + n2 * light[SUN_Z]
    if cosine <= F(0.0):
        return F(0.0)
    lift = F(0.06) + F(0.22) * (F(1.0) - cosine)  # along the normal, against speckles of self-shadow
    z = pz + n2 * lift
    gx = (px + n0 * lift - drift_x * z - origin_x) / cell - F(0.5)
    gy = (py + n1 * lift - drift_y * z - origin_y) / cell - F(0.5)
    floor_x = np.floor(gx)
    floor_y = np.floor(gy)
    i = int(floor_x)
    j = int(floor_y)
    if i < 0 or j < 0 or i >= shadow.shape[1] - 1 or j >= shadow.shape[0] - 1:
        return cosine
    sx = gx - floor_x
    sy = gy - floor_y
    level = z * F(100.0) + F(6.0)
    lit = F(0.0)
    if F(shadow[j, i]) <= level:
        lit += (F(1.0) - sx) * (F(1.0) - sy)
    if F(shadow[j, i + 1]) <= level:
        lit += sx * (F(1.0) - sy)
    if F(shadow[j + 1, i]) <= level:
        lit += (F(1.0) - sx) * sy
    if F(shadow[j + 1, i + 1]) <= level:
        lit += sx * sy
    return cosine * lit


@njit(**OPTIONS)
def _street_lamps(px, py, pz, n2, lamp_map, origin_x, origin_y, lamp_cell):  # type: ignore[no-untyped-def]
    """Light of the street lamps, read from their map on the ground; it fades above the lamps."""
    mx = (px - origin_x) / lamp_cell
    my = (py - origin_y) / lamp_cell
    floor_x = np.floor(mx)
    floor_y = np.floor(my)
    i = int(floor_x)
    j = int(floor_y)
    if i < 0 or j < 0 or i >= lamp_map.shape[1] - 1 or j >= lamp_map.shape[0] - 1:
        return F(0.0)
    sx = mx - floor_x
    sy = my - floor_y
    low = lamp_map[j, i] * (F(1.0) - sx) + lamp_map[j, i + 1] * sx
    high = lamp_map[j + 1, i] * (F(1.0) - sx) + lamp_map[j + 1, i + 1] * sx
    fade = min(max(F(1.3) - pz * F(0.14), F(0.0)), F(1.0))
    return (low * (F(1.0) - sy) + high * sy) * fade * (F(0.55) + F(0.45) * abs(n2))


@njit(**OPTIONS)
def _headlamps(px, py, pz, n0, n1, n2, headlamps):  # type: ignore[no-untyped-def]
    """Light of the vehicles' low beams: a flat, wide cone ahead of each."""
    total = F(0.0)
    for h in range(headlamps.shape[0]):
        ox = px - headlamps[h, 0]
        oy = py - headlamps[h, 1]
        oz = pz - headlamps[h, 2]
        ahead = ox * headlamps[h, 3] + oy * headlamps[h, 4]
        if ahead > F(0.2) and ahead < F(70.0):
            across = (oy * headlamps[h, 3] - ox * headlamps[h, 4]) / ahead
            up = oz / ahead + F(0.05)
            spread = F(1.0) / (F(1.0) + F(5.0) * across * across + F(60.0) * up * up)
            square = ox * ox + oy * oy + oz * oz
            cosine = max(-(n0 * ox + n1 * oy + n2 * oz) / math.sqrt(square), F(0.0))
            total += headlamps[h, 5] * spread * spread * (F(0.5) + F(0.5) * cosine) * F(60.0) / (F(90.0) + square)
    return total


@njit(**OPTIONS)
def shade(  # type: ignore[no-untyped-def]
    ids, depth, vertices, normals, uv, colours, faces, surface, lamp_levels, window_cells, first_facade, eye, axes, half_x,
    half_y, light, texels, level_offsets, level_sizes, shadow, drift_x, drift_y, origin_x, origin_y, cell,
    lamp_map, lamp_cell, headlamps, clouds, noise, noise_offset, bgra, tags, instances, metres,
):  # fmt: skip
    """Colour, tag, instance and depth of every pixel from the visibility buffer."""
    height, width = ids.shape
    pixel_angle = F(2.0) * half_x / F(width)
    step_x = F(2.0) * half_x / F(width)
    sky = np.zeros(3, np.float32)
    mirror = np.zeros(3, np.float32)
    value = np.zeros(3, np.float32)
    # Everything that the triangle under the pixel fixes: normal 3, colour 3, uv 2 at its first corner, and their two slopes.
    fact = np.zeros((3, 8), np.float32)
    # Copied, so that the compiler knows that writing pixels does not change them.
    glare = light.copy()
    wet = glare[WET]
    night = glare[NIGHT]
    grainy = glare[NOISE]
    finest = F(level_sizes[0])
    levels = level_sizes.shape[0]
    sunlit = glare[SUN_R] + glare[SUN_G] > F(0.01)
    eye_x, eye_y, eye_z = eye[0], eye[1], eye[2]
    right_x, right_y, right_z = axes[0, 0], axes[0, 1], axes[0, 2]
    last = -2
    layer = tag = lamp = instance = 0
    ax = ay = az = e1x = e1y = e1z = e2x = e2y = e2z = F(0.0)
    d11 = d12 = d22 = inverse = density = F(0.0)
    for iy in range(height):
        ny = (F(1.0) - (F(iy) + F(0.5)) * F(2.0) / F(height)) * half_y
        row_x = axes[2, 0] + axes[1, 0] * ny
        row_y = axes[2, 1] + axes[1, 1] * ny
        row_z = axes[2, 2] + axes[1, 2] * ny
        for ix in range(width):
            nx = (F(ix) + F(0.5)) * step_x - half_x
            rx = row_x + right_x * nx
            ry = row_y + right_y * nx
            rz = row_z + right_z * nx
            t = ids[iy, ix]
            grain = noise_offset + (iy * width + ix) * 3
            if t < 0:
                _sky(rx, ry, rz, glare, clouds, sky)
                for e in range(3):
                    v = F(255.0) * glare[EXPOSURE_R + e] * sky[e] + grainy * noise[(grain + e) & (NOISE_TABLE - 1)]
                    bgra[iy, ix, 2 - e] = np.uint8(min(max(v, F(0.0)), F(255.0)))
                bgra[iy, ix, 3] = 255
                tags[iy, ix] = 11
                instances[iy, ix] = 0
                metres[iy, ix] = SKY_DEPTH
                continue
            w = F(1.0) / depth[iy, ix]
            px = eye_x + rx * w
            py = eye_y + ry * w
            pz = eye_z + rz * w
            if t != last:
                last = t
                a = faces[t, 0]
                b = faces[t, 1]
                c = faces[t, 2]
                layer = surface[t, 0]
                tag = surface[t, 1]
                instance = surface[t, 2]
                lamp = surface[t, 3]
                ax = vertices[a, 0]
                ay = vertices[a, 1]
                az = vertices[a, 2]
                e1x = vertices[b, 0] - ax
                e1y = vertices[b, 1] - ay
                e1z = vertices[b, 2] - az
                e2x = vertices[c, 0] - ax
                e2y = vertices[c, 1] - ay
                e2z = vertices[c, 2] - az
                d11 = e1x * e1x + e1y * e1y + e1z * e1z
                d12 = e1x * e2x + e1y * e2y + e1z * e2z
                d22 = e2x * e2x + e2y * e2y + e2z * e2z
                square = max(d11 * d22 - d12 * d12, F(1e-20))
                inverse = F(1.0) / square
                for e in range(3):
                    fact[0, e] = normals[a, e]
                    fact[1, e] = normals[b, e] - normals[a, e]
                    fact[2, e] = normals[c, e] - normals[a, e]
                    fact[0, 3 + e] = colours[a, e]
                    fact[1, 3 + e] = colours[b, e] - colours[a, e]
                    fact[2, 3 + e] = colours[c, e] - colours[a, e]
                for e in range(2):
                    fact[0, 6 + e] = uv[a, e]
                    fact[1, 6 + e] = uv[b, e] - uv[a, e]
                    fact[2, 6 + e] = uv[c, e] - uv[a, e]
                spread = abs(fact[1, 6] * fact[2, 7] - fact[2, 6] * fact[1, 7])
                density = math.sqrt(spread / math.sqrt(square)) * finest * pixel_angle
            qx = px - ax
            qy = py - ay
            qz = pz - az
            q1 = qx * e1x + qy * e1y + qz * e1z
            q2 = qx * e2x + qy * e2y + qz * e2z
            lb = min(max((d22 * q1 - d12 * q2) * inverse, F(0.0)), F(1.0))
            lc = min(max((d11 * q2 - d12 * q1) * inverse, F(0.0)), F(1.0))
            n0 = fact[0, 0] + fact[1, 0] * lb + fact[2, 0] * lc
            n1 = fact[0, 1] + fact[1, 1] * lb + fact[2, 1] * lc
            n2 = fact[0, 2] + fact[1, 2] * lb + fact[2, 2] * lc
            u = fact[0, 6] + fact[1, 6] * lb + fact[2, 6] * lc
            v = fact[0, 7] + fact[1, 7] * lb + fact[2, 7] * lc
            facing = abs(n0 * rx + n1 * ry + n2 * rz) / math.sqrt(rx * rx + ry * ry + rz * rz)
            # Mip level from the pixel's footprint on the surface, half-way corrected for the grazing angle.
            footprint = w * density / math.sqrt(max(facing, F(0.05)))
            level = 0
            while footprint > F(1.4) and level < levels - 1:
                footprint *= F(0.5)
                level += 1
            size = level_sizes[level]
            base = level_offsets[level] + layer * size * size
            fu = (u - np.floor(u)) * F(size) - F(0.5)
            fv = (F(1.0) - (v - np.floor(v))) * F(size) - F(0.5)
            floor_u = np.floor(fu)
            floor_v = np.floor(fv)
            gu = fu - floor_u
            gv = fv - floor_v
            iu = int(floor_u)
            iv = int(floor_v)
            row0 = base + (iv & (size - 1)) * size
            row1 = base + ((iv + 1) & (size - 1)) * size
            t00 = row0 + (iu & (size - 1))
            t10 = row0 + ((iu + 1) & (size - 1))
            t01 = row1 + (iu & (size - 1))
            t11 = row1 + ((iu + 1) & (size - 1))
            w00 = (F(1.0) - gu) * (F(1.0) - gv)
            w10 = gu * (F(1.0) - gv)
            w01 = (F(1.0) - gu) * gv
            w11 = gu * gv
            direct = F(0.0)
            if sunlit:
                direct = _sun(px, py, pz, n0, n1, n2, glare, shadow, drift_x, drift_y, origin_x, origin_y, cell)
            sheltered = F(0.72) + F(0.28) * n2
            warm = F(0.0)
            if night > F(0.0):
                warm = night * _street_lamps(px, py, pz, n2, lamp_map, origin_x, origin_y, lamp_cell)
            beam = F(0.0)
            if headlamps.shape[0] > 0:
                beam = _headlamps(px, py, pz, n0, n1, n2, headlamps)
            dark = F(1.0)
            reflect = F(0.0)
            window = F(0.0)
            if layer >= first_facade:
                glass = F(texels[t00, 3]) * w00 + F(texels[t10, 3]) * w10 + F(texels[t01, 3]) * w01 + F(texels[t11, 3]) * w11
                glass *= F(1.0 / 255.0)
                if glass > F(0.02):
                    reflect = glass * (F(0.10) + F(0.3) * (F(1.0) - facing))
                    back = F(2.0) * (n0 * rx + n1 * ry)
                    _sky(rx - back * n0, ry - back * n1, abs(rz), glare, clouds, mirror)
                    if night > F(0.0) and glass > F(0.5):
                        # Which window this is decides whether somebody is at home.
                        cells = F(window_cells[layer])
                        key = int(np.floor(u * cells)) * 73856093 + int(np.floor(v * cells)) * 19349663 + instance * 83492791
                        if (key >> 4) % 100 < 32:
                            window = glass * night * (F(0.55) + F(0.005) * F((key >> 2) % 90)) * F(200.0)
            elif wet > F(0.0) and n2 > F(0.9) and (tag == 1 or tag == 2 or tag == 24):
                # A wet, level surface darkens and mirrors the sky; puddles mirror more.
                grazing = F(1.0) - min(facing, F(1.0))
                fresnel = grazing * grazing
                fresnel = fresnel * fresnel * grazing
                puddle = F(0.0)
                if tag == 1 and glare[PUDDLES] > F(0.0):
                    pool = noise_at(clouds, px * F(1.9), py * F(1.9))
                    puddle = glare[PUDDLES] * min(max((pool - F(0.5)) * F(2.0), F(0.0)), F(1.0))
                reflect = wet * (F(0.02) + F(0.5) * fresnel) + puddle * (F(0.05) + F(0.6) * fresnel)
                dark = F(1.0) - F(0.42) * wet
                _sky(rx, ry, abs(rz), glare, clouds, mirror)
            haze = F(0.0)
            if w > glare[FOG_START]:
                haze = F(1.0) - math.exp((glare[FOG_START] - w) * glare[FOG_DENSITY])
            emission = F(0.0)
            if lamp > 0:
                emission = lamp_levels[lamp] * F(255.0)
                dark = F(0.3)
            for e in range(3):
                texel = F(texels[t00, e]) * w00 + F(texels[t10, e]) * w10 + F(texels[t01, e]) * w01 + F(texels[t11, e]) * w11
                paint = fact[0, 3 + e] + fact[1, 3 + e] * lb + fact[2, 3 + e] * lc
                lit = glare[AMBIENT_R + e] * sheltered + glare[SUN_R + e] * direct + warm * (F(1.0) - F(0.22) * F(e)) + beam
                shown = paint * (texel * lit * dark + emission)
                shown += (mirror[e] * F(255.0) - shown) * reflect + window * (F(1.0) - F(0.25) * F(e))
                shown += (glare[FOG_R + e] * F(255.0) - shown) * haze
                value[e] = shown * glare[EXPOSURE_R + e] + grainy * noise[(grain + e) & (NOISE_TABLE - 1)]
            bgra[iy, ix, 0] = np.uint8(min(max(value[2], F(0.0)), F(255.0)))
            bgra[iy, ix, 1] = np.uint8(min(max(value[1], F(0.0)), F(255.0)))
            bgra[iy, ix, 2] = np.uint8(min(max(value[0], F(0.0)), F(255.0)))
            bgra[iy, ix, 3] = 255
            tags[iy, ix] = tag
            instances[iy, ix] = instance
            metres[iy, ix] = w


@njit(**OPTIONS)
def draw_rain(bgra, amount, brightness, slant, seed):  # type: ignore[no-untyped-def]
    """Streaks over the picture: `amount` of them, `slant` columns per row."""
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

"""The rasteriser's inner loops, compiled by numba. Pure functions on arrays; `raster.py` drives them.

Screen y runs down. A triangle that faces the camera has a positive area there (UE axes are left-handed, and so are the camera's
right, up, forward). The visibility buffer holds, per pixel, 1 / depth and the number of the nearest triangle; colours are worked
out once per pixel afterwards. No fast-math: the same input gives the same bytes on one machine.
"""

import math
from typing import Any

import numpy as np
from numba import njit

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}
# Colours may use fused multiply-adds (one rounding less); which triangle a pixel sees may not.
SHADING: dict[str, Any] = {**OPTIONS, "fastmath": {"contract", "arcp", "nsz"}}
F = np.float32
NEAR = F(0.12)  # [m]

# Rows of an actor table (float32 [n, ACTOR_COLUMNS]).
ACTOR_COLUMNS = 16  # mesh, x, y, z, yaw, pitch, roll [rad], first colour 3, second colour 3, instance, radius, first lamp
# Entries of the light vector (float32 [LIGHT_SIZE]).
(
    SUN_X, SUN_Y, SUN_Z, SUN_R, SUN_G, SUN_B, AMBIENT_R, AMBIENT_G, AMBIENT_B, FOG_R, FOG_G, FOG_B, ZENITH_R, ZENITH_G, ZENITH_B,
    FOG_DENSITY, FOG_START, WET, PUDDLES, NIGHT, EXPOSURE_R, EXPOSURE_G, EXPOSURE_B, NOISE, CLOUDS, CLOUD_X, CLOUD_Y, GLOW,
    LIGHT_SIZE,
) = range(29)  # fmt: skip
NOISE_TABLE = 1 << 16
CLOUD_SIZE = 256
SKY_DEPTH = F(1000.0)  # [m] CARLA's far plane


@njit(**OPTIONS)
def project(vertices, first, last, matrix, out):  # type: ignore[no-untyped-def]
    """Rows `first` to `last` of world points [V, 3] to (x, y, w) with ndc = x/w, y/w; `matrix` [3, 4]."""
    for i in range(first, last):
        x = vertices[i, 0]
        y = vertices[i, 1]
        z = vertices[i, 2]
        for r in range(3):
            out[i, r] = matrix[r, 0] * x + matrix[r, 1] * y + matrix[r, 2] * z + matrix[r, 3]


@njit(**OPTIONS)
def _fill(x0, y0, w0, x1, y1, w1, x2, y2, w2, width, height, depth, ids, number):  # type: ignore[no-untyped-def]
    """Draw one triangle, given in pixels; keep it where it is nearer than what is there."""
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area <= F(0.0):
        return
    low_x = min(x0, min(x1, x2))
    high_x = max(x0, max(x1, x2))
    low_y = min(y0, min(y1, y2))
    high_y = max(y0, max(y1, y2))
    if high_x < F(0.0) or high_y < F(0.0) or low_x > F(width) or low_y > F(height):
        return
    first_x = max(0, int(math.ceil(max(low_x, F(-1.0)) - F(0.5))))
    last_x = min(width - 1, int(math.floor(min(high_x, F(width)) - F(0.5))))
    first_y = max(0, int(math.ceil(max(low_y, F(-1.0)) - F(0.5))))
    last_y = min(height - 1, int(math.floor(min(high_y, F(height)) - F(0.5))))
    if first_x > last_x or first_y > last_y:
        return
    inverse = F(1.0) / area
    z0 = F(1.0) / w0
    z1 = F(1.0) / w1
    z2 = F(1.0) / w2
    ax = (y2 - y0) * inverse
    ay = -(x2 - x0) * inverse
    bx = -(y1 - y0) * inverse
    by = (x1 - x0) * inverse
    slope = (z1 - z0) * ax + (z2 - z0) * bx
    tiny = F(1e-12)
    for iy in range(first_y, last_y + 1):
        dy = F(iy) + F(0.5) - y0
        a = ay * dy
        b = by * dy
        c = F(1.0) - a - b
        # The span where all three barycentric weights are not negative.
        low = F(first_x)
        high = F(last_x)
        shift = x0 - F(0.5)
        if ax > tiny:
            low = max(low, shift - a / ax)
        elif ax < -tiny:
            high = min(high, shift - a / ax)
        elif a < F(0.0):
            continue
        if bx > tiny:
            low = max(low, shift - b / bx)
        elif bx < -tiny:
            high = min(high, shift - b / bx)
        elif b < F(0.0):
            continue
        cx = ax + bx
        if cx > tiny:
            high = min(high, shift + c / cx)
        elif cx < -tiny:
            low = max(low, shift + c / cx)
        elif c < F(0.0):
            continue
        start = int(math.ceil(low))
        end = int(math.floor(high))
        if start > end:
            continue
        dx = F(start) - shift
        z = z0 + (z1 - z0) * (ax * dx + a) + (z2 - z0) * (bx * dx + b)
        for ix in range(start, end + 1):
            here = z + F(ix - start) * slope
            if here > depth[iy, ix]:
                depth[iy, ix] = here
                ids[iy, ix] = number


@njit(**OPTIONS)
def draw(points, faces, first, last, far, width, height, depth, ids):  # type: ignore[no-untyped-def]
    """Draw faces `first` to `last` (projected points [V, 3]) into the visibility buffer, clipping at the near plane."""
    sx = F(width) * F(0.5)
    sy = F(height) * F(0.5)
    polygon = np.empty((4, 3), np.float32)
    for t in range(first, last):
        a = faces[t, 0]
        b = faces[t, 1]
        c = faces[t, 2]
        wa = points[a, 2]
        wb = points[b, 2]
        wc = points[c, 2]
        if wa < NEAR and wb < NEAR and wc < NEAR:
            continue
        if wa > far and wb > far and wc > far:
            continue
        xa = points[a, 0]
        xb = points[b, 0]
        xc = points[c, 0]
        if (xa > wa and xb > wb and xc > wc) or (xa < -wa and xb < -wb and xc < -wc):
            continue
        ya = points[a, 1]
        yb = points[b, 1]
        yc = points[c, 1]
        if (ya > wa and yb > wb and yc > wc) or (ya < -wa and yb < -wb and yc < -wc):
            continue
        if wa >= NEAR and wb >= NEAR and wc >= NEAR:
            ia = F(1.0) / wa
            ib = F(1.0) / wb
            ic = F(1.0) / wc
            _fill(
                sx + sx * xa * ia, sy - sy * ya * ia, wa, sx + sx * xb * ib, sy - sy * yb * ib, wb,
                sx + sx * xc * ic, sy - sy * yc * ic, wc, width, height, depth, ids, t,
            )  # fmt: skip
            continue
        count = 0
        for e in range(3):
            u = faces[t, e]
            v = faces[t, (e + 1) % 3]
            wu = points[u, 2]
            wv = points[v, 2]
            if wu >= NEAR:
                polygon[count, 0] = points[u, 0]
                polygon[count, 1] = points[u, 1]
                polygon[count, 2] = wu
                count += 1
            if (wu >= NEAR) != (wv >= NEAR):
                share = (NEAR - wu) / (wv - wu)
                polygon[count, 0] = points[u, 0] + share * (points[v, 0] - points[u, 0])
                polygon[count, 1] = points[u, 1] + share * (points[v, 1] - points[u, 1])
                polygon[count, 2] = NEAR
                count += 1
        for e in range(1, count - 1):
            p = polygon[0]
            q = polygon[e]
            r = polygon[e + 1]
            _fill(
                sx + sx * p[0] / p[2], sy - sy * p[1] / p[2], p[2], sx + sx * q[0] / q[2], sy - sy * q[1] / q[2], q[2],
                sx + sx * r[0] / r[2], sy - sy * r[1] / r[2], r[2], width, height, depth, ids, t,
            )  # fmt: skip


@njit(**OPTIONS)
def draw_tiles(vertices, faces, spans, boxes, planes, matrix, eye, detail_range, far, points, width, height, depth, ids):  # type: ignore[no-untyped-def]
    """Draw the static mesh tile by tile, skipping tiles outside the view; returns the number of faces tried.

    `spans` int32 [n, 6]: first and last vertex, and the ends of the faces drawn always, near only and far only.
    `boxes` float32 [n, 6] bounds; `planes` [4, 4] the sides of the view, inside where positive.
    """
    tried = 0
    for n in range(spans.shape[0]):
        outside = False
        for k in range(4):
            # The corner of the box that lies furthest inside this plane.
            x = boxes[n, 3] if planes[k, 0] > 0 else boxes[n, 0]
            y = boxes[n, 4] if planes[k, 1] > 0 else boxes[n, 1]
            z = boxes[n, 5] if planes[k, 2] > 0 else boxes[n, 2]
            if planes[k, 0] * x + planes[k, 1] * y + planes[k, 2] * z + planes[k, 3] < F(0.0):
                outside = True
                break
        if outside:
            continue
        dx = max(max(boxes[n, 0] - eye[0], eye[0] - boxes[n, 3]), F(0.0))
        dy = max(max(boxes[n, 1] - eye[1], eye[1] - boxes[n, 4]), F(0.0))
        dz = max(max(boxes[n, 2] - eye[2], eye[2] - boxes[n, 5]), F(0.0))
        distance = math.sqrt(dx * dx + dy * dy + dz * dz)
        if distance > far:
            continue
        project(vertices, spans[n, 0], spans[n, 1], matrix, points)
        first = spans[n, 2]
        middle = spans[n, 4]
        draw(points, faces, first, spans[n, 3], far, width, height, depth, ids)
        if distance < detail_range:
            draw(points, faces, spans[n, 3], middle, far, width, height, depth, ids)
            tried += middle - first
        else:
            draw(points, faces, middle, spans[n, 5], far, width, height, depth, ids)
            tried += spans[n, 5] - middle + spans[n, 3] - first
    return tried


@njit(**OPTIONS)
def place(  # type: ignore[no-untyped-def]
    actors, planes, pool_spans, pool_vertices, pool_normals, pool_uv, pool_colours, pool_faces, pool_surface, pool_tint,
    vertices, normals, uv, colours, faces, surface, first_vertex, first_face, placed,
):  # fmt: skip
    """Copy the meshes of all actors inside the view behind the static ones; returns the ends of vertices and faces.

    `placed` int32 [n, 2]: first and last face of each actor (equal when it was skipped).
    """
    next_vertex = first_vertex
    next_face = first_face
    turn = np.empty((3, 3), np.float32)
    for i in range(actors.shape[0]):
        placed[i, 0] = next_face
        placed[i, 1] = next_face
        x = actors[i, 1]
        y = actors[i, 2]
        z = actors[i, 3]
        radius = actors[i, 14]
        hidden = False
        for k in range(4):
            if planes[k, 0] * x + planes[k, 1] * y + planes[k, 2] * z + planes[k, 3] < -radius:
                hidden = True
                break
        if hidden:
            continue
        cy = math.cos(actors[i, 4])
        sy = math.sin(actors[i, 4])
        cp = math.cos(actors[i, 5])
        sp = math.sin(actors[i, 5])
        cr = math.cos(actors[i, 6])
        sr = math.sin(actors[i, 6])
        turn[0, 0] = cp * cy
        turn[0, 1] = cy * sp * sr - sy * cr
        turn[0, 2] = -cy * sp * cr - sy * sr
        turn[1, 0] = cp * sy
        turn[1, 1] = sy * sp * sr + cy * cr
        turn[1, 2] = -sy * sp * cr + cy * sr
        turn[2, 0] = sp
        turn[2, 1] = -cp * sr
        turn[2, 2] = cp * cr
        mesh = int(actors[i, 0])
        v0 = pool_spans[mesh, 0]
        v1 = pool_spans[mesh, 1]
        f0 = pool_spans[mesh, 2]
        f1 = pool_spans[mesh, 3]
        if next_vertex + v1 - v0 > vertices.shape[0] or next_face + f1 - f0 > faces.shape[0]:
            return -1, -1
        for v in range(v0, v1):
            o = next_vertex + v - v0
            px = pool_vertices[v, 0]
            py = pool_vertices[v, 1]
            pz = pool_vertices[v, 2]
            nx = pool_normals[v, 0]
            ny = pool_normals[v, 1]
            nz = pool_normals[v, 2]
            for r in range(3):
                vertices[o, r] = turn[r, 0] * px + turn[r, 1] * py + turn[r, 2] * pz + actors[i, 1 + r]
                normals[o, r] = turn[r, 0] * nx + turn[r, 1] * ny + turn[r, 2] * nz
                tint = F(1.0)
                if pool_tint[v] == 1:
                    tint = actors[i, 7 + r]
                elif pool_tint[v] == 2:
                    tint = actors[i, 10 + r]
                colours[o, r] = pool_colours[v, r] * tint
            uv[o, 0] = pool_uv[v, 0]
            uv[o, 1] = pool_uv[v, 1]
        for t in range(f0, f1):
            o = next_face + t - f0
            for e in range(3):
                faces[o, e] = pool_faces[t, e] - v0 + next_vertex
            surface[o, 0] = pool_surface[t, 0]
            surface[o, 1] = pool_surface[t, 1]
            surface[o, 2] = int(actors[i, 13])
            lamp = pool_surface[t, 3]
            surface[o, 3] = int(actors[i, 15]) + lamp if lamp > 0 else 0
        next_vertex += v1 - v0
        next_face += f1 - f0
        placed[i, 1] = next_face
    return next_vertex, next_face


@njit(**OPTIONS)
def cast_shadows(vertices, faces, first, last, drift_x, drift_y, origin_x, origin_y, cell, shadow):  # type: ignore[no-untyped-def]
    """Draw faces into the shadow map, which is laid out on the ground.

    A point (x, y, z) throws its shadow on (x - drift_x z, y - drift_y z) at level 0; the map keeps the highest z [cm, int16]
    that falls on each cell.
    """
    rows, columns = shadow.shape
    for t in range(first, last):
        a = faces[t, 0]
        b = faces[t, 1]
        c = faces[t, 2]
        za = vertices[a, 2]
        zb = vertices[b, 2]
        zc = vertices[c, 2]
        xa = (vertices[a, 0] - drift_x * za - origin_x) / cell
        ya = (vertices[a, 1] - drift_y * za - origin_y) / cell
        xb = (vertices[b, 0] - drift_x * zb - origin_x) / cell
        yb = (vertices[b, 1] - drift_y * zb - origin_y) / cell
        xc = (vertices[c, 0] - drift_x * zc - origin_x) / cell
        yc = (vertices[c, 1] - drift_y * zc - origin_y) / cell
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if abs(area) < F(1e-6):
            continue
        if max(xa, max(xb, xc)) < F(0.0) or max(ya, max(yb, yc)) < F(0.0):
            continue
        if min(xa, min(xb, xc)) > F(columns) or min(ya, min(yb, yc)) > F(rows):
            continue
        x0 = max(0, int(math.ceil(min(xa, min(xb, xc)) - F(0.5))))
        x1 = min(columns - 1, int(math.floor(max(xa, max(xb, xc)) - F(0.5))))
        y0 = max(0, int(math.ceil(min(ya, min(yb, yc)) - F(0.5))))
        y1 = min(rows - 1, int(math.floor(max(ya, max(yb, yc)) - F(0.5))))
        inverse = F(1.0) / area
        for iy in range(y0, y1 + 1):
            dy = F(iy) + F(0.5) - ya
            for ix in range(x0, x1 + 1):
                dx = F(ix) + F(0.5) - xa
                lb = (dx * (yc - ya) - (xc - xa) * dy) * inverse
                lc = ((xb - xa) * dy - dx * (yb - ya)) * inverse
                if lb >= F(0.0) and lc >= F(0.0) and lb + lc <= F(1.0):
                    z = np.int16(min(max((za + (zb - za) * lb + (zc - za) * lc) * F(100.0), F(-32000.0)), F(32000.0)))
                    if z > shadow[iy, ix]:
                        shadow[iy, ix] = z


@njit(**OPTIONS)
def actor_shadows(  # type: ignore[no-untyped-def]
    vertices, faces, placed, actors, eye, reach, drift_x, drift_y, origin_x, origin_y, cell, base, shadow, dirty
):
    """Put back what `dirty` int32 [n, 4] covers, then draw the shadows of actors within `reach`; returns the new `dirty`."""
    rows, columns = shadow.shape
    for k in range(dirty.shape[0]):
        for iy in range(dirty[k, 1], dirty[k, 3]):
            for ix in range(dirty[k, 0], dirty[k, 2]):
                shadow[iy, ix] = base[iy, ix]
    touched = np.empty((actors.shape[0], 4), np.int32)
    count = 0
    for k in range(actors.shape[0]):
        first = placed[k, 0]
        last = placed[k, 1]
        dx = actors[k, 1] - eye[0]
        dy = actors[k, 2] - eye[1]
        if last == first or dx * dx + dy * dy > reach * reach:
            continue
        low_x = F(1e9)
        low_y = F(1e9)
        high_x = F(-1e9)
        high_y = F(-1e9)
        for t in range(first, last):
            for e in range(3):
                v = faces[t, e]
                x = (vertices[v, 0] - drift_x * vertices[v, 2] - origin_x) / cell
                y = (vertices[v, 1] - drift_y * vertices[v, 2] - origin_y) / cell
                low_x = min(low_x, x)
                high_x = max(high_x, x)
                low_y = min(low_y, y)
                high_y = max(high_y, y)
        x0 = int(max(low_x, F(0.0)))
        y0 = int(max(low_y, F(0.0)))
        x1 = int(min(high_x + F(1.0), F(columns)))
        y1 = int(min(high_y + F(1.0), F(rows)))
        if x0 >= x1 or y0 >= y1:
            continue
        touched[count, 0] = x0
        touched[count, 1] = y0
        touched[count, 2] = x1
        touched[count, 3] = y1
        count += 1
        cast_shadows(vertices, faces, first, last, drift_x, drift_y, origin_x, origin_y, cell, shadow)
    return touched[:count].copy()


@njit(**SHADING)
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


@njit(**SHADING)
def shade(  # type: ignore[no-untyped-def]
    ids, depth, vertices, normals, uv, colours, faces, surface, lamp_levels, window_cells, first_facade, eye, axes, half_x, half_y,
    light, texels, level_offsets, level_sizes, shadow, drift_x, drift_y, origin_x, origin_y, cell,
    lamp_map, lamp_cell, headlamps, clouds, noise, noise_offset, bgra, tags, instances, metres,
):  # fmt: skip
    """Colour, tag, instance and depth of every pixel from the visibility buffer."""
    height, width = ids.shape
    pixel_angle = F(2.0) * half_x / F(width)
    sky = np.zeros(3, np.float32)
    mirror = np.zeros(3, np.float32)
    last = -2
    a = b = c = 0
    layer = tag = lamp = 0
    ax = ay = az = e1x = e1y = e1z = e2x = e2y = e2z = F(0.0)
    d11 = d12 = d22 = inverse = density = F(0.0)
    wet = light[WET]
    night = light[NIGHT]
    rows, columns = shadow.shape
    sunlit = light[SUN_R] + light[SUN_G] > F(0.01)
    for iy in range(height):
        ny = (F(1.0) - (F(iy) + F(0.5)) * F(2.0) / F(height)) * half_y
        for ix in range(width):
            nx = ((F(ix) + F(0.5)) * F(2.0) / F(width) - F(1.0)) * half_x
            rx = axes[2, 0] + axes[0, 0] * nx + axes[1, 0] * ny
            ry = axes[2, 1] + axes[0, 1] * nx + axes[1, 1] * ny
            rz = axes[2, 2] + axes[0, 2] * nx + axes[1, 2] * ny
            t = ids[iy, ix]
            grain = noise_offset + (iy * width + ix) * 3
            if t < 0:
                _sky(rx, ry, rz, light, clouds, sky)
                for e in range(3):
                    value = F(255.0) * light[EXPOSURE_R + e] * sky[e] + light[NOISE] * noise[(grain + e) & (NOISE_TABLE - 1)]
                    bgra[iy, ix, 2 - e] = np.uint8(min(max(value, F(0.0)), F(255.0)))
                bgra[iy, ix, 3] = 255
                tags[iy, ix] = 11
                instances[iy, ix] = 0
                metres[iy, ix] = SKY_DEPTH
                continue
            w = F(1.0) / depth[iy, ix]
            px = eye[0] + rx * w
            py = eye[1] + ry * w
            pz = eye[2] + rz * w
            if t != last:
                last = t
                a = faces[t, 0]
                b = faces[t, 1]
                c = faces[t, 2]
                layer = surface[t, 0]
                tag = surface[t, 1]
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
                u1 = uv[b, 0] - uv[a, 0]
                v1 = uv[b, 1] - uv[a, 1]
                u2 = uv[c, 0] - uv[a, 0]
                v2 = uv[c, 1] - uv[a, 1]
                density = math.sqrt(abs(u1 * v2 - u2 * v1) / math.sqrt(square)) * F(level_sizes[0]) * pixel_angle
            qx = px - ax
            qy = py - ay
            qz = pz - az
            q1 = qx * e1x + qy * e1y + qz * e1z
            q2 = qx * e2x + qy * e2y + qz * e2z
            lb = min(max((d22 * q1 - d12 * q2) * inverse, F(0.0)), F(1.0))
            lc = min(max((d11 * q2 - d12 * q1) * inverse, F(0.0)), F(1.0))
            la = F(1.0) - lb - lc
            u = uv[a, 0] * la + uv[b, 0] * lb + uv[c, 0] * lc
            v = uv[a, 1] * la + uv[b, 1] * lb + uv[c, 1] * lc
            n0 = normals[a, 0] * la + normals[b, 0] * lb + normals[c, 0] * lc
            n1 = normals[a, 1] * la + normals[b, 1] * lb + normals[c, 1] * lc
            n2 = normals[a, 2] * la + normals[b, 2] * lb + normals[c, 2] * lc
            ray = math.sqrt(rx * rx + ry * ry + rz * rz)
            facing = abs(n0 * rx + n1 * ry + n2 * rz) / ray
            # Mip level from the pixel's footprint on the surface, half-way corrected for the grazing angle.
            footprint = w * density / math.sqrt(max(facing, F(0.05)))
            level = 0
            while footprint > F(1.4) and level < level_sizes.shape[0] - 1:
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
            glass = F(0.0)
            if layer >= first_facade:
                glass = (
                    F(texels[t00, 3]) * w00 + F(texels[t10, 3]) * w10 + F(texels[t01, 3]) * w01 + F(texels[t11, 3]) * w11
                ) * F(1.0 / 255.0)
            # Sun, with the shadow map read bilinearly.
            lambert = F(0.0)
            if sunlit:
                lambert = n0 * light[SUN_X] + n1 * light[SUN_Y] + n2 * light[SUN_Z]
                if lambert > F(0.0):
                    lift = F(0.06) + F(0.22) * (F(1.0) - lambert)  # along the normal, against speckles of self-shadow
                    hz = pz + n2 * lift
                    gx = (px + n0 * lift - drift_x * hz - origin_x) / cell - F(0.5)
                    gy = (py + n1 * lift - drift_y * hz - origin_y) / cell - F(0.5)
                    floor_x = np.floor(gx)
                    floor_y = np.floor(gy)
                    jx = int(floor_x)
                    jy = int(floor_y)
                    if jx >= 0 and jy >= 0 and jx < columns - 1 and jy < rows - 1:
                        sx = gx - floor_x
                        sy = gy - floor_y
                        level_cm = hz * F(100.0) + F(6.0)
                        lit = F(0.0)
                        if F(shadow[jy, jx]) <= level_cm:
                            lit += (F(1.0) - sx) * (F(1.0) - sy)
                        if F(shadow[jy, jx + 1]) <= level_cm:
                            lit += sx * (F(1.0) - sy)
                        if F(shadow[jy + 1, jx]) <= level_cm:
                            lit += (F(1.0) - sx) * sy
                        if F(shadow[jy + 1, jx + 1]) <= level_cm:
                            lit += sx * sy
                        lambert *= lit
                else:
                    lambert = F(0.0)
            sheltered = F(0.72) + F(0.28) * n2
            lamps = F(0.0)
            beams = F(0.0)
            window = F(0.0)
            if night > F(0.0):
                mx = (px - origin_x) / lamp_cell
                my = (py - origin_y) / lamp_cell
                kx = int(np.floor(mx))
                ky = int(np.floor(my))
                if kx >= 0 and ky >= 0 and kx < lamp_map.shape[1] - 1 and ky < lamp_map.shape[0] - 1:
                    sx = mx - F(kx)
                    sy = my - F(ky)
                    lamps = (lamp_map[ky, kx] * (F(1.0) - sx) + lamp_map[ky, kx + 1] * sx) * (F(1.0) - sy) + (
                        lamp_map[ky + 1, kx] * (F(1.0) - sx) + lamp_map[ky + 1, kx + 1] * sx
                    ) * sy
                    lamps *= night * min(max(F(1.3) - pz * F(0.14), F(0.0)), F(1.0)) * (F(0.55) + F(0.45) * abs(n2))
                if glass > F(0.5):
                    # Which window this is decides whether somebody is at home.
                    cells = F(window_cells[layer])
                    key = int(math.floor(u * cells)) * 73856093 + int(math.floor(v * cells)) * 19349663 + surface[t, 2] * 83492791
                    if (key >> 4) % 100 < 32:
                        window = night * (F(0.55) + F(0.005) * F((key >> 2) % 90))
            for h in range(headlamps.shape[0]):
                ox = px - headlamps[h, 0]
                oy = py - headlamps[h, 1]
                oz = pz - headlamps[h, 2]
                ahead = ox * headlamps[h, 3] + oy * headlamps[h, 4]
                if ahead > F(0.2) and ahead < F(70.0):
                    sx = (oy * headlamps[h, 3] - ox * headlamps[h, 4]) / ahead
                    sy = oz / ahead + F(0.05)
                    spread = F(1.0) / (F(1.0) + F(5.0) * sx * sx + F(60.0) * sy * sy)
                    distance = math.sqrt(ox * ox + oy * oy + oz * oz)
                    cosine = max(-(n0 * ox + n1 * oy + n2 * oz) / distance, F(0.0))
                    beams += headlamps[h, 5] * spread * spread * (F(0.35) + F(0.65) * cosine) * F(30.0) / (F(30.0) + distance * distance * F(0.5))
            # A wet, level surface darkens and mirrors the sky; puddles mirror more.
            reflect = F(0.0)
            dark = F(1.0)
            if wet > F(0.0) and n2 > F(0.9) and (tag == 1 or tag == 2 or tag == 24):
                cosine = min(facing, F(1.0))
                grazing = F(1.0) - cosine
                fresnel = grazing * grazing
                fresnel = fresnel * fresnel * grazing
                pool = noise_at(clouds, px * F(1.9), py * F(1.9))
                puddle = light[PUDDLES] * min(max((pool - F(0.5)) * F(2.0), F(0.0)), F(1.0)) if tag == 1 else F(0.0)
                reflect = wet * (F(0.02) + F(0.5) * fresnel) + puddle * (F(0.05) + F(0.6) * fresnel)
                dark = F(1.0) - F(0.42) * wet
                _sky(rx, ry, abs(rz), light, clouds, mirror)
            elif glass > F(0.0):
                reflect = glass * (F(0.10) + F(0.3) * (F(1.0) - facing))
                _sky(rx - F(2.0) * n0 * (n0 * rx + n1 * ry), ry - F(2.0) * n1 * (n0 * rx + n1 * ry), abs(rz), light, clouds, mirror)
            haze = F(0.0)
            if w > light[FOG_START]:
                haze = F(1.0) - math.exp((light[FOG_START] - w) * light[FOG_DENSITY])
            emission = F(0.0)
            if lamp > 0:
                emission = lamp_levels[lamp]
            for e in range(3):
                texel = F(texels[t00, e]) * w00 + F(texels[t10, e]) * w10 + F(texels[t01, e]) * w01 + F(texels[t11, e]) * w11
                paint = colours[a, e] * la + colours[b, e] * lb + colours[c, e] * lc
                warm = F(1.0) - F(0.22) * F(e)
                value = light[AMBIENT_R + e] * sheltered + light[SUN_R + e] * lambert + lamps * warm + beams
                if lamp > 0:
                    value = value * F(0.3)
                value = texel * paint * value * dark
                if lamp > 0:
                    value += paint * emission * F(255.0)
                if reflect > F(0.0):
                    value += (mirror[e] * F(255.0) - value) * reflect
                if window > F(0.0):
                    value += window * F(200.0) * (F(1.0) - F(0.25) * F(e)) * glass
                value += (light[FOG_R + e] * F(255.0) - value) * haze
                value = value * light[EXPOSURE_R + e] + light[NOISE] * noise[(grain + e) & (NOISE_TABLE - 1)]
                bgra[iy, ix, 2 - e] = np.uint8(min(max(value, F(0.0)), F(255.0)))
            bgra[iy, ix, 3] = 255
            tags[iy, ix] = tag
            instances[iy, ix] = surface[t, 2]
            metres[iy, ix] = w


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

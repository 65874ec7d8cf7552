"""Which triangles are seen, and what each of them fixes for all of its pixels: worked out once per triangle, by numba.

Texture coordinates, normal and colour change linearly over a triangle, so each is kept as its value at the eye and its
slopes along the camera's axes: at the end of a ray (right x, up y, forward 1) of length w the value is
`value + w (forward + up y + right x)`.
"""

import math

import numpy as np

from roadworthy.agent.town.compiling import Ints, Singles, kernel
from roadworthy.agent.town.texturing import TEXELS_PER_LAYER

F = np.float32
# Columns of a record (float32 [RECORD]): eight quantities of four numbers (value at the eye; slopes forward, up, right).
RECORD_U, RECORD_V, RECORD_NORMAL, RECORD_PAINT = 0, 4, 8, 20
RECORD_DENSITY, RECORD_NEARNESS, RECORD_FIRST_TEXEL, RECORD_LEVEL_GROUND, RECORD_SKY, RECORD_EMISSION = range(32, 38)
RECORD = 38
FACT_LAYER, FACT_TAG, FACT_INSTANCE, FACT_CURVED, FACTS = range(5)  # curved: normal or colour differ between the corners
SKY_TAG, ROAD_TAG, SIDEWALK_TAG, LINE_TAG = 11, 1, 2, 24


@kernel
def number_faces(ids: Ints, number_of: Ints, seen: Ints) -> int:
    """Replace the face of every pixel by its place in `seen`, the list of faces in sight; returns how many there are.

    `number_of` int32 [F] is -1 everywhere, before and after.
    """
    height, width = ids.shape
    count = 0
    for iy in range(height):
        last = -1
        number = -1
        for ix in range(width):
            face = ids[iy, ix]
            if face != last:
                last = face
                number = -1
                if face >= 0:
                    number = number_of[face]
                    if number < 0:
                        number = count
                        number_of[face] = count
                        seen[count] = face
                        count += 1
            ids[iy, ix] = number
    for k in range(count):
        number_of[seen[k]] = -1
    return count


@kernel
def measure_faces(
    seen: Ints, count: int, vertices: Singles, normals: Singles, uv: Singles, colours: Singles, faces: Ints, surface: Ints,
    lamp_levels: Singles, eye: Singles, axes: Singles, finest: float, records: Singles, facts: Ints,
) -> None:  # fmt: skip
    """Fill `records` float32 [n, RECORD] and `facts` int32 [n, FACTS] for `count` faces of `seen`, and one row more for sky.

    `axes` [3, 3]: the camera's right, up, forward; `finest`: texels per repeat times the angle of a pixel.
    """
    first = np.empty(8, np.float32)
    step_b = np.empty(8, np.float32)
    step_c = np.empty(8, np.float32)
    slope = np.empty((2, 4), np.float32)
    for k in range(count):
        t = seen[k]
        a = faces[t, 0]
        b = faces[t, 1]
        c = faces[t, 2]
        ax = vertices[a, 0]
        ay = vertices[a, 1]
        az = vertices[a, 2]
        bx = vertices[b, 0] - ax
        by = vertices[b, 1] - ay
        bz = vertices[b, 2] - az
        cx = vertices[c, 0] - ax
        cy = vertices[c, 1] - ay
        cz = vertices[c, 2] - az
        nx = by * cz - bz * cy
        ny = bz * cx - bx * cz
        nz = bx * cy - by * cx
        square = max(nx * nx + ny * ny + nz * nz, F(1e-20))
        inverse = F(1.0) / square
        from_x = eye[0] - ax
        from_y = eye[1] - ay
        from_z = eye[2] - az
        # The two vectors whose products with a place give its shares of b and c.
        for corner in range(2):
            if corner == 0:
                gx = (cy * nz - cz * ny) * inverse
                gy = (cz * nx - cx * nz) * inverse
                gz = (cx * ny - cy * nx) * inverse
            else:
                gx = (ny * bz - nz * by) * inverse
                gy = (nz * bx - nx * bz) * inverse
                gz = (nx * by - ny * bx) * inverse
            slope[corner, 0] = gx * from_x + gy * from_y + gz * from_z
            slope[corner, 1] = gx * axes[2, 0] + gy * axes[2, 1] + gz * axes[2, 2]
            slope[corner, 2] = gx * axes[1, 0] + gy * axes[1, 1] + gz * axes[1, 2]
            slope[corner, 3] = gx * axes[0, 0] + gy * axes[0, 1] + gz * axes[0, 2]
        for e in range(2):
            first[e] = uv[a, e]
            step_b[e] = uv[b, e] - uv[a, e]
            step_c[e] = uv[c, e] - uv[a, e]
        curved = 0
        for e in range(3):
            first[2 + e] = normals[a, e]
            step_b[2 + e] = normals[b, e] - normals[a, e]
            step_c[2 + e] = normals[c, e] - normals[a, e]
            if step_b[2 + e] != F(0.0) or step_c[2 + e] != F(0.0):
                curved = 1
            first[5 + e] = colours[a, e]
            step_b[5 + e] = colours[b, e] - colours[a, e]
            step_c[5 + e] = colours[c, e] - colours[a, e]
            if step_b[5 + e] != F(0.0) or step_c[5 + e] != F(0.0):
                curved = 1
        for e in range(8):
            records[k, 4 * e] = first[e] + step_b[e] * slope[0, 0] + step_c[e] * slope[1, 0]
            for s in range(1, 4):
                records[k, 4 * e + s] = step_b[e] * slope[0, s] + step_c[e] * slope[1, s]
        area = math.sqrt(square)
        spread = abs(step_b[0] * step_c[1] - step_c[0] * step_b[1])
        records[k, RECORD_DENSITY] = spread / area * finest * finest
        away = abs(nx * from_x + ny * from_y + nz * from_z) / area
        records[k, RECORD_NEARNESS] = F(1.0) / max(away, F(1e-3))
        layer = surface[t, 0]
        tag = surface[t, 1]
        lamp = surface[t, 3]
        ground = F(2.0) if tag == ROAD_TAG else F(0.0)
        ground = F(1.0) if tag in (SIDEWALK_TAG, LINE_TAG) else ground
        records[k, RECORD_FIRST_TEXEL] = F(layer * TEXELS_PER_LAYER)
        records[k, RECORD_LEVEL_GROUND] = ground
        records[k, RECORD_SKY] = F(0.0)
        records[k, RECORD_EMISSION] = lamp_levels[lamp] * F(255.0) if lamp > 0 else F(-1.0)
        facts[k, FACT_LAYER] = layer
        facts[k, FACT_TAG] = tag
        facts[k, FACT_INSTANCE] = surface[t, 2]
        facts[k, FACT_CURVED] = curved
    for e in range(RECORD):
        records[count, e] = F(0.0)
    records[count, RECORD_NORMAL + 8] = F(-1.0)  # no sun on the sky
    records[count, RECORD_SKY] = F(1.0)
    records[count, RECORD_EMISSION] = F(-1.0)
    for e in range(FACTS):
        facts[count, e] = 0
    facts[count, FACT_TAG] = SKY_TAG

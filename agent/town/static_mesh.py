"""The static mesh cut into square tiles, in the order that the rasteriser wants: a tile's vertices and faces lie together.

What lies flat on the ground and what stands on it are tiles of their own: flat tiles are thin, so that they are quickly seen
to be hidden, and the others are hidden where no ground shows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.mesh import Mesh
from roadworthy.agent.town.tags import Tag

TILE = 16.0  # [m]
_GROUND = (Tag.ROADS, Tag.SIDEWALKS, Tag.TERRAIN, Tag.ROAD_LINES, Tag.GROUND)


@dataclass(frozen=True)
class TiledMesh:
    """A mesh sorted by tile."""

    vertices: NDArray[np.float32]  # [V, 3]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    colours: NDArray[np.float32]
    faces: NDArray[np.int32]  # [F, 3]
    surface: NDArray[np.int32]  # [F, 4]
    spans: NDArray[np.int32]  # [n, 6] first and last vertex, first face, then the ends of ALWAYS, NEAR_ONLY and FAR_ONLY faces
    boxes: NDArray[np.float32]  # [n, 6] low and high corner


def tile_mesh(mesh: Mesh) -> TiledMesh:
    """Sort faces by tile and detail; a vertex that faces of two tiles share is copied."""
    corners = mesh.vertices[mesh.faces]  # [F, 3, 3]
    middle = (corners.min(1) + corners.max(1))[:, :2] / 2
    cell = np.floor(middle / TILE).astype(np.int64)
    stands = ~np.isin(mesh.tags, _GROUND)
    key = ((cell[:, 0] - cell[:, 0].min()) * 100_000 + (cell[:, 1] - cell[:, 1].min())) * 2 + stands
    order = np.lexsort((np.arange(len(key)), mesh.detail, key))
    key, faces, surface, detail = key[order], mesh.faces[order], mesh.surface[order], mesh.detail[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    ends = np.append(starts[1:], len(key))
    new_faces = np.empty_like(faces)
    picked, spans, boxes = [], [], []
    count = 0
    for start, end in zip(starts, ends, strict=True):
        used, inverse = np.unique(faces[start:end], return_inverse=True)
        new_faces[start:end] = inverse.reshape(-1, 3) + count
        points = mesh.vertices[used]
        stops = start + np.searchsorted(detail[start:end], [1, 2, 3])
        spans.append((count, count + len(used), start, *stops))
        boxes.append(np.concatenate([points.min(0), points.max(0)]))
        picked.append(used)
        count += len(used)
    take = np.concatenate(picked)
    return TiledMesh(
        mesh.vertices[take], mesh.normals[take], mesh.uv[take], mesh.colours[take], new_faces, surface,
        np.array(spans, np.int32), np.array(boxes, np.float32),
    )  # fmt: skip

"""The pedestrian navigation mesh that a CARLA client downloads: without it AI walkers stand still.

The file is what recastnavigation's Detour reads (one tile in an "MSET" container, 32-bit references). Detour's axes are
(x, up, y) of CARLA's metres. CARLA's client caches the file under its name and never fetches it again, so the name
carries a hash of the content.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.convex import MAX_CORNERS, ConvexMesh, partition
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.walkways import AGENT_RADIUS_M, walkways

# Area ids and polygon flags that the client filters on. A random destination lies on the sidewalk.
SIDEWALK, CROSSWALK, ROAD = 1, 2, 3
FLAGS = {SIDEWALK: 0x02, CROSSWALK: 0x04, ROAD: 0x08}

AGENT_HEIGHT_M = 1.8  # [m]
AGENT_CLIMB_M = 0.3  # [m] a kerb is lower
MAX_COUNT = 0xFFFF  # vertices and polygons have 16-bit indices


class NavmeshError(Exception):
    """The map has no place to walk, or more than one navigation tile can hold."""


@dataclass(frozen=True)
class Navmesh:
    """A navigation mesh as the server hands it out."""

    file_name: str  # as in get_required_files: "Carla/Maps/<map>/Nav/<map>-<hash>.bin"
    data: bytes
    counts: dict[int, int]  # polygons per area id


def build_navmesh(name: str, text: str) -> Navmesh:
    """Build the mesh of the OpenDRIVE map `text`, named `name`. Raises `NavmeshError`, and `MapError` for an unusable map."""
    return navmesh_of(RoadNetwork.from_opendrive(name, text))


def navmesh_of(roads: RoadNetwork) -> Navmesh:
    """Build the mesh of a road network. Raises `NavmeshError`."""
    ways = walkways(roads)
    mesh = partition([(ways.sidewalk, SIDEWALK), (ways.crosswalks, CROSSWALK), (ways.road, ROAD)])
    if SIDEWALK not in mesh.labels:
        raise NavmeshError(f"map {roads.name!r} has no place for pedestrians, expected a sidewalk or room beside a road")
    if max(len(mesh.vertices), len(mesh.polygons)) >= MAX_COUNT:
        raise NavmeshError(
            f"map {roads.name!r} needs {len(mesh.vertices)} vertices and {len(mesh.polygons)} polygons for pedestrians, "
            f"one navigation tile holds {MAX_COUNT - 1}: use a smaller map"
        )
    z = [roads.surface_at(x, y).height for x, y in mesh.vertices]  # [V]
    data = encode(np.column_stack([mesh.vertices, z]), mesh)
    digest = hashlib.sha256(data).hexdigest()[:12]
    counts = {area: mesh.labels.count(area) for area in FLAGS}
    return Navmesh(f"Carla/Maps/{roads.name}/Nav/{roads.name}-{digest}.bin", data, counts)


def encode(vertices: npt.NDArray[np.float64], mesh: ConvexMesh) -> bytes:
    """Write the file: `vertices` are x, y, z in CARLA's metres `[V, 3]`; `mesh.labels` are area ids."""
    points = vertices[:, [0, 2, 1]].astype("<f4")  # [V, 3] Detour: x, up, y
    margin = np.array([1, 2, 1], np.float32)
    low, high = points.min(0) - margin, points.max(0) + margin
    owners = mesh.edge_owners()
    polygons: list[bytes] = []
    details: list[bytes] = []
    triangles: list[bytes] = []
    link_count = 0
    for corners, area in zip(mesh.polygons, mesh.labels, strict=True):
        n = len(corners)
        # The neighbour across an edge runs along it the other way; 0 = border, else polygon index + 1.
        neighbours = [owners.get((corners[(i + 1) % n], corners[i]), -1) + 1 for i in range(n)]
        padding = [0] * (MAX_CORNERS - n)
        link_count += n
        polygons.append(struct.pack("<I6H6HHBB", 0, *corners, *padding, *neighbours, *padding, FLAGS[area], n, area))
        # The height detail is compulsory (the client crashes without): a fan over the corners, nothing added.
        details.append(struct.pack("<IIBBxx", 0, len(triangles), 0, n - 2))
        for j in range(2, n):  # bits 0, 2, 4: that edge of the triangle is an edge of the polygon
            on_border = 0b00100 | (0b00001 if j == 2 else 0) | (0b10000 if j == n - 1 else 0)
            triangles.append(struct.pack("4B", 0, j - 1, j, on_border))
    quantisation = 65000.0 / float((high - low).max())
    nodes = _bounding_volumes(points, mesh.polygons, low, quantisation)
    header = struct.pack(
        "<5iI9i3f3f3ff",
        *(0x444E4156, 7, 0, 0, 0, 0),  # "VAND", version, tile x, y, layer, user id
        *(len(polygons), len(points), link_count, len(details), 0, len(triangles), len(nodes), 0, len(polygons)),
        *(AGENT_HEIGHT_M, AGENT_RADIUS_M, AGENT_CLIMB_M),
        *low,
        *high,
        quantisation,
    )
    tile = b"".join([header, points.tobytes(), *polygons, bytes(12 * link_count), *details, *triangles, *nodes])
    polygon_bits = max(1, math.ceil(math.log2(len(polygons))))
    reference = 1 << polygon_bits  # tile 0 with salt 1 (with salt 0 the first polygon would get the null reference)
    extent = high - low
    return b"".join(
        [
            struct.pack("<3i", 0x4D534554, 1, 1),  # "MSET", version, number of tiles
            struct.pack("<3f2f2i", *low, extent[0], extent[2], 1, 1 << polygon_bits),
            struct.pack("<Ii", reference, len(tile)),
            tile,
        ]
    )


def _bounding_volumes(
    points: npt.NDArray[np.float32], polygons: Sequence[tuple[int, ...]], low: npt.NDArray[np.float32], quantisation: float
) -> list[bytes]:
    """The bounding-volume tree, depth first: leaves name a polygon, inner nodes how many nodes to skip (negative)."""
    boxes_low = np.array([np.floor((points[list(p)].min(0) - low) * quantisation) for p in polygons]).astype(int)  # [P, 3]
    boxes_high = np.array([np.ceil((points[list(p)].max(0) - low) * quantisation) for p in polygons]).astype(int)
    nodes: list[bytes] = []

    def add(ids: npt.NDArray[np.intp]) -> None:
        at = len(nodes)
        nodes.append(b"")
        mins, maxs = boxes_low[ids].min(0), boxes_high[ids].max(0)
        if len(ids) == 1:
            index = int(ids[0])
        else:
            axis = int(np.argmax(maxs - mins))
            ordered = ids[np.argsort(boxes_low[ids, axis], kind="stable")]
            add(ordered[: len(ids) // 2])
            add(ordered[len(ids) // 2 :])
            index = at - len(nodes)
        nodes[at] = struct.pack("<6Hi", *(int(v) for v in (*mins, *maxs)), index)

    add(np.arange(len(polygons)))
    return nodes

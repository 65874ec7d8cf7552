"""The navigation mesh: sound as a mesh (no inner walls), and as the bytes that Detour reads."""

import dataclasses
import math
import struct

import networkx as nx
import numpy as np
import pytest
import shapely
from shapely.geometry import Point, Polygon, box

from roadworthy.agent.town.convex import ConvexMesh, partition
from roadworthy.agent.town.navmesh import CROSSWALK, ROAD, SIDEWALK, NavmeshError, build_navmesh, navmesh_of
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.walkways import Walkways, walkways


def straight_road(sidewalk: bool = True, elevation: float = 0.0) -> str:
    """OpenDRIVE of one 60 m road: two driving lanes of 3.5 m and, if wanted, a 2 m sidewalk on the right."""
    walk = '<lane id="-2" type="sidewalk"><width sOffset="0" a="2" b="0" c="0" d="0"/></lane>' if sidewalk else ""
    return f"""<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4" name="" version="1"/>
    <road name="" length="60" id="1" junction="-1"><link/><type s="0" type="town"/>
    <planView><geometry s="0" x="0" y="0" hdg="0" length="60"><line/></geometry></planView>
    <elevationProfile><elevation s="0" a="{elevation}" b="0.05" c="0" d="0"/></elevationProfile><lateralProfile/>
    <lanes><laneSection s="0">
      <left><lane id="1" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></left>
      <center><lane id="0" type="none"/></center>
      <right><lane id="-1" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane>{walk}</right>
    </laneSection></lanes></road></OpenDRIVE>"""


def shapes(mesh: ConvexMesh) -> list[Polygon]:
    return [Polygon(mesh.vertices[list(corners)]) for corners in mesh.polygons]


def check_sound(mesh: ConvexMesh, expected_area: float) -> None:
    """Every polygon convex, clockwise and within six corners; every inner edge shared whole by exactly two."""
    owners = mesh.edge_owners()
    assert len(owners) == sum(len(corners) for corners in mesh.polygons), "an edge belongs to two polygons on one side"
    for corners, shape in zip(mesh.polygons, shapes(mesh), strict=True):
        assert 3 <= len(corners) <= 6
        assert shape.convex_hull.area == pytest.approx(shape.area, abs=1e-6)
        if shape.area > 1e-6:
            assert not shape.exterior.is_ccw
    unmatched = sum(math.dist(mesh.vertices[a], mesh.vertices[b]) for a, b in owners if (b, a) not in owners)
    covered = shapely.union_all(shapes(mesh), grid_size=0.001)
    assert unmatched == pytest.approx(covered.length, rel=1e-4), "inner walls: edges inside the mesh without a neighbour"
    assert covered.area == pytest.approx(expected_area, rel=1e-3)


def walking_parts(mesh: ConvexMesh) -> list[float]:
    """Areas of the parts that one can walk within without stepping on the road, largest first."""
    owners = mesh.edge_owners()
    graph = nx.Graph()
    graph.add_nodes_from(k for k, label in enumerate(mesh.labels) if label != ROAD)
    for (a, b), k in owners.items():
        other = owners.get((b, a))
        if other in graph and k in graph:
            graph.add_edge(k, other)
    areas = [shape.area for shape in shapes(mesh)]
    return sorted((sum(areas[k] for k in part) for part in nx.connected_components(graph)), reverse=True)


def regions(ways: Walkways) -> list[tuple[shapely.Geometry, int]]:
    return [(ways.sidewalk, SIDEWALK), (ways.crosswalks, CROSSWALK), (ways.road, ROAD)]


def test_partition_matches_t_junctions_and_holes() -> None:
    # A block beside two half blocks (a T junction), round a hole, and an overlap that the first region wins.
    ring = box(0, 0, 30, 30).difference(Point(10, 10).buffer(3))
    mesh = partition([(ring, 1), (box(30, 0, 40, 13.37), 2), (box(25, 10, 40, 30), 3)])
    check_sound(mesh, expected_area=shapely.union_all([ring, box(30, 0, 40, 13.37), box(25, 10, 40, 30)]).area)
    area = dict.fromkeys((1, 2, 3), 0.0)
    for shape, label in zip(shapes(mesh), mesh.labels, strict=True):
        area[label] += shape.area
    assert area[1] == pytest.approx(ring.area, rel=1e-3)
    assert area[2] == pytest.approx(133.7, rel=1e-3)


@pytest.mark.parametrize(("crack_m", "filled"), [(0.02, True), (0.3, False)])
def test_partition_fills_hairline_cracks_only(crack_m: float, filled: bool) -> None:
    frame = [(box(0, -5, 20, 0), 1), (box(0, 10, 20, 15), 1)]
    mesh = partition([(box(0, 0, 10, 10), 1), (box(10 + crack_m, 0, 20, 10), 1), *frame])
    check_sound(mesh, expected_area=400 if filled else 400 - 10 * crack_m)
    across = shapely.LineString([(9, 5), (11, 5)])
    assert shapely.union_all(shapes(mesh)).contains(across) == filled


@pytest.mark.parametrize("sidewalk", [True, False])
def test_regions_of_a_road_with_and_without_sidewalk(sidewalk: bool) -> None:
    roads = RoadNetwork.from_opendrive("road", straight_road(sidewalk))
    ways = walkways(roads)
    assert ways.sidewalk.contains(Point(30, 4.5))  # beside the right lane; y of the map is mirrored in CARLA
    assert ways.sidewalk.contains(Point(30, -4.5)) != sidewalk  # a band on both sides where the map has none
    assert ways.sidewalk.distance(roads.drivable) == pytest.approx(0.3, abs=0.1)  # room for the walker's body
    assert ways.sidewalk.intersection(ways.road).area == pytest.approx(0, abs=1e-6)
    check_sound(partition(regions(ways)), shapely.union_all([area for area, _ in regions(ways)]).area)


def test_whole_towns_are_connected(town_map: tuple[str, str]) -> None:
    roads = RoadNetwork.from_opendrive(*town_map)
    ways = walkways(roads)
    mesh = partition(regions(ways))
    check_sound(mesh, shapely.union_all([area for area, _ in regions(ways)]).area)
    parts = walking_parts(mesh)
    assert parts[0] > 0.9 * sum(parts), "most of the town can be reached on foot without stepping on the road"
    counts = navmesh_of(roads).counts
    assert counts == {area: mesh.labels.count(area) for area in (SIDEWALK, CROSSWALK, ROAD)}
    assert min(counts.values()) > 10


def test_name_carries_the_content() -> None:
    one, same = build_navmesh("road", straight_road()), build_navmesh("road", straight_road())
    assert (one.file_name, one.data) == (same.file_name, same.data)
    assert one.file_name.startswith("Carla/Maps/road/Nav/road-")
    assert build_navmesh("road", straight_road(elevation=1.0)).file_name != one.file_name


def test_bytes_follow_the_detour_layout() -> None:
    roads = RoadNetwork.from_opendrive("road", straight_road(elevation=2.0))
    mesh = partition(regions(walkways(roads)))
    data = navmesh_of(roads).data
    assert struct.unpack_from("<3i", data) == (0x4D534554, 1, 1)
    assert data[:4] == b"TESM"
    max_tiles, max_polygons = struct.unpack_from("<2i", data, 12 + 20)
    reference, size = struct.unpack_from("<Ii", data, 40)
    assert max_tiles == 1
    assert max_polygons >= len(mesh.polygons)
    assert reference == max_polygons  # salt 1, tile 0
    assert len(data) == 48 + size

    header = struct.unpack_from("<5iI9i3f3f3ff", data, 48)
    magic, version = header[:2]
    polygons, vertices, links, details, _, triangles, nodes, _, off_mesh_base = header[6:15]
    assert (magic, version) == (0x444E4156, 7)
    assert (polygons, vertices, off_mesh_base) == (len(mesh.polygons), len(mesh.vertices), len(mesh.polygons))
    assert details == polygons
    assert nodes == 2 * polygons - 1
    assert size == 100 + 12 * vertices + 32 * polygons + 12 * links + 12 * details + 4 * triangles + 16 * nodes

    at = 148
    corners = np.frombuffer(data, "<f4", 3 * vertices, at).reshape(-1, 3)  # x, up, y
    np.testing.assert_allclose(corners[:, [0, 2]], mesh.vertices, atol=1e-4)
    np.testing.assert_allclose(corners[:, 1], 2.0 + 0.05 * corners[:, 0], atol=0.4)  # the road climbs by 5 %
    low, high, factor = np.array(header[18:21]), np.array(header[21:24]), header[24]
    assert (corners >= low).all()
    assert (corners <= high).all()

    at += 12 * vertices
    records = [struct.unpack_from("<I6H6HHBB", data, at + 32 * k) for k in range(polygons)]
    for k, (corner_ids, label) in enumerate(zip(mesh.polygons, mesh.labels, strict=True)):
        neighbours, (flags, count, area) = records[k][7:13], records[k][13:]
        assert records[k][1 : 1 + count] == corner_ids
        assert (area, flags) == (label, {SIDEWALK: 2, CROSSWALK: 4, ROAD: 8}[label])
        for i, neighbour in enumerate(neighbours[:count]):
            if neighbour:  # and the neighbour knows us
                assert k + 1 in records[neighbour - 1][7:13]
                assert {corner_ids[i], corner_ids[(i + 1) % count]} <= set(mesh.polygons[neighbour - 1])

    at += 32 * polygons + 12 * links + 12 * details + 4 * triangles
    tree = [struct.unpack_from("<6Hi", data, at + 16 * k) for k in range(nodes)]
    assert sorted(node[6] for node in tree if node[6] >= 0) == list(range(polygons))
    for node in tree:
        if node[6] >= 0:  # a leaf's box holds its polygon
            points = (corners[list(mesh.polygons[node[6]])] - low) * factor
            assert (points.min(0) >= np.array(node[:3]) - 1).all()
            assert (points.max(0) <= np.array(node[3:6]) + 1).all()


def test_nowhere_to_walk_is_an_error() -> None:
    roads = RoadNetwork.from_opendrive("road", straight_road())
    with pytest.raises(NavmeshError, match="no place for pedestrians"):
        navmesh_of(dataclasses.replace(roads, sidewalk=Polygon()))

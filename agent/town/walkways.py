"""Where people may walk: sidewalks, crossings, and the road itself, as disjoint plane regions of a road network.

Two dimensions: stacked levels (bridges) are not told apart, and street furniture is not walked round.
"""

from __future__ import annotations

from dataclasses import dataclass

import shapely
from shapely.geometry.base import BaseGeometry

from roadworthy.agent.town.roads import RoadNetwork

AGENT_RADIUS_M = 0.3  # [m] the client keeps no distance from the mesh's border itself, so the sidewalk is shrunk by this
CROSSING_M = 3.0  # [m] width of a crossing where the map has none
CROSSING_SETBACK_M = 0.5  # [m] from the junction to that crossing
TOUCH_M = 0.05  # [m] by which neighbouring regions overlap before they are cut apart
SIMPLIFY_M = 0.05  # [m]
SMALLEST_CROSSING_M2 = 1.0  # [m2] of road that a crossing bridges; smaller pieces are stubs


@dataclass(frozen=True)
class Walkways:
    """Disjoint regions in CARLA's x, y plane."""

    sidewalk: BaseGeometry
    crosswalks: BaseGeometry
    road: BaseGeometry


def walkways(roads: RoadNetwork) -> Walkways:
    """Take the regions from the surfaces that are drawn; a map without crossings gets one on each arm of its junctions."""
    sidewalk = roads.sidewalk.buffer(-AGENT_RADIUS_M, join_style="mitre").simplify(SIMPLIFY_M)
    # Both the road and the crossings reach over the kerb to the shrunk sidewalk; there people step off it.
    reach = AGENT_RADIUS_M + TOUCH_M
    surface = roads.drivable.buffer(reach)
    if roads.crosswalks:
        crossings: BaseGeometry = shapely.union_all(roads.crosswalks).buffer(2 * reach, join_style="mitre")
    else:
        inner = [junction.buffer(CROSSING_SETBACK_M) for junction in roads.junctions.values()]
        outer = [area.buffer(CROSSING_M) for area in inner]
        crossings = shapely.union_all(outer).difference(shapely.union_all(inner))
    pieces = shapely.get_parts(crossings.intersection(surface).difference(sidewalk))
    bridges = [piece for piece in pieces if piece.intersection(roads.drivable).area > SMALLEST_CROSSING_M2]
    crosswalks = shapely.union_all(bridges)
    return Walkways(sidewalk, crosswalks, surface.difference(sidewalk).difference(crosswalks))

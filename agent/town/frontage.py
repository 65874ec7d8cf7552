"""Frontages: straight stretches along the edge of the streets, where houses, fences and lamps stand."""

from dataclasses import dataclass

import numpy as np
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient
from shapely.ops import substring

from roadworthy.agent.town.mesh import Pose
from roadworthy.agent.town.surfaces import polygons_of


@dataclass(frozen=True)
class Frontage:
    """A stretch of the street's edge. In its pose local x runs along the edge and local y away from the street."""

    pose: Pose  # at the middle of the stretch
    length: float  # [m]


def frontages(paved: BaseGeometry, rng: np.random.Generator, shortest: float, longest: float) -> list[Frontage]:
    """Cut every edge of the paved area into stretches of random length; where it bends sharply, into shorter ones."""
    found = []
    for polygon in polygons_of(paved):
        turned = orient(polygon, 1.0)
        for ring in (turned.exterior, *turned.interiors):
            edge = LineString(np.array(ring.coords)[::-1, :2])  # reversed: the outside lies towards local +y
            if edge.length < 3 * longest:
                continue
            start = float(rng.uniform(0, 4))
            while start + shortest < edge.length:
                length = float(rng.uniform(shortest, longest))
                stretch = _straight(edge, start, min(length, edge.length - start))
                if stretch is not None:
                    found.append(stretch)
                    start += stretch.length
                else:
                    start += 2.0
    return found


def _straight(edge: LineString, start: float, length: float) -> Frontage | None:
    while length > 3.0:
        piece = np.array(substring(edge, start, start + length).coords)
        chord = piece[-1] - piece[0]
        span = float(np.hypot(*chord))
        if span > 2.0:
            along = chord / span
            offsets = (piece - piece[0]) @ np.array([-along[1], along[0]])
            if np.abs(offsets).max() < 0.6:
                middle = (piece[0] + piece[-1]) / 2
                return Frontage(Pose(float(middle[0]), float(middle[1]), 0.0, float(np.arctan2(along[1], along[0]))), span)
        length *= 0.6
    return None

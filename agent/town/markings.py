"""Paint on the road: lane borders, stop lines and zebra crossings, each as thin convex strips. UE axes."""

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon
from shapely.ops import substring

from roadworthy.agent.town.lanes import LaneShape, Mark
from roadworthy.agent.town.signals import Signal

Array = NDArray[np.float64]
DASH, PAUSE = 3.0, 5.0  # [m]
_DOUBLE_GAP = 0.12  # [m] between the two lines of a double line
_LINE_WIDTH = 0.14  # [m] where the map gives none
_BAR, _BAR_PAUSE = 0.55, 0.6  # [m] bars of a zebra crossing


@dataclass(frozen=True)
class Marking:
    """A painted strip along a line."""

    kind: str  # "solid", "broken", "stop" or "zebra"
    colour: str  # "white", "yellow", "blue", "green" or "red"
    line: Array  # [n, 3] metres: the middle of the strip
    width: float  # [m]

    @property
    def polygon(self) -> Polygon:
        """The strip's outline."""
        return LineString(self.line[:, :2]).buffer(self.width / 2, cap_style="flat", join_style="mitre")


def lane_markings(lanes: tuple[LaneShape, ...]) -> list[Marking]:
    """The paint of every driving lane's two borders; a border shared with an oncoming or next lane is painted once."""
    spans = {(s.span.road, s.span.start, s.span.lane): s for s in lanes}
    found: list[Marking] = []
    for shape in lanes:
        if shape.span.kind not in ("driving", "bidirectional", "shoulder"):
            continue
        for side, border, marks in ((-1, shape.left, shape.left_marks), (1, shape.right, shape.right_marks)):
            lane = shape.span.lane
            # The neighbour that shares the border: inwards on the left, outwards on the right (ids skip 0).
            outward = 1 if lane > 0 else -1
            other = lane + (outward if side > 0 else -outward)
            other = other if other != 0 else -lane
            twin = spans.get((shape.span.road, shape.span.start, other))
            if twin is not None and _paints_first(twin, shape):
                continue
            inset = 0.25 if side > 0 and (twin is None or twin.span.kind == "sidewalk") else 0.0
            for piece, mark in _pieces(border, marks):
                found += _border(piece, mark, side * -inset)
    return found


def _pieces(border: Array, marks: tuple[Mark, ...]) -> list[tuple[Array, Mark]]:
    """The stretches of a border [n, 3] with one mark each; neighbours share the sample where the mark changes."""
    starts = [0, *(k for k in range(1, len(marks)) if marks[k] != marks[k - 1])]
    ends = [*starts[1:], len(marks) - 1]
    return [(border[start : end + 1], marks[start]) for start, end in zip(starts, ends, strict=True) if end > start]


def _paints_first(twin: LaneShape, shape: LaneShape) -> bool:
    """Of two lanes that share a border the one with the larger id paints it."""
    return twin.span.kind in ("driving", "bidirectional", "shoulder") and twin.span.lane > shape.span.lane


def _border(border: Array, mark: Mark, offset: float) -> list[Marking]:
    kind, colour, width = mark[0].lower(), mark[1].lower(), mark[2] if mark[2] > 0.02 else _LINE_WIDTH
    colour = colour if colour in ("yellow", "blue", "green", "red") else "white"
    if not any(word in kind for word in ("solid", "broken", "botts")):
        return []
    halves = {
        "solidsolid": (True, True),
        "brokenbroken": (False, False),
        "solidbroken": (True, False),
        "brokensolid": (False, True),
    }.get(kind)
    if halves is None:
        return _painted(shifted(border, offset), kind == "solid", colour, width)
    apart = (_DOUBLE_GAP + width) / 2
    left = _painted(shifted(border, offset - apart), halves[0], colour, width)
    return left + _painted(shifted(border, offset + apart), halves[1], colour, width)


def _painted(line: Array, solid: bool, colour: str, width: float) -> list[Marking]:
    if solid:
        return [Marking("solid", colour, line, width)]
    whole = LineString(line)
    dashes = []
    start = 1.0
    while start + 0.5 * DASH < whole.length:
        piece = substring(whole, start, min(start + DASH, whole.length))
        dashes.append(Marking("broken", colour, np.array(piece.coords), width))
        start += DASH + PAUSE
    return dashes


def shifted(line: Array, offset: float) -> Array:
    """`line` [n, 3] moved `offset` metres to its right."""
    if offset == 0:
        return line
    tangent = np.gradient(line[:, :2], axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    moved = line.copy()
    moved[:, 0] -= tangent[:, 1] * offset
    moved[:, 1] += tangent[:, 0] * offset
    return moved


def stop_markings(signals: tuple[Signal, ...]) -> list[Marking]:
    """A stop line across each lane that a light or stop sign commands; a thinner one at a yield sign."""
    found = {}
    for signal in signals:
        if signal.kind not in ("light", "stop", "yield"):
            continue
        for stop in signal.stops:
            yaw = math.radians(stop.yaw)
            across = np.array([-math.sin(yaw), math.cos(yaw), 0.0]) * (stop.half_width - 0.1)
            middle = np.array([stop.x, stop.y, stop.z])
            width = 0.25 if signal.kind == "yield" else 0.45
            found[stop.road, stop.lane] = Marking("stop", "white", np.stack([middle - across, middle + across]), width)
    return list(found.values())


def zebra(crossing: Polygon) -> list[Marking]:
    """White bars along the traffic's direction over a crossing, which runs along the longer side of its rectangle."""
    ring = shapely.get_coordinates(shapely.minimum_rotated_rectangle(crossing))[:4]
    sides = np.roll(ring, -1, axis=0) - ring
    lengths = np.linalg.norm(sides, axis=1)
    first = 0 if lengths[0] >= lengths[1] else 1
    along = sides[first] / lengths[first]
    depth = sides[first + 1]
    bars = []
    start = 0.35
    while start + _BAR < lengths[first]:
        foot = ring[first] + along * (start + _BAR / 2)
        line = np.zeros((2, 3))
        line[0, :2], line[1, :2] = foot + depth * 0.08, foot + depth * 0.92
        bars.append(Marking("zebra", "white", line, _BAR))
        start += _BAR + _BAR_PAUSE
    return bars

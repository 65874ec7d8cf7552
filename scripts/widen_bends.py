"""Widens the lanes of a street where it turns a corner, as road builders do: a bus sweeps more than its own width there."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

from roadworthy.scripts.merge_roads import child

TIGHT_M = 60.0  # [m] streets that curve with a smaller radius are widened
EXTRA_M = 0.6  # [m] for each lane
RAMP_M = 16.0  # [m] over which a lane grows before the bend, and shrinks behind it


def widen_bends(root: ET.Element) -> None:
    """Widen the driving lanes of every bend that has room for its ramps on its own road."""
    for road in root.findall("road"):
        if road.get("junction") != "-1":
            continue
        length = float(road.get("length", "0"))
        for start, end in tight_bends(road):
            if start < RAMP_M or end + RAMP_M > length:
                continue
            for lane in road.findall("lanes/laneSection//lane"):
                if lane.get("type") == "driving":
                    _widen(lane, start, end)


def tight_bends(road: ET.Element) -> list[tuple[float, float]]:
    """Where a road curves with less than `TIGHT_M`: (start, end) in metres along it."""
    pieces = road.findall("planView/geometry")
    curves = []  # (start, end) of pieces that turn
    for piece, after in pairwise(pieces):
        start, end = float(piece.get("s", "0")), float(after.get("s", "0"))
        turn = abs(math.remainder(float(after.get("hdg", "0")) - float(piece.get("hdg", "0")), 2 * math.pi))
        if turn > 1e-3 and (end - start) / turn < TIGHT_M:
            curves.append((start, end))
    joined: list[tuple[float, float]] = []
    for start, end in curves:
        if joined and start - joined[-1][1] < 2 * RAMP_M:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _widen(lane: ET.Element, start: float, end: float) -> None:
    """Add the width records of one bend: a smooth cubic up, a constant stretch, a smooth cubic down."""
    first = child(lane, "width")
    base = float(first.get("a", "0"))
    at = list(lane).index(lane.findall("width")[-1]) + 1
    c, d = 3 * EXTRA_M / RAMP_M**2, -2 * EXTRA_M / RAMP_M**3
    records = [
        (start - RAMP_M, base, c, d), (start, base + EXTRA_M, 0.0, 0.0), (end, base + EXTRA_M, -c, -d),
        (end + RAMP_M, base, 0.0, 0.0),
    ]  # fmt: skip
    for k, (s, a, quadratic, cubic) in enumerate(records):
        record = ET.Element("width", sOffset=f"{s:.4f}", a=f"{a:.4f}", b="0", c=f"{quadratic:.10f}", d=f"{cubic:.10f}")
        lane.insert(at + k, record)

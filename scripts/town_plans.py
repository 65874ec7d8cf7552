"""The shipped towns on paper: corners, streets between them, which corners have traffic lights. `make_maps` builds them."""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

Point = tuple[float, float]
BEND_M = 30.0  # [m] radius of a street that turns a corner: a bus keeps its lane there at 30 km/h


@dataclass(frozen=True)
class Street:
    """One street between two corners; one-way when `back_lanes` is 0."""

    start: str
    end: str
    lanes: int = 1
    back_lanes: int = -1  # -1: as many as `lanes`
    lane_width: float = 3.5  # [m]
    sidewalk_width: float = 2.4  # [m]; 0: none
    speed: float = 8.34  # [m/s]; crossings are only guessed under 13.9
    centre: str = "dashed"
    via: tuple[Point, ...] = ()
    curved: bool = True  # through `via` on a smooth curve; False: from point to point

    def line(self, corners: dict[str, Point]) -> list[Point]:
        """The street's course from corner to corner."""
        points = [corners[self.start], *self.via, corners[self.end]]
        return smooth(points) if self.via and self.curved else points

    @property
    def back(self) -> int:
        """Lanes from `end` to `start`."""
        return self.lanes if self.back_lanes < 0 else self.back_lanes


@dataclass
class Plan:
    """A town on paper: corners (metres, y north), streets, and the ring corners of roundabouts."""

    corners: dict[str, Point] = field(default_factory=dict)
    lights: set[str] = field(default_factory=set)
    streets: list[Street] = field(default_factory=list)
    roundabouts: list[list[str]] = field(default_factory=list)
    radius: float = 11.0  # [m] kerb radius of junctions

    def arms(self, corner: str) -> int:
        """How many streets meet at a corner."""
        return sum(corner in (street.start, street.end) for street in self.streets)

    def round_bends(self) -> None:
        """Make one street of two that meet alone at a corner; a right angle between them becomes an arc of `BEND_M`."""
        for corner in [c for c in self.corners if self.arms(c) == 2 and not any(c in ring for ring in self.roundabouts)]:
            first, second = (s for s in self.streets if corner in (s.start, s.end))
            before, after = first.line(self.corners), second.line(self.corners)
            before = before if first.end == corner else before[::-1]
            after = after if second.start == corner else after[::-1]
            start = first.start if first.end == corner else first.end
            end = second.end if second.start == corner else second.start
            middle = _arc(before[-2], self.corners.pop(corner), after[1])
            joined = replace(first, start=start, end=end, via=(*before[1:-1], *middle, *after[1:-1]), curved=False)
            self.streets[self.streets.index(first)] = joined
            self.streets.remove(second)


def _arc(before: Point, corner: Point, after: Point) -> list[Point]:
    """The corner itself, or where the street turns sharply the points of an arc that touches both its sides."""
    first = math.atan2(corner[1] - before[1], corner[0] - before[0])
    turn = math.remainder(math.atan2(after[1] - corner[1], after[0] - corner[0]) - first, 2 * math.pi)
    if abs(turn) < math.radians(20.0):
        return [corner]
    reach = BEND_M * math.tan(abs(turn) / 2)  # from the corner to where the arc begins
    x, y = corner[0] - reach * math.cos(first), corner[1] - reach * math.sin(first)
    pieces = math.ceil(abs(turn) / math.radians(4.0))
    points = [(x, y)]
    for k in range(pieces):
        heading = first + turn * (k + 0.5) / pieces
        step = 2 * BEND_M * math.sin(abs(turn) / pieces / 2)
        x, y = x + step * math.cos(heading), y + step * math.sin(heading)
        points.append((x, y))
    return points


def smooth(points: list[Point], step: float = 6.0) -> list[Point]:
    """A Catmull-Rom curve through `points`, a point every `step` metres or so."""
    padded = [points[0], *points, points[-1]]
    out = [points[0]]
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces = max(2, round(math.dist(b, c) / step))
        for i in range(1, pieces + 1):
            t = i / pieces
            weights = (
                (-t + 2 * t**2 - t**3) / 2,
                (2 - 5 * t**2 + 3 * t**3) / 2,
                (t + 4 * t**2 - 3 * t**3) / 2,
                (t**3 - t**2) / 2,
            )
            x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
            out.append((x, y))
    return out


def grid_plan(
    xs: list[float],
    ys: list[float],
    seed: int,
    *,
    avenues: set[str],
    missing: Iterable[tuple[str, str]] = (),
    lane_width: float = 3.5,
    sidewalk_width: float = 2.4,
    radius: float = Plan.radius,
) -> Plan:
    """A grid with streets at `xs` and `ys`; rows ("r1") and columns ("c2") in `avenues` have two lanes each way."""
    rng = random.Random(seed)
    plan = Plan(radius=radius)
    gone = {frozenset(pair) for pair in missing}
    for i, x in enumerate(xs):
        for j, y in enumerate(ys):
            plan.corners[f"n{i}{j}"] = (x, y)
    for i in range(len(xs)):
        for j in range(len(ys)):
            for di, dj, name in ((1, 0, f"r{j}"), (0, 1, f"c{i}")):
                a, b = f"n{i}{j}", f"n{i + di}{j + dj}"
                if b not in plan.corners or frozenset((a, b)) in gone:
                    continue
                wide = name in avenues
                centre = "double" if wide else ("dashed", "solid", "white", "dashed")[rng.randrange(4)]
                plan.streets.append(Street(a, b, 2 if wide else 1, -1, lane_width, sidewalk_width, centre=centre))
    plan.round_bends()
    three_arms = sorted(corner for corner in plan.corners if plan.arms(corner) == 3)
    plan.lights = {corner for corner in plan.corners if plan.arms(corner) == 4} | set(three_arms[::2])
    return plan


def crooked_plan() -> Plan:
    """Held out: a small roundabout, diagonals, bends and streets of different widths."""
    plan = Plan(radius=9.0)
    plan.corners = {
        "a": (0, 0), "b": (115, -22), "c": (232, 8), "d": (345, -15),
        "e": (-18, 112), "g": (262, 108), "h": (368, 118),
        "i": (12, 228), "j": (128, 246), "k": (236, 214), "l": (352, 246),
        "m": (60, 335), "n": (205, 338),
    }  # fmt: skip
    ring_radius, centre = 17.0, (122.0, 112.0)
    ring = [f"o{k}" for k in range(4)]
    for k, corner in enumerate(ring):
        angle = math.radians(40 + 90 * k)
        plan.corners[corner] = (centre[0] + ring_radius * math.cos(angle), centre[1] + ring_radius * math.sin(angle))
    plan.roundabouts = [ring]
    for k in range(4):
        arc = []
        for step in range(1, 6):
            angle = math.radians(40 + 90 * k + 15 * step)
            arc.append((centre[0] + ring_radius * math.cos(angle), centre[1] + ring_radius * math.sin(angle)))
        plan.streets.append(Street(ring[k], ring[(k + 1) % 4], 1, 0, 4.5, 2.4, 8.3, via=tuple(arc)))
    plan.streets += [
        Street("a", "b", centre="solid", via=((55, -28),)),
        Street("b", "c", centre="dashed", lane_width=3.2),
        Street("c", "d", centre="white", via=((290, -24),)),
        Street("a", "e", lane_width=3.3, via=((-26, 55),)),
        Street("e", "o1", centre="dashed", lane_width=3.2),
        Street("b", "o3", 1, centre="solid", via=((128, 25), (130, 62))),
        Street("o0", "k", centre="dashed", via=((175, 165),)),
        Street("c", "g", 2, centre="double", lane_width=3.3),
        Street("g", "k", 2, centre="double", lane_width=3.3),
        Street("o2", "a", 1, centre="white", lane_width=3.2, via=((38, 58),)),
        Street("g", "h", centre="dashed", via=((315, 125),)),
        Street("d", "h", lane_width=3.6, centre="solid", via=((380, 50),)),
        Street("e", "i", lane_width=3.4, via=((-8, 172),)),
        Street("i", "j", centre="solid"),
        Street("j", "k", centre="dashed", via=((182, 250),)),
        Street("k", "l", centre="white", via=((295, 220),)),
        Street("h", "l", lane_width=3.4, via=((378, 185),)),
        Street("i", "m", centre="dashed", via=((18, 290),)),
        Street("m", "n", centre="double", lane_width=3.6, via=((130, 368),)),
        Street("j", "n", lane_width=3.2, centre="dashed", via=((136, 290), (172, 316))),
        Street("n", "l", centre="solid", via=((290, 320), (335, 295))),
        Street("g", "d", centre="dashed", lane_width=3.2, via=((310, 62),)),
    ]
    plan.round_bends()
    plan.lights = {"c", "g", "k"}
    return plan


def ring_plan() -> Plan:
    """Held out: an oval boulevard of two lanes each way round a large roundabout, with curved radials and diagonals between."""
    plan = Plan(radius=10.0)
    centre = (190.0, 165.0)

    def at(radius: float, degrees: float) -> Point:
        """A point of an oval about the centre, half as wide again as it is high at the rim."""
        stretch = 1.0 + 0.22 * min(radius / 175.0, 1.0)
        angle = math.radians(degrees)
        return centre[0] + stretch * radius * math.cos(angle), centre[1] + radius * math.sin(angle)

    def arc(radius: float, start: float, end: float, pieces: int) -> tuple[Point, ...]:
        return tuple(at(radius, start + (end - start) * k / pieces) for k in range(1, pieces))

    plan.roundabouts = [[f"o{k}" for k in range(4)]]
    for k in range(4):
        angle = 25.0 + 90.0 * k
        plan.corners |= {f"o{k}": at(25.0, angle), f"m{k}": at(88.0, angle + 6), f"w{k}": at(172.0, angle)}
        plan.corners[f"v{k}"] = at(172.0, angle + 45)
    for k in range(4):
        angle, after = 25.0 + 90.0 * k, (k + 1) % 4
        plan.streets += [
            Street(f"o{k}", f"o{after}", 1, 0, 4.8, 2.4, 8.3, via=arc(25.0, angle, angle + 90, 8)),
            Street(f"o{k}", f"m{k}", 1, lane_width=3.6, sidewalk_width=3.0, centre="solid", via=(at(60.0, angle + 1),)),
            Street(f"m{k}", f"w{k}", 1, lane_width=3.6, sidewalk_width=3.0, centre="dashed", via=(at(135.0, angle + 6),)),
            Street(f"w{k}", f"v{k}", 2, lane_width=3.25, speed=11.1, centre="double", via=arc(172.0, angle, angle + 45, 5)),
            Street(
                f"v{k}", f"w{after}", 2, lane_width=3.25, speed=11.1, centre="double",
                via=arc(172.0, angle + 45, angle + 90, 5),
            ),
        ]  # fmt: skip
    plan.streets += [
        Street("m0", "v0", 1, lane_width=3.2, sidewalk_width=1.8, centre="white"),
        Street("m2", "v2", 1, lane_width=3.2, sidewalk_width=1.8, centre="white"),
        Street("m1", "m2", 1, lane_width=3.3, sidewalk_width=2.0, centre="dashed", via=arc(88.0, 121, 211, 5)),
        Street("m3", "m0", 1, lane_width=3.3, sidewalk_width=2.0, centre="solid", via=arc(88.0, 301, 391, 5)),
    ]
    plan.round_bends()
    plan.lights = {"v0", "v2", "w1", "w3", "m0"}
    return plan


PLANS = {
    "Grid01": lambda: grid_plan([0, 108, 222, 330], [0, 96, 204, 300], 1, avenues={"r1", "c2"}),
    "Grid02": lambda: grid_plan(
        [0, 84, 176, 262, 350], [0, 118, 226, 322], 2, avenues={"c2"},
        missing=[("n11", "n12"), ("n30", "n31"), ("n32", "n33"), ("n01", "n11")], lane_width=3.3, sidewalk_width=2.0,
        radius=17.0,  # a bus that turns right into so narrow a lane swings over its middle, where another bus may stand
    ),
    "Crooked01": crooked_plan,
    "Ring01": ring_plan,
}  # fmt: skip

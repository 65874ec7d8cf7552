"""Write the shipped towns (`agent/town/maps/*.xodr`) with SUMO's netconvert: `python -m roadworthy.scripts.make_maps [FOLDER]`.

netconvert (pip package eclipse-sumo, a development dependency) turns a plan of corners and streets into lanes, junctions and
crossings. Its OpenDRIVE is then made to look like CARLA's own: the two directions of a street become one road with left and
right lanes (so that the oncoming lane is a left neighbour and crossing the centre line is a lane invasion), markings get
colours, each approach of a signalled junction one traffic light and one controller, and the others stop and yield signs.
"""

import math
import random
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAPS_FOLDER = Path(__file__).resolve().parent.parent / "agent" / "town" / "maps"
GEO_REFERENCE = "+proj=tmerc +lat_0=49 +lon_0=8 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
CENTRE_MARKS = {  # street style -> (OpenDRIVE type, colour) of the line between the two directions
    "double": ("solid solid", "yellow"),
    "dashed": ("broken", "yellow"),
    "solid": ("solid", "yellow"),
    "white": ("broken", "white"),
}


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
    via: tuple[tuple[float, float], ...] = ()

    @property
    def back(self) -> int:
        """Lanes from `end` to `start`."""
        return self.lanes if self.back_lanes < 0 else self.back_lanes


@dataclass
class Plan:
    """A town on paper: corners (metres, y north), streets, and the ring corners of roundabouts."""

    corners: dict[str, tuple[float, float]] = field(default_factory=dict)
    lights: set[str] = field(default_factory=set)
    streets: list[Street] = field(default_factory=list)
    roundabouts: list[list[str]] = field(default_factory=list)
    radius: float = 9.0  # [m] kerb radius of corners


def grid_plan(
    xs: list[float],
    ys: list[float],
    seed: int,
    *,
    avenues: set[str],
    missing: Iterable[tuple[str, str]] = (),
    lane_width: float = 3.5,
    sidewalk_width: float = 2.4,
) -> Plan:
    """A grid with streets at `xs` and `ys`; rows ("r1") and columns ("c2") in `avenues` have two lanes each way."""
    rng = random.Random(seed)
    plan = Plan()
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
    degree = {corner: sum(corner in (s.start, s.end) for s in plan.streets) for corner in plan.corners}
    three_arms = sorted(corner for corner, arms in degree.items() if arms == 3)
    plan.lights = {corner for corner, arms in degree.items() if arms == 4} | set(three_arms[::2])
    return plan


def crooked_plan() -> Plan:
    """The held-out town: a roundabout, diagonals, bends, acute corners and streets of different widths."""
    plan = Plan(radius=6.0)
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
        plan.streets.append(Street(ring[k], ring[(k + 1) % 4], 1, 0, 4.5, 0.0, 8.3, via=tuple(arc)))
    plan.streets += [
        Street("a", "b", centre="solid", via=((55, 12),)),
        Street("b", "c", centre="dashed", lane_width=3.2),
        Street("c", "d", centre="white", via=((290, -24),)),
        Street("a", "e", lane_width=3.3, via=((-26, 55),)),
        Street("e", "o1", centre="dashed", lane_width=3.2),
        Street("b", "o3", 1, centre="solid", via=((110, 45),)),
        Street("o0", "k", centre="dashed", via=((175, 165),)),
        Street("c", "g", 2, centre="double", lane_width=3.3),
        Street("g", "k", 2, centre="double", lane_width=3.3),
        Street("o2", "a", 1, centre="white", lane_width=3.2, via=((60, 48),)),
        Street("g", "h", centre="dashed", via=((315, 125),)),
        Street("d", "h", lane_width=3.6, centre="solid", via=((380, 50),)),
        Street("e", "i", lane_width=3.4, via=((-8, 172),)),
        Street("i", "j", centre="solid"),
        Street("j", "k", centre="dashed", via=((182, 250),)),
        Street("k", "l", centre="white", via=((295, 220),)),
        Street("h", "l", lane_width=3.4, via=((378, 185),)),
        Street("i", "m", centre="dashed", via=((18, 290),)),
        Street("m", "n", centre="double", lane_width=3.6, via=((130, 352),)),
        Street("j", "n", lane_width=3.2, centre="dashed", via=((150, 300),)),
        Street("n", "l", centre="solid", via=((290, 320), (335, 295))),
        Street("g", "d", centre="dashed", lane_width=3.2, via=((310, 62),)),
    ]
    plan.lights = {"c", "g", "k"}
    return plan


PLANS = {
    "Grid01": lambda: grid_plan([0, 108, 222, 330], [0, 96, 204, 300], 1, avenues={"r1", "c2"}),
    "Grid02": lambda: grid_plan(
        [0, 84, 176, 262, 350], [0, 118, 226, 322], 2, avenues={"c2"},
        missing=[("n11", "n12"), ("n30", "n31"), ("n32", "n33"), ("n01", "n11")], lane_width=3.3, sidewalk_width=2.0,
    ),
    "Crooked01": crooked_plan,
}  # fmt: skip


def netconvert(plan: Plan, folder: Path) -> str:
    """The plan's OpenDRIVE as netconvert writes it (one road per direction; `name` is "street+" or "street-")."""
    nodes, edges = ET.Element("nodes"), ET.Element("edges")
    for corner, (x, y) in plan.corners.items():
        kind = "traffic_light" if corner in plan.lights else "priority"
        ET.SubElement(nodes, "node", id=corner, x=f"{x:.2f}", y=f"{y:.2f}", type=kind, radius=str(plan.radius))
    for index, street in enumerate(plan.streets):
        ends = (street.start, street.end)
        line = [plan.corners[street.start], *street.via, plan.corners[street.end]]
        for sign, lanes in (("+", street.lanes), ("-", street.back)):
            if lanes == 0:
                continue
            start, end = ends if sign == "+" else ends[::-1]
            points = smooth(line) if street.via else line
            points = points if sign == "+" else points[::-1]
            ET.SubElement(
                edges, "edge", {"from": start, "to": end}, id=f"s{index}{sign}", name=f"s{index}{sign}", numLanes=str(lanes),
                speed=str(street.speed), width=str(street.lane_width), priority=str(2 if lanes > 1 or street.back == 0 else 1),
                shape=" ".join(f"{x:.2f},{y:.2f}" for x, y in points),
                **({"sidewalkWidth": str(street.sidewalk_width)} if street.sidewalk_width else {}),
            )  # fmt: skip
    for ring in plan.roundabouts:
        ring_edges = [f"s{i}+" for i, s in enumerate(plan.streets) if s.start in ring and s.end in ring]
        ET.SubElement(edges, "roundabout", nodes=" ".join(ring), edges=" ".join(ring_edges))
    ET.ElementTree(nodes).write(folder / "town.nod.xml")
    ET.ElementTree(edges).write(folder / "town.edg.xml")
    command = [
        "netconvert", "-n", str(folder / "town.nod.xml"), "-e", str(folder / "town.edg.xml"),
        "--opendrive-output", str(folder / "town.xodr"), "--crossings.guess", "--no-turnarounds",
        "--junctions.internal-link-detail", "20", "--no-warnings",
    ]  # fmt: skip
    beside_python = Path(sys.executable).parent / "netconvert"
    if beside_python.exists():
        command[0] = str(beside_python)
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "town.xodr").read_text()


def smooth(points: list[tuple[float, float]], step: float = 6.0) -> list[tuple[float, float]]:
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


def child(element: ET.Element, path: str) -> ET.Element:
    """The child that must be there."""
    found = element.find(path)
    if found is None:
        raise LookupError(f"<{element.tag}> has no {path}")
    return found


def join_directions(root: ET.Element) -> dict[str, tuple[str, bool]]:
    """Merge each pair of one-way roads into one; returns old road id -> (road id, was it turned round)."""
    roads = {road.get("name", ""): road for road in root.findall("road") if road.get("junction") == "-1"}
    moved: dict[str, tuple[str, bool]] = {road.get("id", ""): (road.get("id", ""), False) for road in root.findall("road")}
    for name, road in roads.items():
        back = roads.get(name[:-1] + "-") if name.endswith("+") else None
        if back is None:
            continue
        section = child(road, "lanes/laneSection")
        left = ET.Element("left")
        for lane in reversed(child(back, "lanes/laneSection/right").findall("lane")):
            lane.set("id", lane.get("id", "").lstrip("-"))
            left.append(lane)
        section.insert(0, left)
        length = float(road.get("length", "0"))
        for thing in child(back, "objects").findall("object"):  # crossings: they stand at the start of the other direction
            thing.set("s", f"{length:.8f}")
            thing.set("hdg", f"{math.pi:.8f}")
            child(road, "objects").append(thing)
        for thing in child(back, "signals").findall("signal"):
            thing.set("turned", "yes")
            child(road, "signals").append(thing)
        root.remove(back)
        moved[back.get("id", "")] = (road.get("id", ""), True)
    return moved


def relink(root: ET.Element, moved: dict[str, tuple[str, bool]]) -> None:
    """Point every link at the merged roads; lanes of a turned road have positive ids."""
    for road in root.findall("road"):
        turned_ends = {}
        for end in ("predecessor", "successor"):
            link = road.find(f"link/{end}")
            if link is None or link.get("elementType") != "road":
                continue
            road_id, turned = moved[link.get("elementId", "")]
            link.set("elementId", road_id)
            if turned:
                link.set("contactPoint", {"start": "end", "end": "start"}[link.get("contactPoint", "start")])
                turned_ends[end] = True
        if road.get("junction") != "-1":
            for end in turned_ends:
                for lane_link in road.findall(f"lanes/laneSection//lane/link/{end}"):
                    lane_link.set("id", str(-int(lane_link.get("id", "0"))))
    for connection in root.findall("junction/connection"):
        road_id, turned = moved[connection.get("incomingRoad", "")]
        connection.set("incomingRoad", road_id)
        if turned:
            for lane_link in connection.findall("laneLink"):
                lane_link.set("from", str(-int(lane_link.get("from", "0"))))


def paint(root: ET.Element, plan: Plan) -> None:
    """Give every lane border the mark that a street of its kind has."""
    for road in root.findall("road"):
        lanes = {int(lane.get("id", "0")): lane for lane in road.findall("lanes/laneSection//lane")}
        in_junction = road.get("junction") != "-1"
        street = None if in_junction else plan.streets[int(road.get("name", "s0+")[1:-1])]
        for lane_id, lane in lanes.items():
            for speed in lane.findall("speed"):
                if lane.get("type") == "sidewalk":
                    lane.remove(speed)
            mark = child(lane, "roadMark")
            outward = lanes.get(lane_id + (1 if lane_id > 0 else -1))
            kind, colour = "none", "standard"
            if street is not None and lane_id == 0:
                kind, colour = CENTRE_MARKS[street.centre] if street.back else ("solid", "white")
            elif street is not None and lane.get("type") == "driving":
                last = outward is None or outward.get("type") != "driving"
                kind, colour = ("solid", "white") if last else ("broken", "white")
            mark.attrib.clear()
            mark.attrib.update(sOffset="0", type=kind, weight="standard", color=colour, width="0.15" if kind != "none" else "0")
            mark.set("laneChange", "both" if kind == "broken" else "none")
        speed_kmh = 40 if street is None else round(street.speed * 3.6)
        town = child(road, "type")
        ET.SubElement(town, "speed", max=str(speed_kmh), unit="km/h")


def place_signals(root: ET.Element, plan: Plan) -> None:
    """One light per approach of a signalled junction, with a controller each; yield or stop signs elsewhere; speed limits."""
    roads = {road.get("id", ""): road for road in root.findall("road")}
    for road in roads.values():
        signals = child(road, "signals")
        for signal in list(signals):
            signals.remove(signal)
        for crossing in child(road, "objects").findall("object"):
            # netconvert centres the crossing on the end of the road; it lies beyond it, in the junction.
            outline = child(crossing, "outline")
            for point in outline.findall("cornerLocal"):
                point.set("u", f"{float(point.get('u', '0')) - 2.0:.4f}")
            ring_end = ET.SubElement(outline, "cornerLocal", child(outline, "cornerLocal").attrib)
            ring_end.set("id", "4")  # CARLA's get_crosswalks tells rings apart by their repeated first corner
    next_id = 1000
    for junction in root.findall("junction"):
        corner = junction.get("name", "")
        approaches: dict[tuple[str, int], set[int]] = {}  # (road, side) -> its driving lanes
        for connection in junction.findall("connection"):
            for lane_link in connection.findall("laneLink"):
                lane_id = int(lane_link.get("from", "0"))
                road_id = connection.get("incomingRoad", "")
                types = {int(lane.get("id", "0")): lane.get("type") for lane in roads[road_id].findall(".//laneSection//lane")}
                if types.get(lane_id) == "driving":
                    approaches.setdefault((road_id, 1 if lane_id > 0 else -1), set()).add(lane_id)
        ring = any(corner in corners for corners in plan.roundabouts)
        for sequence, ((road_id, side), lanes) in enumerate(sorted(approaches.items())):
            road = roads[road_id]
            street = plan.streets[int(road.get("name", "s0+")[1:-1])]
            next_id += 1
            if corner in plan.lights:
                kind, name = "1000001", "Signal_3Light_Post01"
            elif ring and street.back == 0:
                continue
            elif ring or len(approaches) == 3:
                kind, name = "205", "Sign_Yield"
            elif len(approaches) > 3:
                kind, name = "206", "Sign_Stop"
            else:
                continue
            add_signal(road, next_id, kind, name, side, lanes, at_end=1.0)
            if kind == "1000001":
                controller = ET.Element(
                    "controller", name=f"ctrl{next_id + 5000}", id=str(next_id + 5000), sequence=str(sequence)
                )
                ET.SubElement(controller, "control", signalId=str(next_id), type="")
                root.insert(list(root).index(root.findall("road")[-1]) + 1, controller)
                ET.SubElement(junction, "controller", id=str(next_id + 5000), type="0", sequence=str(sequence))
    for road in roads.values():
        if road.get("junction") != "-1" or float(road.get("length", "0")) < 50:
            continue
        street = plan.streets[int(road.get("name", "s0+")[1:-1])]
        for side in (-1, 1) if street.back else (-1,):
            next_id += 1
            limit = round(street.speed * 3.6)
            lanes = {side * k for k in range(1, street.lanes + 1)}
            add_signal(
                road, next_id, "274", f"Speed_{limit}", side, lanes, at_end=float(road.get("length", "0")) - 16, value=limit
            )


def add_signal(
    road: ET.Element, number: int, kind: str, name: str, side: int, lanes: set[int], *, at_end: float, value: float = -1
) -> None:
    """A signal on the kerb of one direction of `road`, `at_end` metres before that direction's end."""
    length = float(road.get("length", "0"))
    widths = {
        int(lane.get("id", "0")): float(child(lane, "width").get("a", "0"))
        for lane in road.findall("lanes/laneSection//lane")
        if lane.get("type") == "driving"
    }
    kerb = sum(width for lane, width in widths.items() if lane * side > 0)
    s = length - at_end if side < 0 else at_end
    signal = ET.SubElement(
        child(road, "signals"), "signal", name=name, id=str(number), s=f"{s:.4f}", t=f"{side * (kerb + 0.6):.3f}",
        zOffset="0", hOffset="0" if side < 0 else f"{math.pi:.8f}", roll="0", pitch="0", orientation="+" if side < 0 else "-",
        dynamic="yes" if kind == "1000001" else "no", country="OpenDRIVE", type=kind, subtype="-1", value=f"{value:g}",
        unit="km/h" if value > 0 else "", text="", height="0.9", width="0.6",
    )  # fmt: skip
    ET.SubElement(signal, "validity", fromLane=str(min(lanes)), toLane=str(max(lanes)))


def drop_comments(text: str) -> Iterator[str]:
    """The lines of `text` without its first comment (a date and the configuration)."""
    inside = False
    for line in text.splitlines():
        if line.startswith("<!--"):
            inside = True
        if not inside:
            yield line.strip()
        if "-->" in line:
            inside = False


def make_map(plan: Plan, name: str) -> str:
    """The town's OpenDRIVE text."""
    with tempfile.TemporaryDirectory() as folder:
        root = ET.fromstring("\n".join(drop_comments(netconvert(plan, Path(folder)))))
    header = child(root, "header")
    header.attrib.pop("date", None)
    header.set("name", name)
    for old in header.findall("geoReference"):
        header.remove(old)
    ET.SubElement(header, "geoReference").text = GEO_REFERENCE
    moved = join_directions(root)
    relink(root, moved)
    paint(root, plan)
    place_signals(root, plan)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def main() -> None:
    """Write every town."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else MAPS_FOLDER
    for name, plan in PLANS.items():
        path = folder / f"{name}.xodr"
        path.write_text(make_map(plan(), name))
        sys.stdout.write(f"{path} {path.stat().st_size // 1024} kB\n")


if __name__ == "__main__":
    main()

"""Write the shipped towns (`agent/town/maps/*.xodr`) with SUMO's netconvert: `python -m roadworthy.scripts.make_maps [FOLDER]`.

netconvert (pip package eclipse-sumo, a development dependency) turns a plan of corners and streets into lanes, junctions and
crossings. Its OpenDRIVE is then made to look like CARLA's own: the two directions of a street become one road with left and
right lanes (so that the oncoming lane is a left neighbour and crossing the centre line is a lane invasion), markings get
colours, each approach of a signalled junction one traffic light and one controller, and the others stop and yield signs.
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import click

from roadworthy.scripts.merge_roads import child, join_directions, relink
from roadworthy.scripts.place_signals import place_signals
from roadworthy.scripts.town_plans import PLANS, Plan
from roadworthy.scripts.widen_bends import widen_bends

MAPS_FOLDER = Path(__file__).resolve().parent.parent / "agent" / "town" / "maps"
GEO_REFERENCE = "+proj=tmerc +lat_0=49 +lon_0=8 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
KEEP_LANE_M = 30.0  # [m] of solid line between two lanes before a junction
CENTRE_MARKS = {  # street style -> (OpenDRIVE type, colour) of the line between the two directions
    "double": ("solid solid", "yellow"),
    "dashed": ("broken", "yellow"),
    "solid": ("solid", "yellow"),
    "white": ("broken", "white"),
}


def netconvert(plan: Plan, folder: Path) -> str:
    """The plan's OpenDRIVE as netconvert writes it (one road per direction; `name` is "street+" or "street-")."""
    nodes, edges = ET.Element("nodes"), ET.Element("edges")
    for corner, (x, y) in plan.corners.items():
        kind = "traffic_light" if corner in plan.lights else "priority"
        ET.SubElement(nodes, "node", id=corner, x=f"{x:.2f}", y=f"{y:.2f}", type=kind, radius=str(plan.radius))
    for index, street in enumerate(plan.streets):
        ends = (street.start, street.end)
        line = street.line(plan.corners)
        for sign, lanes in (("+", street.lanes), ("-", street.back)):
            if lanes == 0:
                continue
            start, end = ends if sign == "+" else ends[::-1]
            points = line if sign == "+" else line[::-1]
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
            if lane_id != 0 and kind == "broken":
                _keep_lane(lane, mark, float(road.get("length", "0")), turned=lane_id > 0)
        speed_kmh = 40 if street is None else round(street.speed * 3.6)
        town = child(road, "type")
        ET.SubElement(town, "speed", max=str(speed_kmh), unit="km/h")


def _keep_lane(lane: ET.Element, mark: ET.Element, length_m: float, *, turned: bool) -> None:
    """Between lanes of one direction the line is solid before a junction: nobody leaves the queue there.

    A `turned` lane (positive id) comes to its junction at the road's start, any other at its end.
    """
    solid = min(KEEP_LANE_M, length_m / 2)
    first, second = mark, ET.Element("roadMark", mark.attrib)
    second.set("sOffset", f"{solid if turned else length_m - solid:.2f}")
    lane.insert(list(lane).index(mark) + 1, second)
    before_junction = first if turned else second
    before_junction.set("type", "solid")
    before_junction.set("laneChange", "none")


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
    widen_bends(root)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=MAPS_FOLDER)
def main(folder: Path) -> None:
    """Write the map of every shipped town to FOLDER (where the package keeps them)."""
    for name, plan in PLANS.items():
        path = folder / f"{name}.xodr"
        path.write_text(make_map(plan(), name))
        click.echo(f"{path} {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()

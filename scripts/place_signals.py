"""Who has to wait where in a planned town: traffic lights, stop and yield signs and speed limits as OpenDRIVE signals."""

import math
import xml.etree.ElementTree as ET

from roadworthy.scripts.merge_roads import child
from roadworthy.scripts.town_plans import Plan

SIGNALS = {  # OpenDRIVE type and CARLA's name
    "light": ("1000001", "Signal_3Light_Post01"),
    "stop": ("206", "Sign_Stop"),
    "yield": ("205", "Sign_Yield"),
}


def right_of_way(plan: Plan, corner: str) -> dict[int, str]:
    """What each street (its index) has at a corner: "light", "stop" or "yield"; a roundabout's ring goes first."""
    streets = {k: street for k, street in enumerate(plan.streets) if corner in (street.start, street.end)}
    if corner in plan.lights:
        return dict.fromkeys(streets, "light")
    ring = any(corner in corners for corners in plan.roundabouts)
    if ring:
        return {k: "yield" for k, street in streets.items() if street.back}
    if len(streets) < 3:
        return {}
    # CARLA's Traffic Manager takes turns where every arm has a sign; where some go first it may lock itself up.
    unlit = sorted(c for c in plan.corners if c not in plan.lights and plan.arms(c) >= 3)
    return dict.fromkeys(streets, "stop" if unlit.index(corner) % 2 == 0 else "yield")


def place_signals(root: ET.Element, plan: Plan) -> None:
    """One light per approach of a signalled junction, with a controller each; stop and yield signs elsewhere; speed limits."""
    roads = {road.get("id", ""): road for road in root.findall("road")}
    _clear(roads)
    number = _junction_signals(root, roads, plan)
    _speed_signs(roads, plan, number)


def _clear(roads: dict[str, ET.Element]) -> None:
    """Drop netconvert's own signals, and set its crossings where they belong."""
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


def _junction_signals(root: ET.Element, roads: dict[str, ET.Element], plan: Plan) -> int:
    """Put up every junction's lights or signs; returns the last number given."""
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
        orders = right_of_way(plan, corner)
        for sequence, ((road_id, side), lanes) in enumerate(sorted(approaches.items())):
            road = roads[road_id]
            order = orders.get(int(road.get("name", "s0+")[1:-1]))
            if order is None:
                continue
            next_id += 1
            kind, name = SIGNALS[order]
            add_signal(road, next_id, kind, name, side, lanes, at_end=1.0)
            if order == "light":
                controller = ET.Element(
                    "controller", name=f"ctrl{next_id + 5000}", id=str(next_id + 5000), sequence=str(sequence)
                )
                ET.SubElement(controller, "control", signalId=str(next_id), type="")
                root.insert(list(root).index(root.findall("road")[-1]) + 1, controller)
                ET.SubElement(junction, "controller", id=str(next_id + 5000), type="0", sequence=str(sequence))
    return next_id


def _speed_signs(roads: dict[str, ET.Element], plan: Plan, next_id: int) -> None:
    """A speed limit near the start of every longer street, both ways; numbers go on after `next_id`."""
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

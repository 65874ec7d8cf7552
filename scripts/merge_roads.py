"""Turns netconvert's OpenDRIVE, one road per direction, into CARLA's kind: one road per street, lanes on both sides."""

import math
import xml.etree.ElementTree as ET


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

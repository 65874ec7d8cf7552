"""What the town reads from an OpenDRIVE file itself: lane types, junction controllers, and whether the file is safe to parse.

Geometry comes from `carla.Map`; it does not tell which lanes a road has, nor which controller drives a signal.
"""

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass

MAX_CHARACTERS = 60_000_000  # a large real town is 10 MB


class MapError(ValueError):
    """The OpenDRIVE text cannot be used; the message says what was expected and what was found."""


@dataclass(frozen=True)
class LaneSpan:
    """A lane of one lane section: where it runs along its road and what it is for."""

    road: int
    junction: int  # -1 outside junctions
    lane: int  # OpenDRIVE id: negative right of the reference line
    kind: str  # OpenDRIVE lane type: driving, sidewalk, shoulder, ...
    start: float  # [m] along the road
    end: float  # [m]


@dataclass(frozen=True)
class PlacedObject:
    """A named thing beside a road (`<object>`), in the road's own coordinates."""

    name: str
    road: int
    s: float  # [m] along the road
    t: float  # [m] left of the reference line
    orientation: str  # "+" or "-": the driving direction it is for, as the file says


@dataclass(frozen=True)
class OpenDrive:
    """The parts of the file that `carla.Map` hides."""

    lanes: tuple[LaneSpan, ...]
    objects: tuple[PlacedObject, ...]
    controllers: dict[str, tuple[int, int]]  # signal id -> (junction, sequence number of its controller)


def parse(text: str) -> OpenDrive:
    """Read OpenDRIVE 1.4. Raises `MapError` for anything that would crash or hang a parser."""
    if len(text) > MAX_CHARACTERS:
        raise MapError(f"OpenDRIVE text of {len(text)} characters; at most {MAX_CHARACTERS} are accepted")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise MapError("OpenDRIVE text declares a document type or entities; remove the <!DOCTYPE ...> block")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise MapError(f"not an XML file: {error}") from error
    if root.tag != "OpenDRIVE" or root.find("road") is None:
        raise MapError(f"expected <OpenDRIVE> with at least one <road>, found <{root.tag}>")
    lanes: list[LaneSpan] = []
    objects: list[PlacedObject] = []
    for road in root.findall("road"):
        road_id, length = _integer(road, "id"), _number(road, "length")
        if length <= 0:
            raise MapError(f"road {road_id} has length {length}; expected more than 0")
        for geometry in road.findall("planView/geometry"):
            if _number(geometry, "length") < 0:
                raise MapError(f"road {road_id} has a geometry of negative length {geometry.get('length')}")
            for name in ("x", "y", "hdg", "s"):
                _number(geometry, name)
        lanes += _lanes(road, road_id, length)
        for thing in road.findall("objects/object"):
            if thing.get("name"):
                place = (_number(thing, "s"), _number(thing, "t"))
                objects.append(PlacedObject(thing.get("name", ""), road_id, *place, thing.get("orientation", "+")))
    if not any(lane.kind == "driving" for lane in lanes):
        raise MapError("the map has no driving lane")
    return OpenDrive(tuple(lanes), tuple(objects), _controllers(root))


def _lanes(road: ET.Element, road_id: int, length: float) -> list[LaneSpan]:
    sections = road.findall("lanes/laneSection")
    starts = [_number(section, "s") for section in sections] + [length]
    if starts != sorted(starts):
        raise MapError(f"the lane sections of road {road_id} are out of order or run past its end: {starts}")
    found = []
    for section, start, end in zip(sections, starts, starts[1:], strict=False):
        for lane in section.iter("lane"):
            lane_id = _integer(lane, "id")
            if lane_id != 0:
                junction = int(road.get("junction", "-1"))
                found.append(LaneSpan(road_id, junction, lane_id, lane.get("type", "none"), start, end))
    return found


def _controllers(root: ET.Element) -> dict[str, tuple[int, int]]:
    signals = {c.get("id", ""): [s.get("signalId", "") for s in c.findall("control")] for c in root.findall("controller")}
    found: dict[str, tuple[int, int]] = {}
    for junction in root.findall("junction"):
        for order, link in enumerate(junction.findall("controller")):
            sequence = int(link.get("sequence", str(order)))
            for signal in signals.get(link.get("id", ""), []):
                found[signal] = (_integer(junction, "id"), sequence)
    return found


def _number(element: ET.Element, name: str) -> float:
    try:
        value = float(element.get(name, "nan"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e7:
        raise MapError(f"<{element.tag} {name}={element.get(name)!r}>: expected a finite number")
    return value


def _integer(element: ET.Element, name: str) -> int:
    value = _number(element, name)
    if value != int(value):
        raise MapError(f"<{element.tag} {name}={element.get(name)!r}>: expected a whole number")
    return int(value)

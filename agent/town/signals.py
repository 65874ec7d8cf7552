"""Traffic lights and signs of a map: where they stand, which way they face, and the stop lines they command. UE axes."""

import math
from dataclasses import dataclass
from typing import Any

from roadworthy.agent.town.opendrive import LaneSpan, OpenDrive

LIGHT_TYPES = frozenset({"1000001", "1000002", "1000009", "1000010", "1000011", "1000012", "1000020"})
SIGN_KINDS = {"206": "stop", "205": "yield", "274": "speed"}
_DRIVING = frozenset({"driving", "bidirectional"})
BEFORE_END = 0.4  # [m] from the stop line to the end of the lane


@dataclass(frozen=True)
class StopLine:
    """The end of one lane that a signal commands."""

    x: float
    y: float
    z: float
    yaw: float  # [deg] driving direction
    half_width: float  # [m] across the lane
    road: int
    lane: int
    s: float  # [m] along the road


@dataclass(frozen=True)
class Signal:
    """A light or sign. `yaw` is the driving direction of the traffic it is for; its face looks the other way."""

    id: str  # OpenDRIVE signal id
    kind: str  # "light", "stop", "yield", "speed" or "other"
    x: float
    y: float
    z: float  # [m] foot of the pole
    yaw: float  # [deg]
    value: float  # km/h of a speed sign, else -1
    stops: tuple[StopLine, ...]
    group: int  # junction that a light belongs to, -1 for signs
    sequence: int  # a group's lights turn green in this order; lights with equal numbers together

    @property
    def stop(self) -> StopLine | None:
        """One box over all commanded lanes of the first approach (None for a sign without lanes)."""
        if not self.stops:
            return None
        first = self.stops[0]
        same = [s for s in self.stops if s.road == first.road and math.cos(math.radians(s.yaw - first.yaw)) > 0.7]
        across = (-math.sin(math.radians(first.yaw)), math.cos(math.radians(first.yaw)))
        offsets = [(s.x - first.x) * across[0] + (s.y - first.y) * across[1] for s in same]
        low = min(o - s.half_width for o, s in zip(offsets, same, strict=True))
        high = max(o + s.half_width for o, s in zip(offsets, same, strict=True))
        middle = (low + high) / 2
        x, y = first.x + across[0] * middle, first.y + across[1] * middle
        return StopLine(x, y, first.z, first.yaw, (high - low) / 2, first.road, first.lane, first.s)


def read_signals(carla_map: Any, drive: OpenDrive, before_end: float = BEFORE_END) -> list[Signal]:
    """Every signal of the map, sorted by id; references to one signal from several roads are gathered.

    Stop lines lie `before_end` metres before the end of their lane.
    """
    spans: dict[int, list[LaneSpan]] = {}
    for span in drive.lanes:
        if span.kind in _DRIVING:
            spans.setdefault(span.road, []).append(span)
    landmarks: dict[str, list[Any]] = {}
    for landmark in carla_map.get_all_landmarks():
        landmarks.setdefault(landmark.id, []).append(landmark)
    signals: list[Signal] = []
    for number, (signal_id, marks) in enumerate(sorted(landmarks.items())):
        first = marks[0]
        stops = _stops(carla_map, marks, spans, before_end)
        kind = "light" if first.type in LIGHT_TYPES else SIGN_KINDS.get(first.type, "other")
        place = first.transform.location
        yaw = stops[0].yaw if stops else first.transform.rotation.yaw
        foot = stops[0].z if stops else place.z
        group, sequence = drive.controllers.get(signal_id, (-1, 0))
        if kind == "light" and group < 0:
            group = _junction_after(carla_map, stops[0]) if stops else 1_000_000 + number
            sequence = sum(s.kind == "light" and s.group == group for s in signals)
        value = _speed(first)
        signals.append(Signal(signal_id, kind, place.x, place.y, foot, yaw, value, stops, group, sequence))
    known = [(s.x, s.y) for s in signals if s.kind == "speed"]
    signals += [s for s in _speed_objects(carla_map, drive, spans) if all(math.dist((s.x, s.y), k) > 3 for k in known)]
    return signals


def _stops(carla_map: Any, landmarks: list[Any], spans: dict[int, list[LaneSpan]], before_end: float) -> tuple[StopLine, ...]:
    """Where the commanded lanes end before the junction, one `StopLine` a lane."""
    found: dict[tuple[int, int], StopLine] = {}
    for landmark in landmarks:
        here = [
            span for span in spans.get(landmark.road_id, []) if span.start <= landmark.s + 0.5 and landmark.s - 0.5 <= span.end
        ]
        for low, high in landmark.get_lane_validities():
            for span in here:
                if not min(low, high) <= span.lane <= max(low, high):
                    continue
                # The end that traffic of this lane meets first inside a junction, or last outside.
                at_start = (span.lane < 0) == (span.junction >= 0)
                s = span.start + 1e-3 if at_start else span.end - 1e-3
                waypoint = carla_map.get_waypoint_xodr(span.road, span.lane, s)
                if waypoint is None:
                    continue
                candidates = [waypoint]
                if span.junction >= 0:
                    candidates = [w for w in waypoint.previous(0.5) if not w.is_junction] or [waypoint]
                for candidate in candidates:
                    back = (candidate.previous(before_end) or [candidate])[0]
                    found.setdefault((back.road_id, back.lane_id), _stop_at(back))
    return tuple(found[key] for key in sorted(found))


def _stop_at(waypoint: Any) -> StopLine:
    place, yaw = waypoint.transform.location, waypoint.transform.rotation.yaw
    half = waypoint.lane_width / 2
    return StopLine(place.x, place.y, place.z, yaw, half, waypoint.road_id, waypoint.lane_id, waypoint.s)


def _junction_after(carla_map: Any, stop: StopLine) -> int:
    waypoint = carla_map.get_waypoint_xodr(stop.road, stop.lane, stop.s)
    for ahead in waypoint.next(4.0) if waypoint else []:
        if ahead.is_junction:
            return int(ahead.get_junction().id)
    return -1


def _speed(landmark: Any) -> float:
    if SIGN_KINDS.get(landmark.type) != "speed":
        return -1.0
    return float(landmark.value) if landmark.value > 0 else _trailing_number(landmark.name)


def _trailing_number(name: str) -> float:
    digits = name.rsplit("_", 1)[-1]
    return float(digits) if digits.isdigit() else -1.0


def _speed_objects(carla_map: Any, drive: OpenDrive, spans: dict[int, list[LaneSpan]]) -> list[Signal]:
    """Speed signs that a map keeps as `<object name="Speed_30">`, as CARLA's older towns do."""
    signals = []
    for index, thing in enumerate(drive.objects):
        if not thing.name.startswith("Speed_"):
            continue
        near = [span for span in spans.get(thing.road, []) if span.start - 0.1 <= thing.s <= span.end + 0.1]
        side = [span for span in near if (span.lane < 0) == (thing.t < 0)]
        if not side:
            continue
        lane = min(side, key=lambda span: abs(span.lane))
        waypoint = carla_map.get_waypoint_xodr(thing.road, lane.lane, thing.s)
        if waypoint is None:
            continue
        place, yaw = waypoint.transform.location, math.radians(waypoint.transform.rotation.yaw)
        outward = abs(thing.t) - waypoint.lane_width * (abs(lane.lane) - 0.5)
        x, y = place.x - math.sin(yaw) * outward, place.y + math.cos(yaw) * outward
        name = f"{thing.name}#{index}"
        signals.append(Signal(name, "speed", x, y, place.z, math.degrees(yaw), _trailing_number(thing.name), (), -1, 0))
    return signals

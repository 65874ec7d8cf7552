"""What counts as an infraction while driving: the five kinds of arXiv 2008.04751 (table IV), each counted once per event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from roadworthy.runtime.errors import BadInput

INFRACTION_KINDS = ("collision_person", "collision_car", "collision_static", "off_line", "off_road")
OFF_THRESHOLD = 0.30  # fraction of the car's box; the paper counts "more than 30% off-line or off-road"
OFF_CLEARED = 0.10  # fraction; an excursion is over below this, so that a car wobbling at 30 % counts once
SAME_CONTACT_S = 2.0  # [s] contacts with the same other this close together are one collision


@dataclass(frozen=True)
class Infraction:
    """One infraction of one episode."""

    kind: str  # one of INFRACTION_KINDS
    step: int
    time_s: float
    distance_m: float  # driven when it happened
    location: tuple[float, float]  # x, y [m] in the world
    impulse_ns: float = 0.0  # [N s] of a collision's first contact
    other: str = ""  # type id of what was hit

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of this infraction."""
        return {**asdict(self), "location": list(self.location)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], source: str) -> Infraction:
        """Build an infraction from its JSON object; raises `BadInput` naming `source`."""
        try:
            infraction = cls(**{**record, "location": tuple(record["location"])})
        except (TypeError, KeyError) as error:
            raise BadInput(f"{source}: not an infraction record ({error})") from error
        if infraction.kind not in INFRACTION_KINDS:
            raise BadInput(f"{source}: infraction {infraction.kind!r}, expected one of {', '.join(INFRACTION_KINDS)}")
        return infraction


@dataclass(frozen=True)
class Contact:
    """One event of CARLA's collision sensor on the ego."""

    other_id: int  # actor id, 0 for scenery
    other_type: str  # type id, e.g. "walker.pedestrian.0001", "vehicle.tesla.model3", "static.building"
    impulse_ns: float  # [N s] magnitude of the normal impulse


def collision_kind(other_type: str) -> str:
    """Return the infraction kind for what was hit: walkers are persons, every vehicle (also two-wheelers) is a car."""
    if other_type.startswith("walker."):
        return "collision_person"
    return "collision_car" if other_type.startswith("vehicle.") else "collision_static"


@dataclass
class InfractionLog:
    """Turns what each step measured into infractions, one per event rather than one per step."""

    step_s: float = 0.1  # [s]
    events: list[Infraction] = field(default_factory=list)
    _last_contact_s: dict[tuple[int, str], float] = field(default_factory=dict)
    _outside: dict[str, bool] = field(default_factory=lambda: {"off_line": False, "off_road": False})

    @property
    def outside(self) -> bool:
        """Whether the car is on an excursion, off its line or off the road, that has been counted and is not over."""
        return any(self._outside.values())

    def update(
        self,
        step: int,
        distance_m: float,
        location: tuple[float, float],
        contacts: Sequence[Contact],
        off_line: float,
        off_road: float,
    ) -> list[Infraction]:
        """Record one step and return the infractions that began in it."""
        time_s = round(step * self.step_s, 3)
        began: list[Infraction] = []
        for contact in contacts:
            key = (contact.other_id, contact.other_type)
            previous_s = self._last_contact_s.get(key)
            self._last_contact_s[key] = time_s
            if previous_s is not None and time_s - previous_s < SAME_CONTACT_S:
                continue
            kind = collision_kind(contact.other_type)
            began.append(Infraction(kind, step, time_s, distance_m, location, round(contact.impulse_ns, 1), contact.other_type))
        for kind, fraction in (("off_line", off_line), ("off_road", off_road)):
            if not self._outside[kind] and fraction > OFF_THRESHOLD:
                self._outside[kind] = True
                began.append(Infraction(kind, step, time_s, distance_m, location))
            elif self._outside[kind] and fraction < OFF_CLEARED:
                self._outside[kind] = False
        self.events += began
        return began

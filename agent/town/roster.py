"""The actors of an episode: birth, look-up, parents and children, death, and the memory of the dead."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.blueprints import Blueprint
from roadworthy.agent.town.bodies import (
    BOTTOM,
    FRESH,
    HALF_LENGTH,
    HALF_WIDTH,
    INERTIA,
    MASS,
    OFFSET_X,
    PHASE,
    REACH,
    TOP,
    Bodies,
    Kind,
)
from roadworthy.agent.town.entities import Actor, Pose
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.instruments import make_sensor
from roadworthy.agent.town.physics import set_model
from roadworthy.agent.town.protocol import Wire

MAX_ACTORS = 4000
TOMBSTONES = 20_000


class Roster:
    """Actors by id, in order of birth, and their rows in `bodies`."""

    def __init__(self) -> None:
        self.bodies = Bodies()
        self._actors: dict[int, Actor] = {}
        self._dead: dict[int, Actor] = {}
        self._next_id = 1
        self._born = 0  # in this episode
        self._next_stream = 2  # 1 is the episode state
        self._live: npt.NDArray[np.int64] | None = None
        self._moving: npt.NDArray[np.int64] | None = None
        self.by_slot: dict[int, Actor] = {}
        self.sensors: dict[int, Actor] = {}  # stream -> actor
        self.fleeting: set[int] = set()  # rows of vehicles whose controls hold for one tick only

    def __len__(self) -> int:
        """How many actors are alive."""
        return len(self._actors)

    def __iter__(self) -> Iterator[Actor]:
        """The living, in order of birth."""
        return iter(self._actors.values())

    def get(self, id_: int) -> Actor | None:
        """A living actor, or None."""
        return self._actors.get(id_)

    def living(self, id_: Wire) -> Actor:
        """A living actor; raises `CallRefused`."""
        actor = self._actors.get(id_) if isinstance(id_, int) else None
        if actor is None:
            raise CallRefused(f"unable to find actor {id_!r:.30}: not found")
        return actor

    def remembered(self, id_: Wire) -> Actor:
        """An actor, living or dead: a client's Traffic Manager may ask about one that has just been destroyed."""
        actor = (self._actors.get(id_) or self._dead.get(id_)) if isinstance(id_, int) else None
        if actor is None:
            raise CallRefused(f"unable to find actor {id_!r:.30}: not found")
        return actor

    def live_slots(self) -> npt.NDArray[np.int64]:
        """Rows of all living actors in order of birth."""
        if self._live is None:
            self._live = np.array([actor.slot for actor in self._actors.values()], np.int64)
        return self._live

    def moving_slots(self) -> npt.NDArray[np.int64]:
        """Rows of vehicles, walkers and props, which physics looks at."""
        if self._moving is None:
            live = self.live_slots()
            self._moving = live[self.bodies.kind[live] != Kind.FIXED]
        return self._moving

    def children(self, parent: Actor) -> list[Actor]:
        """Actors that ride on `parent`."""
        return [actor for actor in self._actors.values() if actor.parent == parent.id]

    def add(
        self, type_id: str, description: Wire, pose: Pose, blueprint: Blueprint | None = None, parent: Actor | None = None
    ) -> Actor:
        """Bring an actor to life at `pose` (relative to `parent` when there is one). Raises `CallRefused`."""
        if len(self._actors) >= MAX_ACTORS:
            raise CallRefused(f"too many actors: this server holds {MAX_ACTORS}; destroy some first")
        actor = Actor(self._next_id, type_id, description, -1, self._born, blueprint, parent.id if parent else 0)
        if type_id.startswith("sensor."):
            actor.sensor = make_sensor(type_id, actor.attributes, self._next_stream)
            self._next_stream += 1
        actor.slot = self.bodies.take()
        self._next_id += 1
        self._born += 1
        self.bodies.pose[actor.slot] = pose
        if parent:
            actor.mount = np.array(pose, np.float64)
        if blueprint:
            self._give_body(actor, blueprint)
        self._actors[actor.id] = actor
        self.by_slot[actor.slot] = actor
        if actor.sensor:
            self.sensors[actor.sensor.stream] = actor
        self._live = self._moving = None
        return actor

    def _give_body(self, actor: Actor, blueprint: Blueprint) -> None:
        bodies, slot = self.bodies, actor.slot
        kind = {"vehicle": Kind.VEHICLE, "walker": Kind.WALKER, "static": Kind.PROP}.get(blueprint.kind, Kind.FIXED)
        bodies.kind[slot] = kind
        if kind == Kind.FIXED:
            return
        half_length, half_width, half_height = blueprint.extent
        actor.box_centre, actor.box_extent = blueprint.box_centre, blueprint.extent
        actor.tags = bytes([blueprint.tag])
        actor.colour = _colour(actor.attributes.get("color", ""))
        bodies.solid[slot] = blueprint.solid
        bodies.simulated[slot] = kind in (Kind.VEHICLE, Kind.WALKER)
        shape = bodies.shape[slot]
        shape[HALF_LENGTH], shape[HALF_WIDTH], shape[OFFSET_X] = half_length, half_width, 0.0
        shape[BOTTOM] = blueprint.box_bottom_m
        shape[TOP] = blueprint.box_bottom_m + 2 * half_height
        shape[REACH] = math.hypot(half_length, half_width)
        bodies.drive[slot, FRESH] = 1.0
        bodies.drive[slot, PHASE] = (zlib.crc32(str(actor.ordinal).encode()) % 6283) / 1000.0
        bodies.ground[slot] = (0.0, 1.0, 0.0)
        if actor.attributes.get("sticky_control", "true").lower() in ("false", "0"):
            self.fleeting.add(slot)
        if blueprint.drive:
            set_model(bodies, slot, blueprint.drive, *blueprint.size_m[:2])
        else:
            bodies.model[slot, MASS] = blueprint.mass_kg
            bodies.model[slot, INERTIA] = blueprint.mass_kg

    def remove(self, actor: Actor) -> list[Actor]:
        """End an actor and everything that rides on it; returns the removed."""
        removed = []
        for child in self.children(actor):
            removed += self.remove(child)
        self._actors.pop(actor.id, None)
        self.by_slot.pop(actor.slot, None)
        if actor.sensor:
            self.sensors.pop(actor.sensor.stream, None)
        self.fleeting.discard(actor.slot)
        self.bodies.release(actor.slot)
        self._bury([actor])
        self._live = self._moving = None
        return [*removed, actor]

    def clear(self) -> list[Actor]:
        """End everybody (a new episode); ids go on counting, so that no id ever means two actors."""
        gone = list(self._actors.values())
        self._actors.clear()
        self.by_slot.clear()
        self.sensors.clear()
        self.fleeting.clear()
        self.bodies = Bodies()
        self._born = 0
        self._bury(gone)
        self._live = self._moving = None
        return gone

    def _bury(self, actors: Sequence[Actor]) -> None:
        for actor in actors:
            self._dead[actor.id] = actor
        while len(self._dead) > TOMBSTONES:
            self._dead.pop(next(iter(self._dead)))


def _colour(value: str) -> tuple[int, int, int]:
    parts = value.split(",")
    if len(parts) == 3 and all(part.strip().isdigit() for part in parts):
        r, g, b = (min(int(part), 255) for part in parts)
        return r, g, b
    return 128, 128, 128

"""The world of one server: the map, the actors, the weather, and what a tick does to them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from roadworthy.agent.town import ackermann, rays
from roadworthy.agent.town.attachments import mount, to_local
from roadworthy.agent.town.blueprints import BlueprintLibrary
from roadworthy.agent.town.bodies import (
    BOTTOM,
    BRAKE,
    DRIVEN,
    FRESH,
    FRONT,
    GROUND_DRAG,
    GROUND_GRIP,
    HAND_BRAKE,
    HEIGHT,
    REAR,
    STEER,
    THROTTLE,
    YAW,
    Kind,
    X,
    Y,
    Z,
)
from roadworthy.agent.town.collisions import advance, is_free
from roadworthy.agent.town.contacts import Contact
from roadworthy.agent.town.entities import Actor, Pose
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.lights import TrafficLights, trigger_box
from roadworthy.agent.town.loaded_map import LoadedMap, MapShelf
from roadworthy.agent.town.physics import grip_of
from roadworthy.agent.town.protocol import MAP_CHANGED, STATE_STREAM, Stream, Wire, episode_header, message_header
from roadworthy.agent.town.roster import Roster
from roadworthy.agent.town.sensors import RAY_SENSORS, Senses
from roadworthy.agent.town.settings import CLEAR_NOON, PRECIPITATION_DEPOSITS, WETNESS, Settings, Weather
from roadworthy.agent.town.state import EpisodeState
from roadworthy.agent.town.surfaces import Ground

Buffer = bytes | memoryview
GRASS_GRIP, GRASS_DRAG_MPS2 = 0.6, 1.6  # off the road: less friction, more resistance
LYING_S = 10.0  # a walker who was run over lies in the road for so long
CARRIED_AWAY_M = -20.0  # and is then under it: traffic must not wait for ever
ORIGIN: Pose = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass
class Timings:
    """Seconds of processor time that ticks have cost so far, by what they were spent on."""

    ticks: int = 0
    physics_s: float = 0.0  # motion, contacts, traffic lights
    render_s: float = 0.0
    protocol_s: float = 0.0  # packing and sending states and sensor data
    frames: int = 0  # pictures rendered (a picture shared by several cameras counts once)


@dataclass
class Outlet:
    """Where the world sends its data: `send(stream, parts)` to all subscribers, `watched(stream)` whether there are any."""

    send: Callable[[int, Sequence[Buffer]], None]
    watched: Callable[[int], bool]
    streaming_port: int


class World:
    """One simulated world. Every public method may be called between ticks, in any order."""

    def __init__(self, shelf: MapShelf, map_name: str, seed: int, outlet: Outlet) -> None:
        self.shelf = shelf
        self.seed = seed
        self.outlet = outlet
        self.library = BlueprintLibrary()
        self.settings = Settings()
        self.weather: Weather = CLEAR_NOON
        self.latitude_mirrored = False  # GNSS as CARLA up to 0.9.15 and the leaderboard have it: latitude falls with +y
        self.roster = Roster()
        self.episode = 0
        self.frame = 0
        self.time_s = 0.0  # [s] simulated since the episode began
        self.timings = Timings()
        self.last_state: tuple[Buffer, ...] = ()
        self._started = time.monotonic()
        self._flags = 0
        self._senses = Senses(self)
        self.map: LoadedMap = shelf.get(map_name)
        self._begin_episode()

    @property
    def episode_frame(self) -> int:
        """Frames since the episode began."""
        return self.frame - self._first_frame

    # ---- episodes ----------------------------------------------------------------------------------------------------

    def load(self, map_name: str, reset_settings: bool) -> list[Actor]:
        """Start a new episode on a map ("" = the present one); returns the actors that ended. Raises `CallRefused`."""
        loaded = self.shelf.get(map_name) if map_name else self.map  # first: a refusal must leave the world as it is
        gone = self.roster.clear()
        self.map = loaded
        if reset_settings:
            self.settings = self.settings.after_reload()
        self._begin_episode()
        return gone

    def _begin_episode(self) -> None:
        self.episode += 1
        self._first_frame, self.time_s = self.frame, 0.0  # frames go on over all episodes, as CARLA counts them
        self._flags |= MAP_CHANGED
        self.lights = TrafficLights(self.map.roads.signals, self.seed)
        x, y, _, _ = self.map.spawn_points[0] if self.map.spawn_points else (0.0, 0.0, 0.0, 0.0)
        self.spectator = self.roster.add("spectator", [0, "spectator", []], (x, y, 30.0, -20.0, 0.0, 0.0))
        self.light_actors: list[Actor] = []
        for light in self.lights.lights:
            actor = self.roster.add("traffic.traffic_light", [0, "traffic.traffic_light", []], light.pose)
            actor.light, actor.sign_id, actor.tags = light, light.signal.id, b"\x07"
            actor.box_centre, actor.box_extent = light.trigger_box()
            self.light_actors.append(actor)
        for sign in self.map.roads.signals:
            type_id = {"stop": "traffic.stop", "yield": "traffic.yield", "speed": f"traffic.speed_limit.{sign.value:.0f}"}.get(
                sign.kind
            )
            if type_id:
                actor = self.roster.add(type_id, [0, type_id, []], (sign.x, sign.y, sign.z, 0.0, sign.yaw, 0.0))
                actor.sign_id, actor.tags = sign.id, b"\x08"
                actor.box_centre, actor.box_extent = trigger_box(sign, sign.yaw)
        self._state = EpisodeState()

    # ---- actors ------------------------------------------------------------------------------------------------------

    def spawn(self, description: Wire, pose: Pose, parent_id: int = 0) -> Actor:
        """Spawn what an ActorDescription says. Raises `CallRefused` (unknown type, missing parent, blocked place)."""
        blueprint = self.library.by_uid.get(description[0])
        if blueprint is None or blueprint.id != description[1]:
            raise CallRefused(f"unable to spawn {description[1]!r:.60}: this server has no such blueprint")
        parent = self.roster.get(parent_id) if parent_id else None
        if parent_id and parent is None:
            raise CallRefused(f"unable to spawn attached actor: parent {parent_id} not found")
        actor = self.roster.add(blueprint.id, description, pose, blueprint, parent)
        bodies, slot = self.roster.bodies, actor.slot
        if parent:
            assert actor.mount is not None
            mount(bodies.pose[parent.slot], actor.mount, bodies.pose[slot])
        if bodies.kind[slot] != Kind.FIXED:
            self._feel_ground(slot)
            if bodies.solid[slot] and not parent and not is_free(bodies, self.roster.moving_slots(), self.map.static, slot):
                self.roster.remove(actor)
                raise CallRefused("Spawn failed because of collision at spawn position")
        if actor.sensor and actor.sensor.kind in RAY_SENSORS:
            self._senses.warm_up_rays()
        return actor

    def destroy(self, actor: Actor) -> list[Actor]:
        """End an actor and what rides on it; returns all that ended."""
        return self.roster.remove(actor)

    def place(self, actor: Actor, pose: Pose) -> None:
        """Teleport an actor; its velocity stays. An attached actor keeps its new pose relative to the parent."""
        bodies, slot = self.roster.bodies, actor.slot
        bodies.pose[slot] = pose
        bodies.drive[slot, FRESH] = 1.0
        parent = self.roster.get(actor.parent)
        if parent and actor.mount is not None:
            frame = bodies.pose[parent.slot]
            actor.mount[:3] = to_local(frame, *(bodies.pose[slot, :3] - frame[:3]))
            actor.mount[3:] = bodies.pose[slot, 3:] - frame[3:]
        if bodies.kind[slot] != Kind.FIXED:
            self._feel_ground(slot)

    def drive_walker(self, actor: Actor, pose: Pose, speed: float) -> None:
        """Take an AI walker's state from its client: `pose` has the ground's height, `speed` [m/s] is along its yaw."""
        bodies, slot = self.roster.bodies, actor.slot
        if actor.dead:
            return
        x, y, z, pitch, yaw, roll = pose
        bodies.pose[slot] = (x, y, z - bodies.shape[slot, BOTTOM], pitch, yaw, roll)
        bodies.velocity[slot] = (speed * math.cos(math.radians(yaw)), speed * math.sin(math.radians(yaw)), 0.0)
        bodies.drive[slot, DRIVEN] = 1.0

    # ---- a tick ------------------------------------------------------------------------------------------------------

    def tick(self) -> int:
        """Advance by one step, send the state and then the sensors' data; returns the new frame number."""
        self.advance()
        self.look()
        return self.frame

    def advance(self) -> None:
        """The first half of a tick: move everything by one step, send the new state and what is felt. `look` comes next."""
        started = time.thread_time()
        step = self.settings.step_s
        self.frame += 1
        self.time_s += step
        contacts = self._move(step)
        moved = time.thread_time()
        self.send_state(step)
        sent = time.thread_time()
        self.timings.ticks += 1
        self.timings.physics_s += moved - started
        self.timings.protocol_s += sent - moved
        self._senses.feel(contacts)

    def look(self) -> None:
        """The second half of a tick: send what cameras and rays see in the new state."""
        self._senses.look()
        bodies = self.roster.bodies
        driven = bodies.drive[:, DRIVEN] > 0.0  # an AI walker that gets no new state stands still
        bodies.velocity[driven] = 0.0
        bodies.drive[driven, DRIVEN] = 0.0
        for slot in self.roster.fleeting:
            bodies.control[slot, [THROTTLE, STEER, BRAKE, HAND_BRAKE]] = 0.0
        self._flags = 0

    def _move(self, step: float) -> list[Contact]:
        bodies, moving = self.roster.bodies, self.roster.moving_slots()
        for slot in moving[bodies.kind[moving] == Kind.VEHICLE]:
            target = self.roster.by_slot[int(slot)].ackermann
            if target:
                ackermann.steer_and_drive(bodies, int(slot), target, step)
        fast = np.abs(bodies.velocity[moving]).sum(1) > 0.01
        for slot in moving[fast & (bodies.kind[moving] != Kind.PROP)]:
            self._feel_ground(int(slot))
        grip = grip_of(self.weather[WETNESS], self.weather[PRECIPITATION_DEPOSITS])
        contacts = advance(bodies, moving, step, grip, self.map.static)
        for contact in contacts:
            for slot in (contact.slot, contact.other):
                if slot >= 0 and self.roster.by_slot[slot].dead:
                    bodies.solid[slot] = False  # lies on the ground now
        for actor in self.roster:
            if actor.dead_s is not None and self.time_s - actor.dead_s > LYING_S:
                bodies.simulated[actor.slot] = False
                bodies.pose[actor.slot, Z] = CARRIED_AWAY_M
            if actor.mount is not None:
                parent = self.roster.get(actor.parent)
                if parent:
                    mount(bodies.pose[parent.slot], actor.mount, bodies.pose[actor.slot])
                    bodies.velocity[actor.slot] = bodies.velocity[parent.slot]
        self.lights.step(step)
        return contacts

    def _feel_ground(self, slot: int) -> None:
        """Sample the ground under a body: a vehicle at its axles, a walker at its feet."""
        bodies = self.roster.bodies
        x, y, yaw = bodies.pose[slot, X], bodies.pose[slot, Y], math.radians(bodies.pose[slot, YAW])
        at = self.map.roads.surface_at
        ground = bodies.ground[slot]
        if bodies.kind[slot] != Kind.VEHICLE:
            ground[:] = at(x, y).height, 1.0, 0.0
            return
        cos, sin = math.cos(yaw), math.sin(yaw)
        front, rear = bodies.model[slot, FRONT], -bodies.model[slot, REAR]
        a, b = at(x + front * cos, y + front * sin), at(x + rear * cos, y + rear * sin)
        grass = ((a.ground == Ground.TERRAIN) + (b.ground == Ground.TERRAIN)) / 2
        ground[HEIGHT] = (a.height + b.height) / 2
        ground[GROUND_GRIP] = 1.0 - (1.0 - GRASS_GRIP) * grass
        ground[GROUND_DRAG] = GRASS_DRAG_MPS2 * grass

    def send_state(self, step: float) -> None:
        """Send every actor's state; kept for subscribers that come late."""
        header = message_header(Stream.WORLD, self.frame, self.time_s, ORIGIN)
        episode = episode_header(self.episode, time.monotonic() - self._started, step, self._flags)
        self.last_state = (header, episode, self._state.pack(self.roster, self.lights))
        self.outlet.send(STATE_STREAM, self.last_state)

    # ---- the rest ----------------------------------------------------------------------------------------------------

    def cast_ray(self, start: Sequence[float], end: Sequence[float]) -> list[tuple[tuple[float, float, float], int]]:
        """Where the segment enters scenery, actors or the ground: (place, semantic tag), nearest first."""
        return rays.cast(self.roster, self.map, start, end)

    def warm_up_pictures(self) -> None:
        """Compile or load everything that a first picture would wait for, without a trace in the world."""
        self._senses.warm_up()

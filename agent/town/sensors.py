"""What sensors measure after each tick, and the messages that carry it.

Only sensors that somebody listens to measure. Cameras that share pose, size and field of view share one rendered
picture per tick (an RGB and a semantic camera side by side cost one).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from roadworthy.agent.town.actors import WALK_PHASES
from roadworthy.agent.town.attachments import to_local
from roadworthy.agent.town.bodies import BRAKE as BRAKE_PEDAL
from roadworthy.agent.town.bodies import HALF_LENGTH, HALF_WIDTH, TOP, YAW, Floats, Kind, X, Y, Z
from roadworthy.agent.town.bodies import REVERSE as REVERSE_GEAR
from roadworthy.agent.town.collisions import Contact
from roadworthy.agent.town.entities import Actor, Camera
from roadworthy.agent.town.physics import GRAVITY
from roadworthy.agent.town.protocol import (
    Stream,
    Wire,
    encode_depth,
    encode_instances,
    encode_tags,
    image_header,
    message_header,
    pack,
)
from roadworthy.agent.town.raster import BRAKE, REVERSE, ActorPose, CameraPose, Frame

if TYPE_CHECKING:
    from roadworthy.agent.town.world import World

STRIDE_M = 1.4  # distance over which a walker's legs repeat
STANDING_MPS = 0.1
LEAST_IMPULSE_NS = 0.5  # weaker contacts are not reported
# What a collision with scenery is called, by CARLA's semantic tag
STATIC_NAMES = {
    2: "sidewalk", 3: "building", 4: "wall", 5: "fence", 6: "pole", 7: "trafficlight", 8: "trafficsign", 9: "vegetation",
    10: "terrain", 14: "car", 15: "truck", 16: "bus", 18: "motorcycle", 19: "bicycle", 20: "static", 21: "dynamic",
    22: "other", 26: "bridge", 28: "guardrail",
}  # fmt: skip


class Senses:
    """The sensors of one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def measure(self, contacts: Sequence[Contact]) -> None:
        """Send the data of every due and watched sensor for the tick that has just passed."""
        world = self._world
        started = time.thread_time()
        rendered = 0.0
        pictures: dict[tuple[float, ...], Frame] = {}
        pixels: dict[tuple[tuple[float, ...], Stream], bytes] = {}
        scene: list[ActorPose] | None = None
        impulses = self._impulses(contacts) if contacts else {}
        for stream, actor in list(world.roster.sensors.items()):
            sensor = actor.sensor
            assert sensor is not None
            if not world.outlet.watched(stream):
                continue
            if sensor.kind == Stream.COLLISION:
                for other, impulse in impulses.get(actor.parent, ()):
                    self._send_collision(actor, other, impulse)
                continue
            if world.time_s + 1e-6 < sensor.due_s:
                continue
            if sensor.period_s > 0.0:
                late = world.time_s - sensor.due_s >= sensor.period_s
                sensor.due_s = (world.time_s if late else sensor.due_s) + sensor.period_s
            pose = world.roster.bodies.pose[actor.slot]
            if sensor.kind == Stream.IMU:
                self._send(actor, pack(self._imu(actor)))
            elif sensor.kind == Stream.GNSS:
                self._send(actor, pack(self._gnss(actor)))
            elif sensor.camera and not world.settings.no_rendering:
                before = time.thread_time()
                camera = sensor.camera
                key = (*pose, float(camera.width), float(camera.height), camera.fov)
                if key not in pictures:
                    scene = self._scene() if scene is None else scene
                    pictures[key] = self._render(actor, camera, scene)
                    world.timings.frames += 1
                if (key, sensor.kind) not in pixels:
                    pixels[key, sensor.kind] = _pixels(sensor.kind, pictures[key])
                rendered += time.thread_time() - before
                self._send(actor, image_header(camera.width, camera.height, camera.fov), pixels[key, sensor.kind])
        world.timings.render_s += rendered
        world.timings.protocol_s += time.thread_time() - started - rendered

    def _send(self, actor: Actor, *body: bytes) -> None:
        world, sensor = self._world, actor.sensor
        assert sensor is not None
        header = message_header(sensor.kind, world.frame, world.time_s, world.roster.bodies.pose[actor.slot])
        world.outlet.send(sensor.stream, (header, *body))

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Render one picture that nobody sees."""
        world = self._world
        world.map.renderer.render(CameraPose(0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 64, 32, 90.0), [], world.weather, {}, 0, 0)

    def _scene(self) -> list[ActorPose]:
        """Every visible actor for the renderer."""
        world = self._world
        bodies = world.roster.bodies
        poses = []
        for slot in world.roster.moving_slots().tolist():
            actor = world.roster.by_slot[slot]
            blueprint = actor.blueprint
            assert blueprint is not None
            x, y, z, pitch, yaw, roll = bodies.pose[slot].tolist()
            speed = math.hypot(*bodies.velocity[slot, :2].tolist())
            phase, lights = 0, actor.lights_on
            if blueprint.base_type in ("walker", "bicycle") and speed > STANDING_MPS:
                phase = int((world.episode_time_s * speed + actor.ordinal) / STRIDE_M * WALK_PHASES) % WALK_PHASES
            if bodies.kind[slot] == Kind.WALKER:
                z += blueprint.box_bottom_m
                if actor.dead:
                    z, pitch = z + 0.2, 90.0  # lies on its back
            elif bodies.kind[slot] == Kind.VEHICLE:
                lights |= BRAKE if bodies.control[slot, BRAKE_PEDAL] > 0.05 else 0
                lights |= REVERSE if bodies.control[slot, REVERSE_GEAR] > 0.0 else 0
            key = (blueprint.base_type, *blueprint.size_m, phase)
            poses.append(ActorPose(key, x, y, z, yaw, _paint(actor), actor.id, lights, pitch, roll))
        return poses

    def _render(self, actor: Actor, camera: Camera, scene: Sequence[ActorPose]) -> Frame:
        world = self._world
        pose = world.roster.bodies.pose[actor.slot]
        x, y, z, pitch, yaw, roll = pose.tolist()
        view = CameraPose(x, y, z, pitch, yaw, roll, camera.width, camera.height, camera.fov)
        parent = world.roster.get(actor.parent)
        hidden = parent.id if parent and self._inside(parent, pose) else None
        lights = {light.signal.id: int(light.state) for light in world.lights.lights}
        return world.map.renderer.render(view, scene, world.weather, lights, world.episode_frame, world.seed, hidden)

    def _inside(self, actor: Actor, pose: Floats) -> bool:
        """Whether a camera sits inside the box of the actor that carries it (it must not see the body's inside)."""
        bodies, slot = self._world.roster.bodies, actor.slot
        own, shape = bodies.pose[slot], bodies.shape[slot]
        x, y, z = to_local(own, pose[X] - own[X], pose[Y] - own[Y], pose[Z] - own[Z])
        return bool(abs(x) <= shape[HALF_LENGTH] and abs(y) <= shape[HALF_WIDTH] and z <= shape[TOP])

    # ---- the others --------------------------------------------------------------------------------------------------

    def _imu(self, actor: Actor) -> Wire:
        """Acceleration [m/s²] with gravity and turn rate [rad/s] in the sensor's axes; compass [rad], 0 at north (-y)."""
        bodies = self._world.roster.bodies
        sensor = actor.sensor
        assert sensor is not None
        pose = bodies.pose[actor.slot]
        carrier = self._world.roster.get(actor.parent)
        slot = carrier.slot if carrier else actor.slot
        ax, ay, az = bodies.acceleration[slot]
        accelerometer = list(to_local(pose, ax, ay, az + GRAVITY))
        gyroscope = list(to_local(pose, *np.radians(bodies.spin[slot])))
        for axis, name in enumerate("xyz"):
            accelerometer[axis] += sensor.dice.normal(0.0, 1.0) * sensor.noise.get(f"noise_accel_stddev_{name}", 0.0)
            gyroscope[axis] += sensor.noise.get(f"noise_gyro_bias_{name}", 0.0)
            gyroscope[axis] += sensor.dice.normal(0.0, 1.0) * sensor.noise.get(f"noise_gyro_stddev_{name}", 0.0)
        compass = math.radians(pose[YAW] + 90.0) % (2.0 * math.pi)
        return [[float(v) for v in accelerometer], [float(v) for v in gyroscope], compass]

    def _gnss(self, actor: Actor) -> Wire:
        """Latitude, longitude [deg] and altitude [m], by the map's geo-reference exactly as the client's map computes them."""
        sensor = actor.sensor
        assert sensor is not None
        place = self._world.map.geolocation(*(float(v) for v in self._world.roster.bodies.pose[actor.slot][:3]))
        values = []
        for value, axis in zip(place, ("lat", "lon", "alt"), strict=True):
            spread = sensor.dice.normal(0.0, 1.0) * sensor.noise.get(f"noise_{axis}_stddev", 0.0)
            values.append(float(value + sensor.noise.get(f"noise_{axis}_bias", 0.0) + spread))
        return values

    def _impulses(self, contacts: Sequence[Contact]) -> dict[int, list[tuple[Wire, tuple[float, float, float]]]]:
        """Per actor that was touched: the other (as clients see it) and the impulse [N s] on the first."""
        world = self._world
        found: dict[int, list[tuple[Wire, tuple[float, float, float]]]] = {}
        for contact in contacts:
            x, y, z = contact.impulse_ns
            if math.hypot(x, y, z) < LEAST_IMPULSE_NS:
                continue
            first = world.roster.by_slot.get(contact.slot)
            second = world.roster.by_slot.get(contact.other) if contact.other >= 0 else None
            port = world.outlet.streaming_port
            if first:
                other = second.to_wire(port) if second else self._scenery_actor(-1 - contact.other)
                found.setdefault(first.id, []).append((other, (x, y, z)))
            if first and second:
                found.setdefault(second.id, []).append((first.to_wire(port), (-x, -y, -z)))
        return found

    def _scenery_actor(self, index: int) -> Wire:
        """Something of the scenery as the nameless actor that CARLA reports: id 0, type static.<tag>."""
        scenery = self._world.map.scenery
        tag = int(scenery.collider_tags[index])
        _, _, yaw, length, width, height = scenery.colliders[index]
        box = [[0.0, 0.0, height / 2], [length, width, height / 2], [0.0, math.degrees(yaw), 0.0], 0]
        return [0, 0, [0, f"static.{STATIC_NAMES.get(tag, 'unknown')}", []], box, bytes([tag]), b""]

    def _send_collision(self, actor: Actor, other: Wire, impulse: tuple[float, float, float]) -> None:
        world = self._world
        parent = world.roster.get(actor.parent)
        if parent:
            self._send(actor, pack([parent.to_wire(world.outlet.streaming_port), other, list(impulse)]))


def _paint(actor: Actor) -> tuple[float, float, float]:
    """Colour 0 to 1: a vehicle's from its blueprint's attribute, a walker's own (the same for the same id)."""
    if "color" in actor.attributes:
        r, g, b = actor.colour
        return r / 255, g / 255, b / 255
    hue = (actor.ordinal * 0.61803) % 1.0
    return tuple(0.15 + 0.7 * abs(((hue * 6 + shift) % 6) / 3 - 1) for shift in (0, 2, 4))  # type: ignore[return-value]


def _pixels(kind: Stream, frame: Frame) -> bytes:
    """The bytes of one camera's picture."""
    if kind == Stream.RGB:
        return frame.bgra.tobytes()
    if kind == Stream.SEMANTIC:
        return encode_tags(frame.tags).tobytes()
    if kind == Stream.DEPTH:
        return encode_depth(frame.depth).tobytes()
    return encode_instances(frame.tags, frame.instance).tobytes()

"""When each sensor measures, and the messages that carry what it measured.

Only sensors that somebody listens to measure. Cameras that share pose, size and field of view share one rendered
picture per tick (an RGB and a semantic camera side by side cost one).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from roadworthy.agent.town import inertial, pictures, touch
from roadworthy.agent.town.attachments import rotation
from roadworthy.agent.town.bodies import Floats
from roadworthy.agent.town.contacts import Contact
from roadworthy.agent.town.entities import Actor
from roadworthy.agent.town.instruments import Camera, Lidar, Probe, Radar, Sensor
from roadworthy.agent.town.obstacles import GROUND, probe
from roadworthy.agent.town.protocol import Stream, image_header, message_header, pack
from roadworthy.agent.town.raster import ActorPose, CameraPose, Frame
from roadworthy.agent.town.ray_sensors import Surroundings, lidar_scan, radar_sweep, semantic_scan
from roadworthy.agent.town.rays import GROUND_TAGS

if TYPE_CHECKING:
    from roadworthy.agent.town.world import World

RAY_SENSORS = (Stream.LIDAR, Stream.SEMANTIC_LIDAR, Stream.RADAR)


class Senses:
    """The sensors of one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def feel(self, contacts: Sequence[Contact]) -> None:
        """Send what the sensors that do not look measure of the tick that has just passed: inertia, place, touch, obstacles."""
        world = self._world
        started = time.thread_time()
        impulses = touch.impulses(world, contacts) if contacts else {}
        for actor, sensor in self._watched(looks=False):
            if sensor.kind == Stream.COLLISION:
                for other, impulse in impulses.get(actor.parent, ()):
                    self._tell(actor, other, list(impulse))
            elif self._is_due(sensor):
                self._measure(actor, sensor)
        world.timings.protocol_s += time.thread_time() - started

    def look(self) -> None:
        """Send what cameras and rays see of the tick that has just passed."""
        world = self._world
        started = time.thread_time()
        tick = _Tick(world)
        for actor, sensor in self._watched(looks=True):
            if not self._is_due(sensor):
                continue
            if not isinstance(sensor.instrument, Camera):
                self._send(actor, tick.rays(actor, sensor))
            elif not world.settings.no_rendering:
                self._send(actor, *tick.picture(actor, sensor.kind, sensor.instrument))
        world.timings.render_s += tick.rendered_s
        world.timings.protocol_s += time.thread_time() - started - tick.rendered_s

    def _watched(self, *, looks: bool) -> Iterator[tuple[Actor, Sensor]]:
        """Sensors that somebody listens to: those that look (cameras, rays), or the others."""
        for stream, actor in list(self._world.roster.sensors.items()):
            sensor = actor.sensor
            assert sensor is not None
            if looks == (isinstance(sensor.instrument, Camera) or sensor.kind in RAY_SENSORS) and self._world.outlet.watched(
                stream
            ):
                yield actor, sensor

    def _is_due(self, sensor: Sensor) -> bool:
        """Whether a sensor measures now; if so, its next time is set."""
        now = self._world.time_s
        if now + 1e-6 < sensor.due_s:
            return False
        if sensor.period_s > 0.0:
            late = now - sensor.due_s >= sensor.period_s
            sensor.due_s = (now if late else sensor.due_s) + sensor.period_s
        return True

    def _measure(self, actor: Actor, sensor: Sensor) -> None:
        world = self._world
        if sensor.kind == Stream.IMU:
            self._send(actor, pack(inertial.imu(world, actor, sensor)))
        elif sensor.kind == Stream.GNSS:
            self._send(actor, pack(inertial.gnss(world, actor, sensor)))
        elif isinstance(sensor.instrument, Probe):
            self._look_for_obstacle(actor, sensor.instrument)

    def _look_for_obstacle(self, actor: Actor, instrument: Probe) -> None:
        """Tell of what is in front of the sensor. As documented by CARLA, the actor that noticed it is the carrier."""
        world = self._world
        bodies = world.roster.bodies
        pose = bodies.pose[actor.slot]
        carrier = world.roster.get(actor.parent)
        slots = world.roster.moving_slots()
        if carrier:
            slots = slots[slots != carrier.slot]
        found = probe(instrument, pose[:3].tolist(), rotation(pose)[:, 0].tolist(), bodies, slots, world.map)
        if found is None:
            return
        if found.slot >= 0:
            other = world.roster.by_slot[found.slot].to_wire(world.outlet.streaming_port)
        elif found.slot == GROUND:
            x, y, _ = pose[:3] + rotation(pose)[:, 0] * found.distance
            other = touch.ground_actor(GROUND_TAGS[world.map.roads.surface_at(x, y).ground])
        else:
            other = touch.scenery_actor(world, -2 - found.slot)
        self._tell(actor, other, found.distance)

    def _tell(self, actor: Actor, other: object, value: object) -> None:
        """An event: the carrier, the other actor, and how hard or how far."""
        world = self._world
        carrier = world.roster.get(actor.parent) or actor
        self._send(actor, pack([carrier.to_wire(world.outlet.streaming_port), other, value]))

    def _send(self, actor: Actor, *body: bytes) -> None:
        world, sensor = self._world, actor.sensor
        assert sensor is not None
        header = message_header(sensor.kind, world.frame, world.time_s, world.roster.bodies.pose[actor.slot])
        world.outlet.send(sensor.stream, (header, *body))

    def warm_up(self) -> None:
        """Render one picture that nobody sees."""
        world = self._world
        world.map.renderer.render(CameraPose(0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 64, 32, 90.0), [], world.weather, {}, 0, 0)

    def warm_up_rays(self) -> None:
        """Build what ray sensors need, and cast one ray, so that no tick has to wait for the compiler."""
        self._world.map.tracer.cast((0.0, 0.0, 2.0), np.array([[0.0, 0.0, -1.0]]), 10.0, pictures.scene(self._world)[:1])


class _Tick:
    """What the sensors of one tick share."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._actors: list[ActorPose] | None = None
        self._surroundings: Surroundings | None = None
        self._frames: dict[tuple[float, ...], Frame] = {}
        self._pixels: dict[tuple[tuple[float, ...], Stream], bytes] = {}
        self.rendered_s = 0.0  # of processor time

    def _scene(self) -> list[ActorPose]:
        if self._actors is None:
            self._actors = pictures.scene(self._world)
        return self._actors

    def picture(self, actor: Actor, kind: Stream, camera: Camera) -> tuple[bytes, bytes]:
        """Header and pixels of one camera's message."""
        world = self._world
        before = time.thread_time()
        pose = world.roster.bodies.pose[actor.slot]
        assert actor.sensor is not None
        # Cameras at one place may differ in what they must not see: the carrier, and whom they were told to ignore.
        ignored = actor.sensor.ignored
        key = (*pose, float(camera.width), float(camera.height), camera.fov, float(actor.parent), *map(float, sorted(ignored)))
        if key not in self._frames:
            seen = [other for other in self._scene() if other.instance_id not in ignored] if ignored else self._scene()
            self._frames[key] = pictures.take(world, actor, camera, seen)
            world.timings.frames += 1
        if (key, kind) not in self._pixels:
            self._pixels[key, kind] = pictures.pixels(kind, self._frames[key])
        self.rendered_s += time.thread_time() - before
        return image_header(camera.width, camera.height, camera.fov), self._pixels[key, kind]

    def rays(self, actor: Actor, sensor: Sensor) -> bytes:
        """The body of a lidar's or radar's message."""
        world = self._world
        before = time.thread_time()
        if self._surroundings is None:
            scene = self._scene()
            ids = np.array([pose.instance_id for pose in scene], np.int64)
            slots = world.roster.moving_slots()
            self._surroundings = Surroundings(world.map.tracer, scene, ids, world.roster.bodies.velocity[slots])
        hidden = pictures.carrier_around(world, actor)
        ignored = sensor.ignored if hidden is None else sensor.ignored | {hidden}
        around = self._surroundings.without(ignored) if ignored else self._surroundings
        pose = world.roster.bodies.pose[actor.slot]
        elapsed = max(world.settings.step_s, sensor.period_s)
        if isinstance(sensor.instrument, Radar):
            body = radar_sweep(sensor, sensor.instrument, pose, self._velocity(actor), elapsed, around)
        else:
            assert isinstance(sensor.instrument, Lidar)
            scan = lidar_scan if sensor.kind == Stream.LIDAR else semantic_scan
            body = scan(sensor, sensor.instrument, pose, elapsed, around)
        self.rendered_s += time.thread_time() - before
        return body

    def _velocity(self, actor: Actor) -> Floats:
        """Velocity [3] of a sensor: its carrier's, and what the carrier's turning adds."""
        bodies = self._world.roster.bodies
        carrier = self._world.roster.get(actor.parent)
        if carrier is None:
            return np.zeros(3)
        turning = math.radians(bodies.spin[carrier.slot, 2])
        dx, dy = (bodies.pose[actor.slot] - bodies.pose[carrier.slot])[:2]
        velocity: Floats = bodies.velocity[carrier.slot] + turning * np.array([-dy, dx, 0.0])
        return velocity

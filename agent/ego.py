"""An ego car in a world: placed on a route, driven one tick at a time, and measured. Never respawned, only teleported.

CARLA servers leak with every sensor that is spawned again, so one car, its cameras and one collision sensor serve all
episodes of a session. An ego that has the world to itself ticks it (`begin`, `advance`, `put_back`); egos that share one are
told what to do (`take`, `place`, `control`), then the world ticks once, and each measures what that did (`measure`).
"""

from __future__ import annotations

import math
import queue
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from roadworthy.agent.camera import COLOUR, DEPTH, SEMANTIC, CameraFeed, CameraRig, depth_of, rgb_of, tags_of
from roadworthy.agent.carla_client import carla
from roadworthy.agent.corridor import Corridor, box_points
from roadworthy.agent.expert import CarModel, Situation
from roadworthy.agent.infractions import Contact
from roadworthy.agent.lanegraph import LaneGraph, lane_key
from roadworthy.agent.routes import Route
from roadworthy.agent.session import Session
from roadworthy.agent.world import World
from roadworthy.runtime.errors import BadInput

CAR = "vehicle.tesla.model3"  # the one that recordings are made with
DROP_M = 0.3  # [m] above the ground, where a teleported car is let go
STOP_LINE_M = 1.5  # [m] a stop line this close beside the route is the route's
CLEAR_M = 8.0  # [m] from other actors where the ego is put back
YIELD_M = 35.0  # [m] before a stop line, where a light that gives way to the ego turns green


@dataclass(frozen=True)
class Assignment:
    """One drive: which route, in what world. The same assignment gives the same drive, as far as the server allows."""

    route: Route
    weather: str
    vehicles: int = 0
    walkers: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Moment:
    """What one tick left behind."""

    frame: npt.NDArray[np.uint8]  # [H, W, 3] RGB
    tags: npt.NDArray[np.uint8] | None  # [H, W] true CARLA tags, when the car has a semantic camera
    depth_m: npt.NDArray[np.float32] | None  # [H, W] [m] to the image plane, when it has a depth camera
    x: float  # [m]
    y: float
    yaw_deg: float
    speed_mps: float
    v_along_mps: float  # velocity along the route
    along_m: float  # progress on the route
    lateral_m: float  # beside the route, to the right positive
    command: int  # RoadOption in force
    off_line: float  # fraction of the car's box, 0..1
    off_road: float
    contacts: tuple[Contact, ...]

    @property
    def location(self) -> tuple[float, float]:
        """Place in the world, rounded to centimetres."""
        return round(self.x, 2), round(self.y, 2)


def cameras_for(needed: Sequence[str], *, truth: bool) -> tuple[str, ...]:
    """Return the cameras an ego carries: colour, those `needed`, and for the `truth` the semantic one; each once."""
    return tuple(dict.fromkeys((COLOUR, *needed, *([SEMANTIC] if truth else []))))


class Ego:
    """The car that is being judged."""

    def __init__(
        self,
        session: Session,
        rig: CameraRig,
        car: str = CAR,
        *,
        lights_yield: bool = True,
        cameras: Sequence[str] = (COLOUR,),
        world: World | None = None,
    ) -> None:
        """Spawn the car with its camera and collision sensor somewhere on the session's map.

        With `lights_yield` the traffic lights turn green for the ego, and red for everybody else at that junction, as for a
        fire engine: the paper's infractions know no red light, and no wait for one tells two segmenters apart.
        `cameras` are kinds of `sensor.camera.<kind>` on the same pose; see `cameras_for`. `world` is shared with other egos;
        without one the ego has its own.
        """
        self.session = session
        self.lights_yield = lights_yield
        self.world = world or World(session)
        self._contacts: queue.SimpleQueue[Contact] = queue.SimpleQueue()
        library = session.world.get_blueprint_library()
        self.car = self._spawn_car(library, car)
        self._camera = CameraFeed(session, self.car, rig, cameras)
        bumper = session.spawn(library.find("sensor.other.collision"), carla.Transform(), self.car)
        if bumper is None:
            raise BadInput("the server refused the ego's collision sensor; is it a CARLA 0.9.16 server?")
        bumper.listen(self._feel)
        session.tick()
        extent = self.car.bounding_box.extent
        physics = self.car.get_physics_control()
        self.mass_kg = float(physics.mass)
        self.model = CarModel(
            max_steer_deg=float(physics.wheels[0].max_steer_angle), half_length_m=extent.x, half_width_m=extent.y
        )
        self._lights = self._stop_lines()
        self._stops: list[tuple[float, carla.TrafficLight]] = []
        self._groups: dict[int, list[carla.TrafficLight]] = {}
        self._assignment: Assignment | None = None
        self._corridor: Corridor | None = None
        self._along_m = 0.0
        self.world.egos.append(self)

    @property
    def lanes(self) -> LaneGraph:
        """The lanes of the map."""
        return self.world.lanes

    def _spawn_car(self, library: carla.BlueprintLibrary, car: str) -> carla.Actor:
        blueprint = library.find(car)
        blueprint.set_attribute("role_name", "hero")
        for place in self.session.map.get_spawn_points():
            actor = self.session.spawn(blueprint, place)
            if actor is not None:
                return actor
        raise BadInput(f"map {self.session.map_name!r} has no free spawn point for the ego car; restart the server")

    def _feel(self, event: carla.CollisionEvent) -> None:
        impulse = event.normal_impulse
        size = math.sqrt(impulse.x**2 + impulse.y**2 + impulse.z**2)
        self._contacts.put(Contact(int(event.other_actor.id), str(event.other_actor.type_id), size))

    def begin(self, assignment: Assignment) -> Moment:
        """Set the world up for `assignment`, put the car on its start and return the first moment."""
        return self.world.begin([(self, assignment)])[0]

    def go_on(self, route: Route, aside_m: float = 0.0, turned_deg: float = 0.0) -> Moment | None:
        """Start another route in the same world, `aside_m` to the right of it and turned; None if its start is taken."""
        assert self._assignment is not None, "begin() comes first"
        if not self.is_clear(route):
            return None
        self.take(replace(self._assignment, route=route))
        self.place(0.0, aside_m, turned_deg)
        return self.world.settle([self])[0]

    def is_clear(self, route: Route) -> bool:
        """Whether nobody stands near the start of `route`."""
        return all(route.start.location.distance(other.get_location()) >= CLEAR_M for other in self.world.others(self))

    def advance(self, steer: float, throttle: float, brake: float) -> Moment:
        """Apply the controls for one tick and return what it left behind."""
        self.control(steer, throttle, brake)
        return self.measure(self.session.tick())

    def control(self, steer: float, throttle: float, brake: float) -> None:
        """Set the controls that the next tick applies."""
        self.car.apply_control(carla.VehicleControl(throttle=throttle, steer=steer, brake=brake))
        if self.lights_yield:
            self._clear_next_light()

    def put_back(self) -> Moment:
        """Place the car on its route again, at the first place ahead where nobody stands."""
        route = self._route
        occupied = [actor.get_location() for actor in self.world.others(self)]
        along = self._along_m
        while along < route.length_m:
            here = route.transform_at(along).location
            if all(here.distance(other) > CLEAR_M for other in occupied):
                break
            along += 2.0
        self.place(min(along, route.length_m - 1.0))
        return self.world.settle([self])[0]

    def situation(self, now: Moment) -> Situation:
        """Return everybody's place as the simulator knows it: for a demonstrating expert, never for the policy."""
        others = []
        for actor in self.world.others(self):
            place, speed = actor.get_transform(), actor.get_velocity()
            half_length, half_width = self.world.extents[actor.id]
            yaw = math.radians(place.rotation.yaw)
            others.append((place.location.x, place.location.y, speed.x, speed.y, yaw, half_length, half_width))
        red = (
            along for along, light in self._stops if along > now.along_m and light.get_state() != carla.TrafficLightState.Green
        )
        return Situation(
            now.x, now.y, now.yaw_deg, now.speed_mps, now.along_m, np.array(others).reshape(-1, 7), min(red, default=math.inf)
        )

    def close(self) -> None:
        """Take the traffic away; the session destroys the car and its sensors."""
        self.world.clear()

    @property
    def _route(self) -> Route:
        assert self._assignment is not None, "begin() comes first"
        return self._assignment.route

    def take(self, assignment: Assignment) -> None:
        """Follow the route of `assignment` from now on."""
        self._assignment, self._corridor = assignment, Corridor(self.session.map, assignment.route)
        self._stops = self._stops_on(assignment.route)
        self.world.let_go(self)

    def place(self, along_m: float, aside_m: float = 0.0, turned_deg: float = 0.0) -> None:
        """Put the car on its route, `along_m` from the start, standing, the brake on; the next tick shows it there."""
        place = self._route.transform_at(along_m)
        place.location += aside_m * place.get_right_vector()
        place.location.z += DROP_M
        place.rotation.yaw += turned_deg
        self.car.set_transform(place)
        self.car.set_target_velocity(carla.Vector3D())
        self.car.set_target_angular_velocity(carla.Vector3D())
        self.car.apply_control(carla.VehicleControl(brake=1.0, hand_brake=True))
        self._along_m = along_m

    def drain_contacts(self) -> tuple[Contact, ...]:
        """Return what the car has touched since the last call."""
        contacts = []
        while not self._contacts.empty():
            contacts.append(self._contacts.get_nowait())
        return tuple(contacts)

    def measure(self, frame: int) -> Moment:
        """Return what the tick that gave simulator frame `frame` left behind."""
        route, corridor = self._route, self._corridor
        assert corridor is not None
        transform, velocity = self.car.get_transform(), self.car.get_velocity()
        x, y, yaw = transform.location.x, transform.location.y, transform.rotation.yaw
        progress = route.progress(transform.location, self._along_m)
        self._along_m = progress.along_m
        here = route.transform_at(progress.along_m)
        heading = math.radians(here.rotation.yaw)
        box = box_points(x, y, yaw, self.model.half_length_m, self.model.half_width_m)
        off_line, off_road = corridor.outside(box, here.location.z)
        images = self._camera.read(frame)
        return Moment(
            frame=rgb_of(images[COLOUR]),
            tags=tags_of(images[SEMANTIC]) if SEMANTIC in images else None,
            depth_m=depth_of(images[DEPTH]) if DEPTH in images else None,
            x=x,
            y=y,
            yaw_deg=yaw,
            speed_mps=math.hypot(velocity.x, velocity.y),
            v_along_mps=velocity.x * math.cos(heading) + velocity.y * math.sin(heading),
            along_m=progress.along_m,
            lateral_m=progress.lateral_m,
            command=int(route.command_at(progress.along_m)),
            off_line=off_line,
            off_road=off_road,
            contacts=self.drain_contacts(),
        )

    def _clear_next_light(self) -> None:
        """Turn the next light on the route green, and the others of its junction red, when the ego comes near."""
        near = [light for along_m, light in self._stops if 0.0 < along_m - self._along_m < YIELD_M]
        if not near:
            self.world.let_go(self)
        for light in near:
            if light.id not in self._groups:
                self._groups[light.id] = list(light.get_group_traffic_lights())
            junction = min(other.id for other in self._groups[light.id])
            if not self.world.may_clear(junction, self) or light.get_state() == carla.TrafficLightState.Green:
                continue
            for other in self._groups[light.id]:
                if other.id != light.id:
                    other.set_state(carla.TrafficLightState.Red)
            light.set_state(carla.TrafficLightState.Green)
            return

    def _stop_lines(self) -> list[tuple[carla.TrafficLight, carla.Waypoint]]:
        lights = self.session.world.get_actors().filter("traffic.traffic_light*")
        return [(light, waypoint) for light in lights for waypoint in light.get_stop_waypoints()]

    def _stops_on(self, route: Route) -> list[tuple[float, carla.TrafficLight]]:
        """Return where along `route` stop lines are, with their lights."""
        stops = []
        for light, waypoint in self._lights:
            if lane_key(waypoint) not in route.lanes:
                continue
            place = route.progress(waypoint.transform.location)
            if abs(place.lateral_m) < STOP_LINE_M:
                stops.append((place.along_m, light))
        return sorted(stops, key=lambda stop: stop[0])

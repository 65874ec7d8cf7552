"""Other road users: cars that CARLA's own Traffic Manager drives, people that its AI controllers walk; both in the client."""

from __future__ import annotations

import contextlib

import numpy as np

from roadworthy.agent.carla_client import carla
from roadworthy.agent.session import Session, free_port
from roadworthy.runtime.errors import RoadworthyError

CLEARANCE_M = 8.0  # [m] from a place that must stay free, such as the ego's start
NEAR_M = 70.0  # [m] from the place that most start near to
NEAR_SHARE = 0.7  # of the cars and people
NEAR_ATTEMPTS = 50
GAP_M = 2.5  # [m] that Traffic Manager cars keep to the car ahead
RUNNING_SHARE = 0.15  # of the people
CROSSING_SHARE = 0.15  # of the people cross the road where they like
PORT_ATTEMPTS = 5


class Traffic:
    """Cars and people on a session's map. The same seed on a fresh map gives the same traffic."""

    def __init__(
        self,
        session: Session,
        *,
        vehicles: int = 0,
        walkers: int = 0,
        seed: int = 0,
        clear: carla.Location | None = None,
        near: carla.Location | None = None,
    ) -> None:
        """Spawn up to `vehicles` cars and `walkers` people (fewer where the map is full).

        Args:
            session: whose map and Traffic Manager to use.
            vehicles: cars, bicycles and the like.
            walkers: people on foot.
            seed: of places, looks and manners.
            clear: nobody starts within 8 m of this place, such as the ego's start.
            near: most of them start within 70 m of this place, so that the ego meets them; elsewhere without.
        """
        self.session = session
        self._rng = np.random.default_rng(seed)
        self.manager = _traffic_manager(session, seed)
        self.vehicles: list[carla.Actor] = []
        self.walkers: list[carla.Actor] = []
        self._controllers: list[carla.Actor] = []
        try:
            self._spawn_vehicles(vehicles, clear, near)
            self._spawn_walkers(walkers, seed, clear, near)
        except BaseException:
            self.destroy()
            raise

    def drive(self, vehicle: carla.Actor) -> None:
        """Hand a car of the caller's own to the Traffic Manager. The caller takes it back with `release`."""
        vehicle.set_autopilot(True, self.manager.get_port())
        self._manner(vehicle)

    def release(self, vehicle: carla.Actor) -> None:
        """Take a car back from the Traffic Manager; do so before destroying it.

        The car keeps the manager's last control. CARLA's client sends nothing when `apply_control` is called with the control
        that it was last called with, whatever the manager has commanded since: take `carla.command.ApplyVehicleControl`.
        """
        vehicle.set_autopilot(False, self.manager.get_port())

    def _manner(self, vehicle: carla.Actor) -> None:
        self.manager.vehicle_percentage_speed_difference(vehicle, float(self._rng.uniform(-10.0, 25.0)))  # [%] slower
        self.manager.update_vehicle_lights(vehicle, True)

    def _spawn_vehicles(self, count: int, clear: carla.Location | None, near: carla.Location | None) -> None:
        blueprints = sorted(self.session.world.get_blueprint_library().filter("vehicle.*"), key=lambda b: str(b.id))
        places = [
            place
            for place in self.session.map.get_spawn_points()
            if clear is None or place.location.distance(clear) > CLEARANCE_M
        ]
        order = [int(index) for index in self._rng.permutation(len(places))]
        if near is not None:
            close = [index for index in order if places[index].location.distance(near) < NEAR_M][: round(NEAR_SHARE * count)]
            order = close + [index for index in order if index not in set(close)]
        for index in order:
            if len(self.vehicles) == count:
                break
            blueprint = blueprints[self._rng.integers(len(blueprints))]
            self._dress(blueprint)
            blueprint.set_attribute("role_name", "autopilot")
            vehicle = self.session.spawn(blueprint, places[index])
            if vehicle is not None:
                self.vehicles.append(vehicle)
        if self.vehicles:
            self.session.tick()  # the Traffic Manager needs the cars' first state
        for vehicle in self.vehicles:
            self.drive(vehicle)

    def _dress(self, blueprint: carla.ActorBlueprint) -> None:
        if blueprint.has_attribute("color"):
            colours = blueprint.get_attribute("color").recommended_values
            if colours:
                blueprint.set_attribute("color", str(self._rng.choice(colours)))

    def _spawn_walkers(self, count: int, seed: int, clear: carla.Location | None, near: carla.Location | None) -> None:
        if count == 0:
            return
        world = self.session.world
        world.set_pedestrians_seed(int(seed) % 2**31)
        world.set_pedestrians_cross_factor(CROSSING_SHARE)
        library = world.get_blueprint_library()
        blueprints = sorted(library.filter("walker.pedestrian.*"), key=lambda b: str(b.id))
        for _ in range(4 * count):
            if len(self.walkers) == count:
                break
            place = world.get_random_location_from_navigation()
            if near is not None and len(self.walkers) < NEAR_SHARE * count:
                for _ in range(NEAR_ATTEMPTS):
                    if place is None or place.distance(near) < NEAR_M:
                        break
                    place = world.get_random_location_from_navigation()
            if place is None:
                break  # the map has no navigation mesh: nobody can walk
            if clear is not None and place.distance(clear) < CLEARANCE_M:
                continue
            blueprint = blueprints[self._rng.integers(len(blueprints))]
            if blueprint.has_attribute("is_invincible"):
                blueprint.set_attribute("is_invincible", "false")
            walker = self.session.spawn(blueprint, carla.Transform(place + carla.Location(z=1.0)))
            if walker is not None:
                self.walkers.append(walker)
        # A controller that starts before its walker was in a tick's state is lost for ever: tick in between.
        self.session.tick()
        brain = library.find("controller.ai.walker")
        for walker in self.walkers:
            controller = self.session.spawn(brain, carla.Transform(), attach_to=walker)
            if controller is not None:
                self._controllers.append(controller)
        self.session.tick()
        for controller in self._controllers:
            controller.start()
            goal = world.get_random_location_from_navigation()
            if goal is not None:
                controller.go_to_location(goal)
            pace = self._rng.uniform(2.2, 3.0) if self._rng.random() < RUNNING_SHARE else self._rng.uniform(0.9, 1.7)
            controller.set_max_speed(float(pace))  # [m/s]

    def destroy(self) -> bool:
        """Remove everybody and shut the Traffic Manager down, in the only order that the client survives.

        Returns whether it is shut down; where the server has died it is still in this process.
        """
        shut_down = False
        with contextlib.suppress(RuntimeError):  # a server that died has taken them along
            for controller in self._controllers:
                controller.stop()
            for vehicle in self.vehicles:
                self.release(vehicle)
            self.session.destroy(*self._controllers, *self.walkers, *self.vehicles)
            # Still synchronous: a Traffic Manager that left that mode with cars registered aborts the process.
            self.session.tick()
            self.manager.set_synchronous_mode(False)
            self.manager.shut_down()
            shut_down = True
        self._controllers, self.walkers, self.vehicles = [], [], []
        return shut_down


def _traffic_manager(session: Session, seed: int) -> carla.TrafficManager:
    failure: RuntimeError | None = None
    for _ in range(PORT_ATTEMPTS):  # a port that was free a moment ago may be taken
        try:
            manager = session.client.get_trafficmanager(free_port())
        except RuntimeError as error:
            failure = error
            continue
        manager.set_synchronous_mode(True)
        manager.set_random_device_seed(int(seed) % 2**31)
        manager.set_global_distance_to_leading_vehicle(GAP_M)
        return manager
    raise RoadworthyError(f"no Traffic Manager could be started ({failure}): check that local TCP ports are free") from failure

"""A car that stands in the ego's way for a while: what traffic shows a demonstrating expert far too seldom.

Without it 4 of 35 demonstrated drives came near a standing car, and drivers cloned from them braked too late for most.
"""

from __future__ import annotations

import numpy as np

from roadworthy.agent.carla_client import carla
from roadworthy.agent.routes import Route
from roadworthy.agent.world import World

NEAREST_M, FARTHEST_M = 14.0, 45.0  # [m] from the start of the route to the middle of the car
END_M = 12.0  # [m] before the goal none stands, so that it is reached
ASIDE_M = 0.4  # [m] at most, beside the lane's centre
TURNED_DEG = 4.0  # [degrees] at most, against the lane
DROP_M = 0.3  # [m] above the road, from where it settles


class Obstruction:
    """One standing car on a route, until it is removed."""

    def __init__(self, world: World, car: carla.Actor) -> None:
        self._world, self._car = world, car
        extent = car.bounding_box.extent
        world.standing.append(car)
        world.extents[car.id] = (extent.x, extent.y)

    @classmethod
    def place(cls, world: World, route: Route, rng: np.random.Generator) -> Obstruction | None:
        """Put a car of any kind somewhere on `route`; None where the place is taken or the route too short."""
        farthest = min(FARTHEST_M, route.length_m - END_M)
        along, aside, turned = rng.uniform((NEAREST_M, -ASIDE_M, -TURNED_DEG), (max(farthest, NEAREST_M), ASIDE_M, TURNED_DEG))
        blueprints = sorted(world.session.world.get_blueprint_library().filter("vehicle.*"), key=lambda b: str(b.id))
        blueprint = blueprints[rng.integers(len(blueprints))]
        if farthest < NEAREST_M:
            return None
        where = route.transform_at(float(along))
        where.location += float(aside) * where.get_right_vector()
        where.location.z += DROP_M
        where.rotation.yaw += float(turned)
        car = world.session.spawn(blueprint, where)
        if car is None:
            return None
        car.apply_control(carla.VehicleControl(brake=1.0, hand_brake=True))
        return cls(world, car)

    def remove(self) -> None:
        """Take the car away; safe to call twice."""
        if self._car in self._world.standing:
            self._world.standing.remove(self._car)
            self._world.session.destroy(self._car)

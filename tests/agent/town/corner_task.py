"""Two buses at narrow corners, in a process of their own: the CARLA client can abort the one it lives in."""

from __future__ import annotations

import math

import carla

from roadworthy.agent.session import Session
from roadworthy.agent.supervisor import Report
from roadworthy.agent.traffic import Traffic

CORNERS = 4
STANDS_BEYOND_M = 1.1  # the nose of a bus that the Traffic Manager stops at a sign, beyond the end of its lane
RUN_UP_M = 24.0
LONGEST_S = 40.0
BUS = "vehicle.mitsubishi.fusorosa"


def right_turns(city: carla.Map) -> list[tuple[carla.Waypoint, carla.Waypoint, carla.Waypoint]]:
    """Of each right turn into a street with one lane each way: entry, exit, and the oncoming lane's end beside the exit."""
    found = []
    for entry, leave in city.get_topology():
        turn = math.remainder(leave.transform.rotation.yaw - entry.transform.rotation.yaw, 360.0)
        street = leave.next(1.0)[0]
        oncoming = street.get_left_lane()
        if entry.is_junction and turn > 45.0 and oncoming is not None and oncoming.lane_id * street.lane_id < 0:
            while not (ahead := oncoming.next(0.1)[0]).is_junction:
                oncoming = ahead
            found.append((entry, leave, oncoming))
    return found


def meet(report: Report, name: str) -> dict[str, list[bool]]:
    """Whether each bus that turned right has come through, and whether it has touched the one that stood there."""
    with Session.open(map=name, fixed_delta_s=0.05) as session:
        traffic = Traffic(session)
        for light in session.world.get_actors().filter("traffic.traffic_light*"):
            light.set_state(carla.TrafficLightState.Green)
            light.freeze(True)
        library = session.world.get_blueprint_library()
        corners: list[tuple[carla.Actor, carla.Location]] = []  # the bus that turns, and where it leaves the junction
        touched: set[int] = set()
        for entry, leave, oncoming in right_turns(session.map):
            place = leave.transform.location
            if len(corners) == CORNERS or any(place.distance(other) < 80.0 for _, other in corners):
                continue
            start = entry.previous(RUN_UP_M)[0].transform
            stand = oncoming.transform
            bus = session.spawn(library.find(BUS), raised(start))
            half_length = bus.bounding_box.extent.x
            stand.location += stand.get_forward_vector() * (STANDS_BEYOND_M - half_length)
            standing = session.spawn(library.find(BUS), raised(stand))
            standing.apply_control(carla.VehicleControl(hand_brake=True))
            sensor = session.spawn(library.find("sensor.other.collision"), carla.Transform(), attach_to=bus)
            sensor.listen(lambda event: touched.add(event.actor.id))
            corners.append((bus, place))
        session.tick()
        for bus, _ in corners:
            traffic.drive(bus)
            traffic.manager.set_route(bus, ["Right", "Right"])
        nearest = [math.inf] * len(corners)
        came = [False] * len(corners)
        for _ in range(round(LONGEST_S / session.fixed_delta_s)):
            session.tick()
            for k, (bus, place) in enumerate(corners):
                apart = bus.get_location().distance(place)
                nearest[k] = min(nearest[k], apart)
                came[k] = came[k] or (nearest[k] < 3.0 and apart > 12.0)
            if all(came):
                break
        report("driven")
        found = {"came": came, "touched": [bus.id in touched for bus, _ in corners]}
        for bus, _ in corners:
            traffic.release(bus)
        traffic.destroy()
        return found


def raised(pose: carla.Transform) -> carla.Transform:
    """The pose a little above the road, where there is room to spawn."""
    return carla.Transform(pose.location + carla.Location(z=0.3), pose.rotation)

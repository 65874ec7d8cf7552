"""Watch CARLA's AI walkers walk in a town, and count what goes wrong. Prints JSON.

    python -m roadworthy.scripts.check_walkers                                 # 50 people, 10 simulated minutes on Grid01
    python -m roadworthy.scripts.check_walkers --map Ring01 --walkers 30 --minutes 3 --seed 7 --output walkers.json

What is counted, through the client alone but for the map's walkways, which are built again from its OpenDRIVE:

- the way that each walker went, against its speed times the time;
- how far from the navigation mesh, and from its sidewalks and crossings, anybody ever was;
- steps onto a crossing's road (half a metre past the kerb: who waits or passes by treads on its edge), and how many of them
  while the nearest traffic light within 30 m let cars go (for 1.5 s or longer);
- how often and how long somebody stood still beside a crossing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from roadworthy.agent.carla_client import carla
from roadworthy.agent.session import Session
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.walkways import walkways

STEP_S = 0.05
SPEED_MPS = 1.4
STANDING_MPS = 0.2
KERB_M = 0.5  # [m] from the road's edge: further in somebody is on the crossing
LIGHT_M = 30.0  # [m] no light that is further off is this crossing's
BESIDE_M = 2.5  # [m] from a crossing within which standing is waiting
OPEN_FOR_S = 1.5  # a light that has just turned green finds people on the crossing
LEAST_SHARE = 0.8  # of speed times time
OFF_MESH_M = 0.3  # a walker's own radius


@dataclass
class WalkerReport:
    """What happened to the walkers; the fields are the JSON's."""

    map: str
    seed: int
    walkers: int
    simulated_s: float
    mean_share: float = 0.0  # of speed times time
    least_share: float = 0.0  # of the slowest walker
    off_mesh_m: float = 0.0  # farthest that anybody was from the mesh
    off_walkway_m: float = 0.0  # farthest that anybody was from sidewalks and crossings
    crossings: int = 0  # steps onto a crossing's road
    crossings_against_light: int = 0
    waits: int = 0  # times that somebody stood for over a second beside a crossing
    longest_wait_s: float = 0.0
    gone: int = 0  # walkers that ended
    wall_s: float = 0.0


class Crossings:
    """Who steps onto a crossing, and what the nearest traffic light shows then."""

    def __init__(self, area: shapely.Geometry, lights: list[carla.TrafficLight]) -> None:
        shapely.prepare(area)
        self._area, self._lights = area, lights
        stops = [(k, w.transform.location) for k, light in enumerate(lights) for w in light.get_stop_waypoints()]
        self._owner = np.array([k for k, _ in stops], np.int64)  # [L]
        self._stop = np.array([(place.x, place.y) for _, place in stops]).reshape(-1, 2)  # [L, 2]
        self._open_s = np.zeros(len(lights))
        self._inside: NDArray[np.bool_] | None = None

    def step(self, places: NDArray[np.float64], seconds: float) -> tuple[int, int]:
        """Steps onto a crossing since the last call, and those against the light: `places` [W, 2] metres."""
        going = [light.get_state() in (carla.TrafficLightState.Green, carla.TrafficLightState.Yellow) for light in self._lights]
        self._open_s = np.where(np.array(going, bool), self._open_s + seconds, 0.0)
        inside = shapely.contains_xy(self._area, places[:, 0], places[:, 1])
        entered = inside & ~self._inside if self._inside is not None else np.zeros(len(places), bool)
        self._inside = inside
        if not entered.any() or not len(self._stop):
            return int(entered.sum()), 0
        apart = np.hypot(*(places[entered][:, None] - self._stop[None]).transpose(2, 0, 1))  # [E, L]
        against = (self._open_s[self._owner[apart.argmin(1)]] > OPEN_FOR_S) & (apart.min(1) < LIGHT_M)
        return int(entered.sum()), int(against.sum())


def spawn(session: Session, count: int, seed: int) -> tuple[list[carla.Actor], list[carla.Actor]]:
    """Up to `count` walkers with a controller each, all on their way."""
    world, dice = session.world, np.random.default_rng(seed)
    world.set_pedestrians_seed(seed)
    world.set_pedestrians_cross_factor(0.0)
    library = world.get_blueprint_library()
    looks = sorted(library.filter("walker.pedestrian.*"), key=lambda b: str(b.id))
    walkers: list[carla.Actor] = []
    for _ in range(10 * count):
        place = world.get_random_location_from_navigation()
        if len(walkers) == count or place is None:
            break
        walker = session.spawn(looks[dice.integers(len(looks))], carla.Transform(place + carla.Location(z=1.0)))
        walkers += [walker] if walker is not None else []
    session.tick()  # a controller must not start before its walker was in a tick's state
    brain = library.find("controller.ai.walker")
    spawned = [session.spawn(brain, carla.Transform(), attach_to=walker) for walker in walkers]
    controllers = [controller for controller in spawned if controller is not None]
    session.tick()
    for controller in controllers:
        controller.start()
        goal = world.get_random_location_from_navigation()
        if goal is not None:
            controller.go_to_location(goal)
        controller.set_max_speed(SPEED_MPS)
    return walkers, controllers


def watch(session: Session, count: int, seed: int, minutes: float) -> WalkerReport:
    """Let `count` people walk for `minutes` of simulated time."""
    began = time.monotonic()
    roads = RoadNetwork.from_opendrive(session.map_name, session.map.to_opendrive())
    ways = walkways(roads)
    walkable = shapely.union_all([ways.sidewalk, ways.crosswalks])
    mesh = shapely.union_all([walkable, ways.road])
    for area in (walkable, mesh):
        shapely.prepare(area)
    world = session.world
    walkers, controllers = spawn(session, count, seed)
    report = WalkerReport(session.map_name, seed, len(walkers), minutes * 60.0)
    on_road = ways.crosswalks.intersection(roads.drivable.buffer(-KERB_M))
    crossings = Crossings(on_road, list(world.get_actors().filter("traffic.traffic_light*")))
    step, ticks = session.fixed_delta_s, round(minutes * 60.0 / session.fixed_delta_s)
    session.tick()
    places = _places(world, walkers, np.zeros((len(walkers), 2)))
    way, stood = np.zeros(len(walkers)), np.zeros(len(walkers))
    for _ in range(ticks):
        session.tick()
        before, places = places, _places(world, walkers, places)
        moved = np.hypot(*(places - before).T)
        way += moved
        points = np.asarray(shapely.points(places))
        report.off_walkway_m = max(report.off_walkway_m, float(shapely.distance(walkable, points).max()))
        report.off_mesh_m = max(report.off_mesh_m, float(shapely.distance(mesh, points).max()))
        entered, against = crossings.step(places, step)
        report.crossings += entered
        report.crossings_against_light += against
        stands = moved < STANDING_MPS * step
        if stands.any():
            stands[stands] &= shapely.distance(ways.crosswalks, points[stands]) < BESIDE_M
        ended = ~stands & (stood > 1.0)
        report.waits += int(ended.sum())
        stood = np.where(stands, stood + step, 0.0)
        report.longest_wait_s = max(report.longest_wait_s, float(stood.max()))
    share = way / (SPEED_MPS * minutes * 60.0)
    report.mean_share, report.least_share = round(float(share.mean()), 4), round(float(share.min()), 4)
    report.off_mesh_m, report.off_walkway_m = round(report.off_mesh_m, 3), round(report.off_walkway_m, 3)
    report.longest_wait_s = round(report.longest_wait_s, 2)
    report.gone = sum(not walker.is_alive for walker in walkers)
    for controller in controllers:
        controller.stop()
    session.destroy(*controllers, *walkers)
    report.wall_s = round(time.monotonic() - began, 1)
    return report


def _places(world: carla.World, walkers: list[carla.Actor], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where everybody is `[W, 2]` metres; who is gone stays where it was last."""
    snapshot = world.get_snapshot()
    found = last.copy()
    for k, walker in enumerate(walkers):
        state = snapshot.find(walker.id)
        if state is not None:
            place = state.get_transform().location
            found[k] = place.x, place.y
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the check and print its report; exit status 1 when a limit of the town's is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", default="Grid01", help="a shipped town, or the path of an .xodr file")
    parser.add_argument("--walkers", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0, help="simulated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the JSON there too")
    options = parser.parse_args(arguments)
    with Session.open(None, map=options.map, seed=options.seed, fixed_delta_s=STEP_S) as session:
        report = watch(session, options.walkers, options.seed, options.minutes)
    text = json.dumps(asdict(report), indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    if options.output:
        options.output.write_text(text + "\n")
    good = report.mean_share > LEAST_SHARE and report.off_mesh_m < OFF_MESH_M and not report.gone
    os._exit(0 if good and not math.isnan(report.mean_share) else 1)  # the client's threads may abort at the end


if __name__ == "__main__":
    main()

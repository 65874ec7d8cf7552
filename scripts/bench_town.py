"""Measure the town: ticks per second through the real client, and where the time goes. Prints JSON.

    python scripts/bench_town.py                      # the three standard scenes
    python scripts/bench_town.py --ticks 1000 --map Crooked01 --output town.json

Each scene runs in a client process of its own: synchronous, 0.1 s steps, one ego with an RGB and a semantic camera of
256x128 on the same pose, waiting for both frames of every tick. The split is processor time: the server's own account
(rendering, physics, protocol) and the client's; what is missing to the tick's length is waiting and other processes.
`first_frame_s` runs from before the town's start to the ego's first pictures, the client's own start and spawning included;
`start_cpu_s` and `start_helper_cpu_s` the processor time of the town and its helper (first starts only) till it is ready.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SCENES = {"empty": (0, 0), "traffic": (15, 15), "busy": (30, 30)}  # name: Traffic Manager cars, AI walkers
WIDTH, HEIGHT = 256, 128  # [px]
STEP_S = 0.1
WARM_UP_TICKS = 50
TICK_LIMIT_S = 30.0
COLD_FIGURES = ("start_s", "start_cpu_s", "start_helper_cpu_s", "first_frame_s", "town_rss_mb")


def measure(port: int, vehicles: int, walkers: int, ticks: int) -> dict[str, Any]:
    """Run one scene against the town on `port`; returns its figures."""
    import carla

    client = carla.Client("127.0.0.1", port)
    client.set_timeout(TICK_LIMIT_S)
    world = client.get_world()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, STEP_S
    world.apply_settings(settings)
    library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
    random.Random(0).shuffle(points)
    ego = world.spawn_actor(library.find("vehicle.lincoln.mkz_2020"), points[0])
    manager_port = random.randint(20000, 50000)
    manager = client.get_trafficmanager(manager_port)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(0)
    cars = _spawn_cars(world, points[1:], vehicles)
    for car in [ego, *cars]:
        car.set_autopilot(True, manager_port)
    people = _spawn_walkers(world, walkers)
    frames: list[queue.Queue[Any]] = []
    cameras = []
    for kind in ("rgb", "semantic_segmentation"):
        blueprint = library.find(f"sensor.camera.{kind}")
        blueprint.set_attribute("image_size_x", str(WIDTH))
        blueprint.set_attribute("image_size_y", str(HEIGHT))
        camera = world.spawn_actor(blueprint, carla.Transform(carla.Location(x=1.5, z=2.0)), attach_to=ego)
        frames.append(queue.Queue())
        camera.listen(frames[-1].put)
        cameras.append(camera)

    def tick() -> None:
        frame = world.tick()
        for pictures in frames:
            while pictures.get(timeout=TICK_LIMIT_S).frame != frame:
                pass

    tick()
    first_frame_at = time.time()
    for _ in range(WARM_UP_TICKS):
        tick()
    before, cpu_before, durations = _timings(port), time.process_time(), []
    for _ in range(ticks):
        started = time.perf_counter()
        tick()
        durations.append(time.perf_counter() - started)
    after, client_cpu = _timings(port), time.process_time() - cpu_before
    durations.sort()
    total = sum(durations)
    spent = {name: (after[name] - before[name]) / ticks * 1e3 for name in ("render_s", "physics_s", "protocol_s")}
    for camera in cameras:
        camera.stop()
    for mind in people:
        mind.stop()
    for car in [ego, *cars]:
        car.set_autopilot(False, manager_port)
    return {
        "vehicles": len(cars),
        "walkers": len(people),
        "ticks": ticks,
        "ticks_per_s": round(ticks / total, 1),
        "tick_ms": {"p50": _ms(durations, 0.5), "p90": _ms(durations, 0.9), "p99": _ms(durations, 0.99)},
        "split_ms": {
            "render": round(spent["render_s"], 3),
            "physics": round(spent["physics_s"], 3),
            "protocol": round(spent["protocol_s"], 3),
            "client": round(client_cpu / ticks * 1e3, 3),
        },
        "first_frame_at": first_frame_at,
        "pictures_per_tick": (after["frames"] - before["frames"]) / ticks,
    }


def _ms(durations: list[float], share: float) -> float:
    return round(durations[min(int(share * len(durations)), len(durations) - 1)] * 1e3, 3)


def _spawn_cars(world: Any, points: list[Any], count: int) -> list[Any]:
    blueprints = [
        b for b in world.get_blueprint_library().filter("vehicle.*") if b.get_attribute("base_type").as_str() == "car"
    ]
    cars: list[Any] = []
    for index, point in enumerate(points):
        if len(cars) == count:
            break
        car = world.try_spawn_actor(blueprints[index % len(blueprints)], point)
        if car is not None:
            cars.append(car)
    return cars


def _spawn_walkers(world: Any, count: int) -> list[Any]:
    import carla

    library = world.get_blueprint_library()
    world.set_pedestrians_seed(0)
    people: list[Any] = []
    for index in range(4 * count):
        if len(people) == count:
            break
        place = carla.Transform(world.get_random_location_from_navigation() + carla.Location(z=1.0))
        person = world.try_spawn_actor(library.filter("walker.*")[index % 6], place)
        if person is not None:
            people.append(person)
    world.tick()
    minds = [world.spawn_actor(library.find("controller.ai.walker"), carla.Transform(), attach_to=person) for person in people]
    world.tick()
    for mind in minds:
        mind.start()
        mind.go_to_location(world.get_random_location_from_navigation())
        mind.set_max_speed(1.4)
    return minds


def _timings(port: int) -> dict[str, float]:
    """The town's own account of its time, asked for past the client."""
    import socket

    import msgpack

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(msgpack.packb([0, 1, "get_town_timings", [[False]]]))
        unpacker = msgpack.Unpacker(raw=False)
        while True:
            unpacker.feed(connection.recv(1 << 16))
            for message in unpacker:
                return {name: float(value) for name, value in message[3][0][1]}


def _run_scene(name: str, map_name: str, seed: int, ticks: int) -> dict[str, Any]:
    """One scene with a town and a client process of its own."""
    from roadworthy.agent.town.process import TownProcess

    started = time.time()
    with TownProcess(map_name, seed) as town:
        start_s = time.time() - started
        spent = psutil.Process(town.pid).cpu_times()
        command = [sys.executable, __file__, "--scene-on-port", str(town.port), "--scenes", name, "--ticks", str(ticks)]
        child = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if not child.stdout.strip():
            raise SystemExit(f"scene {name} gave no figures: {child.stderr.strip()[-2000:]}\ntown: {town.said()}")
        figures: dict[str, Any] = json.loads(child.stdout.strip().splitlines()[-1])
        figures["start_s"] = round(start_s, 2)
        figures["start_cpu_s"] = round(spent.user + spent.system, 2)
        figures["start_helper_cpu_s"] = round(spent.children_user + spent.children_system, 2)
        figures["first_frame_s"] = round(figures.pop("first_frame_at") - started, 2)
        figures["town_rss_mb"] = round(psutil.Process(town.pid).memory_info().rss / 2**20, 1)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, or (with --scene-on-port) one scene of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", default="Grid01")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ticks", type=int, default=400, help="measured ticks per scene")
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    parser.add_argument("--cold", action="store_true", help="also start once without compiled kernels")
    parser.add_argument("--output", type=Path, help="write the JSON there too")
    parser.add_argument("--scene-on-port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.scene_on_port:
        vehicles, walkers = SCENES[options.scenes[0]]
        sys.stdout.write(json.dumps(measure(options.scene_on_port, vehicles, walkers, options.ticks)) + "\n")
        sys.stdout.flush()
        os._exit(0)  # the client may abort while a Traffic Manager's threads are taken down: the figures are out
    report: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "map": options.map,
        "size": [WIDTH, HEIGHT],
        "scenes": {},
    }
    from roadworthy.agent.town.process import TownProcess

    TownProcess(options.map, options.seed).close()  # the scenes measure warm starts: here kernels that are new get compiled
    for name in options.scenes:
        report["scenes"][name] = _run_scene(name, options.map, options.seed, options.ticks)
    if options.cold:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["NUMBA_CACHE_DIR"] = cache
            figures = _run_scene("empty", options.map, options.seed, 1)
        report["cold"] = {key: figures[key] for key in COLD_FIGURES}
    text = json.dumps(report, indent=2)
    sys.stdout.write(text + "\n")
    if options.output:
        options.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

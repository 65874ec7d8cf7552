"""Load, spawn, drive, destroy, again and again, against one town: does it leak or crash? Prints JSON.

    python scripts/soak_town.py                       # 1,000 episodes
    python scripts/soak_town.py --episodes 100 --every 10 --output soak.json

One server process lives through all episodes, on two maps in turn. The client runs in a child process, as CARLA's client
aborts now and then; a client that dies is replaced and its episode repeated. The server's resident memory is noted every
`--every` episodes; flat means that the last note is within 5 % of the first one after the warm-up (a fifth of the episodes).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import psutil

from roadworthy.agent.town.process import TownProcess

MAPS = ("Grid01", "Crooked01")
CARS, WALKERS = 6, 6
TICKS = 20
WARM_UP = 0.2  # share of the episodes after which memory must stay
FLAT = 0.05
SIZE = (160, 96)  # [px]


def client(port: int, first: int, last: int) -> None:
    """Run episodes `first` to `last` - 1 and print each one's number when it is over."""
    import carla

    connection = carla.Client("127.0.0.1", port)
    connection.set_timeout(60.0)
    for episode in range(first, last):
        world = connection.load_world(MAPS[episode % len(MAPS)]) if episode % 2 == 0 else connection.reload_world()
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.1
        world.apply_settings(settings)
        world.set_weather(
            carla.WeatherParameters(sun_altitude_angle=10.0 + episode % 7 * 12.0, precipitation=episode % 3 * 40.0)
        )
        actors = _spawn(world, episode)
        images: list[Any] = []
        sensors = _watch(world, actors[0], images)
        for tick in range(TICKS):
            for index, actor in enumerate(actors[:CARS]):
                actor.apply_control(carla.VehicleControl(throttle=0.6, steer=0.1 * ((tick + index) % 5 - 2)))
            world.tick()
        for sensor in sensors:
            sensor.stop()
        # Without a tick: the client would hold Python's lock through it, and wait for ever on a sensor's call back to Python.
        connection.apply_batch_sync([carla.command.DestroyActor(thing) for thing in [*sensors, *reversed(actors)]])
        world.tick()
        if not images:
            raise SystemExit(f"no picture came in episode {episode}")
        sys.stdout.write(f"{episode}\n")
        sys.stdout.flush()
    os._exit(0)  # the client may abort while it is taken down: all episodes are out


def _spawn(world: Any, episode: int) -> list[Any]:
    """Cars on spawn points, AI walkers on the navigation mesh; the first is the ego."""
    import carla

    library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
    vehicles, people = list(library.filter("vehicle.*")), list(library.filter("walker.pedestrian.*"))
    cars = []
    for index in range(4 * CARS):
        car = world.try_spawn_actor(
            vehicles[(episode + index) % len(vehicles)], points[(7 * episode + 11 * index) % len(points)]
        )
        cars += [car] if car else []
        if len(cars) == CARS:
            break
    walkers = []
    for index in range(WALKERS):
        place = world.get_random_location_from_navigation()
        transform = carla.Transform(place + carla.Location(z=1.0)) if place else carla.Transform()
        walker = world.try_spawn_actor(people[(episode + index) % len(people)], transform)
        walkers += [walker] if walker else []
    world.tick()
    minds = [world.spawn_actor(library.find("controller.ai.walker"), carla.Transform(), attach_to=w) for w in walkers]
    world.tick()
    for mind in minds:
        mind.start()
        mind.go_to_location(world.get_random_location_from_navigation())
    world.tick()
    for mind in minds:
        mind.stop()
    return [*cars, *walkers, *minds]


def _watch(world: Any, ego: Any, images: list[Any]) -> list[Any]:
    """Two cameras and the sensors without pictures on the ego."""
    import carla

    library, sensors = world.get_blueprint_library(), []
    for kind in (
        "camera.rgb",
        "camera.semantic_segmentation",
        "other.collision",
        "other.lane_invasion",
        "other.imu",
        "other.gnss",
    ):
        blueprint = library.find(f"sensor.{kind}")
        if kind.startswith("camera"):
            blueprint.set_attribute("image_size_x", str(SIZE[0]))
            blueprint.set_attribute("image_size_y", str(SIZE[1]))
        sensor = world.spawn_actor(blueprint, carla.Transform(carla.Location(x=1.5, z=2.0)), attach_to=ego)
        sensor.listen(lambda data, kind=kind: images.append(data.frame) if kind == "camera.rgb" else None)
        sensors.append(sensor)
    return sensors


def soak(town: TownProcess, episodes: int, every: int) -> dict[str, Any]:
    """Run all episodes; returns what was seen."""
    process = psutil.Process(town.pid)
    memory: list[tuple[int, float]] = []
    done, clients, deaths = 0, 0, 0
    started = time.perf_counter()
    while done < episodes:
        clients += 1
        command = [
            sys.executable,
            __file__,
            "--client-on-port",
            str(town.port),
            "--first",
            str(done),
            "--episodes",
            str(episodes),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            before = done
            for line in child.stdout:
                done = int(line) + 1
                if done % every == 0:
                    memory.append((done, round(process.memory_info().rss / 2**20, 1)))
                    click.echo(f"episode {done}: {memory[-1][1]} MB, {time.perf_counter() - started:.0f} s", err=True)
            said = child.stderr.read() if child.stderr else ""
        if not town.alive():
            raise click.ClickException(f"the town died in episode {done}: {town.said()}")
        if done < episodes:
            deaths += 1
            click.echo(f"client died in episode {done}: {said.strip().splitlines()[-1:]}", err=True)
            if done == before and deaths > 20 + done // 10:
                raise click.ClickException(f"clients die again and again, the last one with: {said[-2000:]}")
    settled = [megabytes for episode, megabytes in memory if episode > WARM_UP * episodes]
    drift = settled[-1] / settled[0] - 1.0 if len(settled) > 1 else float("nan")
    return {
        "episodes": done,
        "maps": MAPS,
        "seconds": round(time.perf_counter() - started, 1),
        "clients_that_died": deaths,
        "rss_mb": memory,
        "drift_after_warm_up": round(drift, 4),
        "flat": bool(abs(drift) <= FLAT),
    }


@click.command(context_settings={"show_default": True}, help=__doc__)
@click.option("--episodes", default=1000)
@click.option("--every", default=50, help="episodes between two looks at the server's memory")
@click.option("--output", type=click.Path(path_type=Path), help="write the JSON there too")
@click.option("--client-on-port", type=int, hidden=True)
@click.option("--first", default=0, hidden=True)
def main(episodes: int, every: int, output: Path | None, client_on_port: int | None, first: int) -> None:
    """Run the soak, or (with --client-on-port) the client of it."""
    if client_on_port:
        client(client_on_port, first, episodes)
        return
    with TownProcess(MAPS[0], 0) as town:
        report = soak(town, episodes, every)
    text = json.dumps(report, indent=2)
    click.echo(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    if not report["flat"]:
        raise click.ClickException(f"memory drifted by {report['drift_after_warm_up']:.1%}, expected within {FLAT:.0%}")


if __name__ == "__main__":
    main()

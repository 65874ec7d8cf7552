"""What the checks share: a clean synchronous world, spawning, listening, waiting, and the table of all checks."""

import contextlib
import queue
import random
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import carla
import numpy as np

STEP_S = 0.05
PORT = int(sys.argv[1]) if len(sys.argv) > 2 else 0  # of the town that `run.py` is pointed at
CHECKS: dict[str, Callable[[carla.Client], None]] = {}


def check(function: Callable[[carla.Client], None]) -> Callable[[carla.Client], None]:
    CHECKS[function.__name__] = function
    return function


@contextlib.contextmanager
def stepped(client: carla.Client, step_s: float = STEP_S) -> Iterator[carla.World]:
    """A clean world in synchronous mode; whatever was spawned is gone afterwards."""
    world = client.get_world()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, step_s
    world.apply_settings(settings)
    world.set_weather(carla.WeatherParameters(sun_altitude_angle=50.0))
    try:
        yield world
    finally:
        client.get_world().tick()  # so that the list of actors is complete
        clean(client)


def free_port() -> int:
    """A port that nobody listens on, below those that the system hands out to connections by itself."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


def clean(client: carla.Client) -> None:
    world = client.get_world()
    for actor in world.get_actors():
        if actor.type_id.startswith(("vehicle.", "walker.", "sensor.", "controller.", "static.")):
            actor.destroy()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = False, None
    world.apply_settings(settings)


def spawn_car(world: carla.World, index: int = 0, type_id: str = "vehicle.lincoln.mkz_2020") -> carla.Vehicle:
    blueprint = world.get_blueprint_library().find(type_id)
    return world.spawn_actor(blueprint, straights(world)[index])


def spawn_walker(world: carla.World, pose: carla.Transform) -> carla.Walker:
    above = carla.Transform(pose.location + carla.Location(z=1.0), pose.rotation)
    return world.spawn_actor(world.get_blueprint_library().find("walker.pedestrian.0001"), above)


def ahead(pose: carla.Transform, metres: float) -> carla.Transform:
    """The pose moved forwards."""
    return carla.Transform(pose.location + pose.get_forward_vector() * metres, pose.rotation)


def straights(world: carla.World, metres: float = 50.0) -> list[carla.Transform]:
    """Spawn points with that much straight lane ahead."""
    city, found = world.get_map(), []
    for point in world.get_map().get_spawn_points():
        place = city.get_waypoint(point.location)
        ahead = place.next(metres)
        turn = abs((ahead[0].transform.rotation.yaw - point.rotation.yaw + 180) % 360 - 180) if ahead else 180.0
        if turn < 1.0 and not ahead[0].is_junction and ahead[0].road_id == place.road_id:
            found.append(point)
    return found


def attach(
    world: carla.World, parent: carla.Actor | None, type_id: str, pose: carla.Transform | None = None, **attributes: Any
) -> Any:
    blueprint = world.get_blueprint_library().find(type_id)
    for name, value in attributes.items():
        blueprint.set_attribute(name, str(value))
    sensor = world.spawn_actor(blueprint, pose or carla.Transform(), attach_to=parent)
    data: queue.Queue[Any] = queue.Queue()
    sensor.listen(data.put)
    return sensor, data


def pixels(image: carla.Image) -> np.ndarray:
    return np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)


def depth_m(image: carla.Image) -> np.ndarray:
    """What a depth camera's picture says `[H, W]`, in metres."""
    blue, green, red = pixels(image).astype(float)[..., :3].transpose(2, 0, 1)
    return (red + 256.0 * green + 65536.0 * blue) / (2**24 - 1) * 1000.0


def speed(actor: carla.Actor) -> float:
    return actor.get_velocity().length()


def run(world: carla.World, seconds: float, each: Callable[[], None] = lambda: None) -> None:
    for _ in range(round(seconds / world.get_settings().fixed_delta_seconds)):
        world.tick()
        each()


def refused(action: Callable[[], Any]) -> str:
    try:
        action()
    except RuntimeError as error:
        return str(error)
    raise AssertionError("expected an error")


def another_client() -> carla.Client:
    client = carla.Client("127.0.0.1", PORT)
    client.set_timeout(60.0)  # the first lidar of a new installation waits for its kernels
    return client

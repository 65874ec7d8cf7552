"""Watching a running CARLA server: the frames of a camera on a car that someone else drives."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator

from roadworthy.agent.camera import CameraRig, rgb_of
from roadworthy.agent.carla_client import carla
from roadworthy.agent.session import SimulatorLost, connect
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.stream import Captured

FIRST_TICK_S = 5.0  # [s] to wait for a first tick where no car is known
TIMEOUT_S = 20.0  # [s] without a frame before the server counts as lost


def live_frames(
    address: str, width_px: int, height_px: int, role: str = "hero", timeout_s: float = TIMEOUT_S
) -> Iterator[Captured]:
    """Yield what a forward camera on a car of the server at `address` (HOST:PORT) sees, until the caller stops.

    The car is the one whose `role_name` is `role`, else the first; the world is neither ticked nor changed but for the camera,
    which is removed at the end. Raises `BadInput` when the server or a car is missing, `SimulatorLost` when frames stop.
    """
    client = connect(address, timeout_s)
    try:
        world = client.get_world()
        cars = _cars(world)
    except RuntimeError as error:
        raise BadInput(f"{address}: no CARLA server answers there ({error}); start one, or 'roadworthy town'") from error
    if not cars:
        raise BadInput(f"{address}: no car in this world to put a camera on; spawn one first")
    car = next((car for car in cars if car.attributes.get("role_name") == role), cars[0])
    rig = CameraRig(width_px=width_px, height_px=height_px)
    camera = world.spawn_actor(rig.blueprint(world.get_blueprint_library(), "rgb"), rig.transform(), attach_to=car)
    images: queue.SimpleQueue[carla.Image] = queue.SimpleQueue()
    camera.listen(images.put)
    try:
        while True:
            try:
                image = images.get(timeout=timeout_s)
            except queue.Empty as error:
                raise SimulatorLost(f"{address}: no frame for {timeout_s:.0f} s; does anyone tick this world?") from error
            yield Captured(rgb_of(image), f"{image.frame:08d}")
    finally:
        camera.stop()
        camera.destroy()


def _cars(world: carla.World) -> list[carla.Actor]:
    """Return the cars of the world. A client that has just connected may not have heard of any before the next tick."""
    cars = list(world.get_actors().filter("vehicle.*"))
    if not cars:
        with contextlib.suppress(RuntimeError):  # nobody ticks this world: what is known is all there is
            world.wait_for_tick(FIRST_TICK_S)
        cars = list(world.get_actors().filter("vehicle.*"))
    return cars

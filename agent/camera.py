"""The camera that recordings and driving share, and reading what it delivers."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.carla_client import carla
from roadworthy.agent.session import Session, SimulatorLost

COLOUR, SEMANTIC, DEPTH = "rgb", "semantic_segmentation", "depth"  # kinds of sensor.camera.<kind>
DEPTH_RANGE_M = 1000.0  # [m] that CARLA's depth camera spreads over 24 bits


@dataclass(frozen=True)
class CameraRig:
    """A forward camera on the ego car. A segmenter trained on one rig should drive on the same."""

    width_px: int = 256  # [pixels]
    height_px: int = 128  # [pixels]
    fov_deg: float = 90.0  # [degrees] horizontal field of view
    x_m: float = 1.2  # [m] ahead of the car's centre
    z_m: float = 1.5  # [m] above the ground
    pitch_deg: float = 0.0  # [degrees] positive looks up

    def transform(self) -> carla.Transform:
        """Return where the camera sits on the car."""
        return carla.Transform(carla.Location(x=self.x_m, z=self.z_m), carla.Rotation(pitch=self.pitch_deg))

    def blueprint(self, library: carla.BlueprintLibrary, kind: str, period_s: float = 0.0) -> carla.ActorBlueprint:
        """Return the blueprint of `sensor.camera.<kind>` with this rig's image size and field of view.

        `period_s` is the simulated time between two images; 0 gives one per tick.
        """
        blueprint = library.find(f"sensor.camera.{kind}")
        blueprint.set_attribute("image_size_x", str(self.width_px))
        blueprint.set_attribute("image_size_y", str(self.height_px))
        blueprint.set_attribute("fov", str(self.fov_deg))
        blueprint.set_attribute("sensor_tick", str(period_s))
        return blueprint


def rgb_of(image: carla.Image) -> npt.NDArray[np.uint8]:
    """Copy a colour camera's image out as `uint8 [H, W, 3]` RGB."""
    bgra = _bgra(image)
    rgb = np.empty((*bgra.shape[:2], 3), np.uint8)
    for channel in range(3):  # three times as fast as copying the reversed view at once
        rgb[:, :, channel] = bgra[:, :, 2 - channel]
    return rgb


def tags_of(image: carla.Image) -> npt.NDArray[np.uint8]:
    """Copy a semantic camera's image out as raw CARLA tags, `uint8 [H, W]`."""
    return np.ascontiguousarray(_bgra(image)[:, :, 2])


def depth_of(image: carla.Image) -> npt.NDArray[np.float32]:
    """Decode a depth camera's image, `float32 [H, W]` metres to the image plane: 24 bits over 1000 m, R the lowest byte."""
    channels = _bgra(image).astype(np.uint32)  # [H, W, 4]
    value = channels[:, :, 2] | channels[:, :, 1] << 8 | channels[:, :, 0] << 16
    return (value * (DEPTH_RANGE_M / (2**24 - 1))).astype(np.float32)


def _bgra(image: carla.Image) -> npt.NDArray[np.uint8]:
    return np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)


class CameraFeed:
    """Cameras of one rig on one car, read in step with the simulation."""

    def __init__(
        self,
        session: Session,
        vehicle: carla.Actor | None,
        rig: CameraRig,
        kinds: Sequence[str],
        period_s: float = 0.0,
        stand: carla.Transform | None = None,
    ) -> None:
        """Attach one `sensor.camera.<kind>` for each of `kinds` and start listening; `period_s` 0 gives an image per tick.

        Without a `vehicle` the cameras `stand` on the map, at a transform of its.
        """
        self._session = session
        self._partial: dict[int, dict[str, carla.Image]] = {}  # by simulator frame
        self._queues: dict[str, queue.SimpleQueue[carla.Image]] = {}
        self._cameras: list[carla.Actor] = []
        library = session.world.get_blueprint_library()
        for kind in kinds:
            camera = session.spawn(rig.blueprint(library, kind, period_s), stand or rig.transform(), attach_to=vehicle)
            if camera is None:
                holder = "the map" if vehicle is None else vehicle.type_id
                raise SimulatorLost(f"the CARLA server at {session.address} refused a {kind} camera on {holder}")
            self._cameras.append(camera)
            self._queues[kind] = queue.SimpleQueue()
            camera.listen(self._queues[kind].put)

    def read(self, frame: int, timeout_s: float = 10.0) -> dict[str, carla.Image]:
        """Return each camera's image of simulator frame `frame`; older ones are dropped. Raises `SimulatorLost`."""
        images = {}
        for kind, waiting in self._queues.items():
            image = None
            while image is None or image.frame < frame:
                try:
                    image = waiting.get(timeout=timeout_s)
                except queue.Empty as error:
                    raise SimulatorLost(f"the {kind} camera sent no image of frame {frame} within {timeout_s:.0f} s") from error
            images[kind] = image
        return images

    def arrived(self) -> Iterator[dict[str, carla.Image]]:
        """Yield, in order, what all cameras have sent of one frame since the last call, without waiting."""
        for kind, waiting in self._queues.items():
            while not waiting.empty():
                image = waiting.get()
                self._partial.setdefault(image.frame, {})[kind] = image
        for frame in sorted(self._partial):
            if len(self._partial[frame]) == len(self._queues):
                yield self._partial.pop(frame)

    def destroy(self) -> None:
        """Stop and remove the cameras."""
        self._session.destroy(*self._cameras)
        self._cameras.clear()

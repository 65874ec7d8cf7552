"""The camera that recordings and driving share, and reading what it delivers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadworthy.agent.carla_client import carla


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

    def blueprint(self, library: carla.BlueprintLibrary, kind: str) -> carla.ActorBlueprint:
        """Return the blueprint of `sensor.camera.<kind>` with this rig's image size and field of view."""
        blueprint = library.find(f"sensor.camera.{kind}")
        blueprint.set_attribute("image_size_x", str(self.width_px))
        blueprint.set_attribute("image_size_y", str(self.height_px))
        blueprint.set_attribute("fov", str(self.fov_deg))
        return blueprint


def rgb_of(image: carla.Image) -> npt.NDArray[np.uint8]:
    """Copy a colour camera's image out as `uint8 [H, W, 3]` RGB."""
    return np.ascontiguousarray(_bgra(image)[:, :, 2::-1])


def tags_of(image: carla.Image) -> npt.NDArray[np.uint8]:
    """Copy a semantic camera's image out as raw CARLA tags, `uint8 [H, W]`."""
    return np.ascontiguousarray(_bgra(image)[:, :, 2])


def _bgra(image: carla.Image) -> npt.NDArray[np.uint8]:
    return np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)

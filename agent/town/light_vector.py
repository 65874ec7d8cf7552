"""The light as the shading kernels read it: one float32 vector, an entry per name."""

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.sky import Light

# Entries of the light vector (float32 [LIGHT_SIZE]).
(
    SUN_X, SUN_Y, SUN_Z, SUN_R, SUN_G, SUN_B, AMBIENT_R, AMBIENT_G, AMBIENT_B, FOG_R, FOG_G, FOG_B, ZENITH_R, ZENITH_G,
    ZENITH_B, FOG_DENSITY, FOG_START, WET, PUDDLES, NIGHT, EXPOSURE_R, EXPOSURE_G, EXPOSURE_B, NOISE, CLOUDS, CLOUD_X, CLOUD_Y,
    GLOW, LIGHT_SIZE,
) = range(29)  # fmt: skip
CLOUD_SIZE = 256  # cells of the tileable cloud table


def light_vector(light: Light, exposure_jitter: float, frame: int) -> NDArray[np.float32]:
    """The shading kernel's light vector. Clouds drift with the wind from frame to frame."""
    out = np.zeros(LIGHT_SIZE, np.float32)
    out[SUN_X : SUN_Z + 1] = light.sun
    out[SUN_R : SUN_B + 1] = light.sun_colour
    out[AMBIENT_R : AMBIENT_B + 1] = light.ambient
    out[FOG_R : FOG_B + 1] = light.fog_colour
    out[ZENITH_R : ZENITH_B + 1] = light.zenith
    out[FOG_DENSITY], out[FOG_START] = light.fog_density, light.fog_start
    out[WET], out[PUDDLES], out[NIGHT] = light.wetness, light.puddles, light.night
    out[EXPOSURE_R], out[EXPOSURE_G], out[EXPOSURE_B] = (gain * exposure_jitter for gain in light.exposure)
    out[NOISE], out[CLOUDS], out[GLOW] = light.noise, light.clouds, light.glow
    out[CLOUD_X] = (frame * 0.02 * light.wind) % CLOUD_SIZE
    out[CLOUD_Y] = (frame * 0.013 * light.wind) % CLOUD_SIZE
    return out

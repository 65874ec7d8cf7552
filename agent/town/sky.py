"""Weather and time of day: CARLA's 14 weather parameters to the light that the renderer draws with. Pure functions."""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# CARLA's order of the weather parameters.
(
    CLOUDINESS, PRECIPITATION, DEPOSITS, WIND, AZIMUTH, ALTITUDE, FOG_DENSITY, FOG_DISTANCE, FOG_FALLOFF, WETNESS,
    SCATTERING, MIE, RAYLEIGH, DUST,
) = range(14)  # fmt: skip
CLEAR_NOON = (5.0, 0.0, 0.0, 10.0, 30.0, 55.0, 2.0, 0.75, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0)
LOWEST_SUN = 4.0  # [deg] shadows grow no longer below this altitude
_SUN_STEP = 0.5  # [deg] the sun moves in steps, so that a slow sunset does not redraw the shadow map every frame
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """What the weather makes of the light. Colours are RGB, 1 = full exposure of a white surface."""

    sun: tuple[float, float, float]  # unit vector towards the sun, its altitude at least LOWEST_SUN
    sun_colour: tuple[float, float, float]
    ambient: tuple[float, float, float]
    fog_colour: tuple[float, float, float]  # also the colour of the horizon
    zenith: tuple[float, float, float]
    fog_density: float  # [1/m]
    fog_start: float  # [m]
    wetness: float  # 0 to 1
    puddles: float  # 0 to 1
    night: float  # 0 by day, 1 when lamps and windows burn
    clouds: float  # 0 to 1
    rain: float  # 0 to 1
    wind: float  # 0 to 1
    exposure: tuple[float, float, float]  # gain of each channel, with this weather's jitter
    noise: float  # standard deviation of the sensor noise, in grey levels
    glow: float  # strength of the sun's halo


def light_from_weather(weather: Sequence[float], seed: int = 0) -> Light:
    """The light of one weather. The seed draws its exposure, white balance and noise, as a real camera's would vary.

    `weather` holds CARLA's 14 parameters in order; values outside their ranges are clamped. Raises ValueError for another
    number of them or values that are not finite.
    """
    if len(weather) != 14 or not all(math.isfinite(v) for v in weather):
        raise ValueError(f"expected 14 finite weather parameters, got {list(weather)}")
    share = [min(max(float(v) / 100.0, 0.0), 1.0) for v in weather]
    cloud, rain, deposits, wind, dust = (share[k] for k in (CLOUDINESS, PRECIPITATION, DEPOSITS, WIND, DUST))
    altitude = min(max(float(weather[ALTITUDE]), -90.0), 90.0)
    wet = min(1.0, max(share[WETNESS], 0.9 * rain, 0.5 * deposits))
    day = _smooth(altitude, -8.0, 14.0)
    noon = _smooth(altitude, 2.0, 30.0)
    grey = _smooth(cloud + 0.4 * rain, 0.25, 0.95)
    night = 1.0 - _smooth(altitude, -4.0, 7.0)
    mist = min(max(float(weather[FOG_DENSITY]) / 100.0, 0.0), 1.0)

    direct = day * (1.0 - 0.93 * grey) * (1.0 - 0.9 * mist) * _smooth(altitude, -1.0, 4.0)
    sun_colour = _mix((1.05, 0.56, 0.28), (0.88, 0.82, 0.72), noon) * direct
    clear_ambient = _mix((0.30, 0.29, 0.40), (0.36, 0.41, 0.49), noon)
    ambient = _mix((0.055, 0.062, 0.095), _mix(clear_ambient, (0.62, 0.64, 0.68), grey * (0.35 + 0.65 * noon)), day)
    ambient = ambient * (1.0 - 0.25 * rain) + np.array((0.10, 0.10, 0.10)) * mist * day
    clear_horizon = _mix((0.95, 0.66, 0.48), (0.72, 0.80, 0.90), noon)
    horizon = _mix((0.045, 0.047, 0.075), _mix(clear_horizon, _mix((0.46, 0.45, 0.50), (0.76, 0.78, 0.80), noon), grey), day)
    horizon = horizon * (1.0 - 0.25 * rain)
    zenith = _mix(
        (0.010, 0.011, 0.028), _mix(_mix((0.26, 0.30, 0.55), (0.24, 0.45, 0.82), noon), (0.56, 0.59, 0.64), grey), day
    )
    zenith = _mix(zenith * (1.0 - 0.3 * rain), horizon, 0.85 * mist)
    sand = np.array((0.80, 0.64, 0.42)) * (0.1 + 0.9 * day)
    horizon, zenith = _mix(horizon, sand, 0.8 * dust), _mix(zenith, sand, 0.6 * dust)

    fog_density = 0.0012 + 0.045 * mist**1.7 + 0.006 * rain + 0.03 * dust
    fog_start = min(max(float(weather[FOG_DISTANCE]), 0.0), 200.0)
    rng = np.random.default_rng(zlib.crc32(struct.pack("<14fI", *(float(v) for v in weather), seed & 0xFFFFFFFF)))
    gain = rng.uniform(1.02, 1.36) * rng.uniform(0.95, 1.05, 3) * (1.0 + 0.3 * night)
    # A camera opens up in the dark, and its noise grows with it.
    noise = float(rng.uniform(1.2, 3.8)) * (1.0 + 0.7 * night)
    return Light(
        sun_direction(float(weather[AZIMUTH]), altitude), _triple(sun_colour), _triple(ambient), _triple(horizon),
        _triple(zenith), fog_density, fog_start, wet, deposits * (0.4 + 0.6 * wet), night, cloud, rain, wind, _triple(gain),
        noise, day * (1.0 - 0.9 * grey),
    )  # fmt: skip


def sun_direction(azimuth: float, altitude: float) -> tuple[float, float, float]:
    """Unit vector towards the sun (degrees; azimuth 0 is +x and grows clockwise), in steps of half a degree."""
    high = math.radians(max(round(altitude / _SUN_STEP) * _SUN_STEP, LOWEST_SUN))
    turn = math.radians(round(azimuth / _SUN_STEP) * _SUN_STEP % 360.0)
    return math.cos(high) * math.cos(turn), math.cos(high) * math.sin(turn), math.sin(high)


def _smooth(value: float, low: float, high: float) -> float:
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def _mix(a: Sequence[float] | Floats, b: Sequence[float] | Floats, share: float) -> Floats:
    result: Floats = np.asarray(a, np.float64) * (1.0 - share) + np.asarray(b, np.float64) * share
    return result


def _triple(colour: Floats) -> tuple[float, float, float]:
    return float(colour[0]), float(colour[1]), float(colour[2])

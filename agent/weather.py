"""Weathers by CARLA's own names: some to train in, others held out for the test, and a seeded variation of each.

The split follows the NoCrash benchmark (Codevilla et al. 2019, arXiv 1904.08980): four weathers to train in, WetSunset and
SoftRainSunset to test in. Clouds, fog and night are added to the training side, because a segmenter trained under one
sky learns its colours.
"""

from __future__ import annotations

import numpy as np

from roadworthy.agent.carla_client import carla
from roadworthy.runtime.errors import BadInput

TRAINING_WEATHERS: tuple[str, ...] = (
    "ClearNoon",
    "WetNoon",
    "HardRainNoon",
    "ClearSunset",
    "CloudyNoon",
    "FoggyNoon",
    "ClearNight",
)
HELD_OUT_WEATHERS: tuple[str, ...] = ("WetSunset", "SoftRainSunset")

# CARLA has no fog among its presets: this one is ours. [%] except the sun in degrees and the distance in metres.
_FOGGY_NOON = {"cloudiness": 60.0, "sun_altitude_angle": 45.0, "fog_density": 40.0, "fog_distance": 5.0, "fog_falloff": 0.1}

# How far a parameter may move from the named weather, so that no two episodes look alike. [%]
_SPREAD = {"cloudiness": 15.0, "precipitation": 15.0, "precipitation_deposits": 20.0, "wetness": 20.0, "fog_density": 6.0}
_SUN_ALTITUDE_SPREAD = 8.0  # [degrees]


def weather_names() -> tuple[str, ...]:
    """Return every name that `get_weather` knows: CARLA's presets, and FoggyNoon."""
    presets = (name for name in dir(carla.WeatherParameters) if isinstance(_preset(name), carla.WeatherParameters))
    return (*(name for name in presets if name != "Default"), "FoggyNoon")


def get_weather(name: str) -> carla.WeatherParameters:
    """Look a weather up. Raises `BadInput` with the names that exist."""
    if name == "FoggyNoon":
        return carla.WeatherParameters(**_FOGGY_NOON)
    preset = _preset(name)
    if not isinstance(preset, carla.WeatherParameters) or name == "Default":
        raise BadInput(f"weather {name!r} is unknown, expected one of: {', '.join(weather_names())}")
    return carla.WeatherParameters(**weather_numbers(preset))  # a copy: presets are shared objects


def vary(weather: carla.WeatherParameters, rng: np.random.Generator) -> carla.WeatherParameters:
    """Return `weather` moved a little within its character.

    The sun goes anywhere round the sky but day stays day and night night; nothing appears that was absent.
    """
    numbers = weather_numbers(weather)
    lowest, highest = (5.0, 90.0) if numbers["sun_altitude_angle"] > 0 else (-90.0, -10.0)
    altitude = numbers["sun_altitude_angle"] + rng.uniform(-_SUN_ALTITUDE_SPREAD, _SUN_ALTITUDE_SPREAD)
    numbers["sun_altitude_angle"] = float(np.clip(altitude, lowest, highest))
    numbers["sun_azimuth_angle"] = float(rng.uniform(0.0, 360.0))
    for parameter, spread in _SPREAD.items():
        moved = numbers[parameter] + rng.uniform(-spread, spread)
        if numbers[parameter] > 0:
            numbers[parameter] = float(np.clip(moved, 0.0, 100.0))
    return carla.WeatherParameters(**numbers)


def weather_numbers(weather: carla.WeatherParameters) -> dict[str, float]:
    """Return all parameters by name, for a log or a file."""
    names = (name for name in dir(weather) if name[0].islower())
    return {name: float(getattr(weather, name)) for name in names if isinstance(getattr(weather, name), float)}


def _preset(name: str) -> object:
    return getattr(carla.WeatherParameters, name, None)

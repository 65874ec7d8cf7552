import numpy as np
import pytest

from roadworthy.agent.carla_client import carla
from roadworthy.agent.weather import (
    HELD_OUT_WEATHERS,
    TRAINING_WEATHERS,
    get_weather,
    vary,
    weather_names,
    weather_numbers,
)
from roadworthy.runtime.errors import BadInput


def test_every_named_weather_exists_and_none_is_on_both_sides() -> None:
    assert not set(TRAINING_WEATHERS) & set(HELD_OUT_WEATHERS)
    for name in (*TRAINING_WEATHERS, *HELD_OUT_WEATHERS):
        assert name in weather_names()
        assert len(weather_numbers(get_weather(name))) == 14  # the whole of carla.WeatherParameters


def test_unknown_weather_lists_the_known_ones() -> None:
    for name in ("Hail", "Default", "cloudiness", "__init__"):
        with pytest.raises(BadInput, match="FoggyNoon"):
            get_weather(name)


def test_variation_is_seeded_and_keeps_the_character() -> None:
    for name in weather_names():
        before = weather_numbers(get_weather(name))
        one = weather_numbers(vary(get_weather(name), np.random.default_rng(3)))
        assert one == weather_numbers(vary(get_weather(name), np.random.default_rng(3)))
        assert one != weather_numbers(vary(get_weather(name), np.random.default_rng(4)))
        assert (one["sun_altitude_angle"] > 0) == (before["sun_altitude_angle"] > 0)
        assert (one["precipitation"] > 0) <= (before["precipitation"] > 0)
        assert one["wind_intensity"] == before["wind_intensity"]
    assert weather_numbers(get_weather("ClearNoon")) == weather_numbers(carla.WeatherParameters.ClearNoon)  # untouched

"""Weather to light: brightness, wetness, night and determinism."""

import math

import carla
import pytest

from roadworthy.agent.town.sky import CLEAR_NOON, LOWEST_SUN, light_from_weather, sun_direction

ORDER = (
    "cloudiness", "precipitation", "precipitation_deposits", "wind_intensity", "sun_azimuth_angle", "sun_altitude_angle",
    "fog_density", "fog_distance", "fog_falloff", "wetness", "scattering_intensity", "mie_scattering_scale",
    "rayleigh_scattering_scale", "dust_storm",
)  # fmt: skip


def parameters(weather: carla.WeatherParameters) -> tuple[float, ...]:
    return tuple(getattr(weather, name) for name in ORDER)


def noon(**changes: float) -> tuple[float, ...]:
    values = dict(zip(ORDER, CLEAR_NOON, strict=True)) | changes
    return tuple(values[name] for name in ORDER)


def total(light_colour: tuple[float, float, float]) -> float:
    return sum(light_colour)


def test_the_day_darkens_as_the_sun_sinks() -> None:
    light = [light_from_weather(noon(sun_altitude_angle=a)) for a in (60, 20, 8, 0, -5, -40)]
    brightness = [total(one.sun_colour) + total(one.ambient) for one in light]
    assert brightness == sorted(brightness, reverse=True)
    assert light[0].night == 0.0
    assert light[-1].night == 1.0
    assert total(light[-1].sun_colour) == 0.0
    assert total(light[-1].ambient) > 0.0


def test_dusk_is_warmer_than_noon() -> None:
    day, dusk = light_from_weather(noon()), light_from_weather(noon(sun_altitude_angle=7))
    assert dusk.sun_colour[0] / dusk.sun_colour[2] > 2 * day.sun_colour[0] / day.sun_colour[2]


def test_clouds_take_the_sun_and_give_ambient_light() -> None:
    clear, grey = light_from_weather(noon()), light_from_weather(noon(cloudiness=100))
    assert total(grey.sun_colour) < 0.2 * total(clear.sun_colour)
    assert total(grey.ambient) > total(clear.ambient)


def test_fog_and_rain_shorten_the_sight() -> None:
    clear, fog, rain = (light_from_weather(noon(**c)) for c in ({}, {"fog_density": 60.0}, {"precipitation": 80.0}))
    assert fog.fog_density > 8 * clear.fog_density
    assert rain.fog_density > 2 * clear.fog_density
    assert rain.rain == pytest.approx(0.8)
    assert rain.wetness > 0.5 > clear.wetness


def test_sun_direction_is_a_unit_vector_in_ue_axes() -> None:
    assert sun_direction(0, 45) == pytest.approx((math.sqrt(0.5), 0, math.sqrt(0.5)))
    assert sun_direction(90, 45)[1] == pytest.approx(math.sqrt(0.5))
    assert math.asin(sun_direction(0, -30)[2]) == pytest.approx(math.radians(LOWEST_SUN))
    assert sun_direction(10.0, 30.0) == sun_direction(10.1, 30.1)  # moves in steps


@pytest.mark.parametrize("name", [n for n in dir(carla.WeatherParameters) if n[0].isupper()])
def test_every_preset_of_carla_gives_sane_light(name: str) -> None:
    light = light_from_weather(parameters(getattr(carla.WeatherParameters, name)), seed=3)
    for colour in (light.sun_colour, light.ambient, light.fog_colour, light.zenith):
        assert all(0.0 <= channel <= 1.3 for channel in colour)
    for share in (light.wetness, light.puddles, light.night, light.clouds, light.rain):
        assert 0.0 <= share <= 1.0
    assert ("Night" in name) == (light.night > 0.9)


def test_seed_draws_the_camera_and_nothing_else() -> None:
    first, again, other = light_from_weather(noon(), 1), light_from_weather(noon(), 1), light_from_weather(noon(), 2)
    assert first == again
    assert first.exposure != other.exposure
    assert first.sun_colour == other.sun_colour


@pytest.mark.parametrize("weather", [CLEAR_NOON[:13], (float("nan"), *CLEAR_NOON[1:])])
def test_wrong_weather_is_refused(weather: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="14 finite"):
        light_from_weather(weather)

"""Episode settings and weather as a client sends them, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.protocol import Wire, array, flag, integer, number, numbers, optional

MAX_STEP_S = 10.0  # longest step of simulated time; physics goes through it in short substeps
ASYNC_STEP_S = 0.05  # step without a fixed delta: the town runs at 20 Hz

WEATHER_NAMES = (
    "cloudiness", "precipitation", "precipitation_deposits", "wind_intensity", "sun_azimuth_angle", "sun_altitude_angle",
    "fog_density", "fog_distance", "fog_falloff", "wetness", "scattering_intensity", "mie_scattering_scale",
    "rayleigh_scattering_scale", "dust_storm",
)  # fmt: skip
Weather = tuple[float, ...]  # the 14 floats of CARLA's WeatherParameters, in the order of `WEATHER_NAMES`
CLEAR_NOON: Weather = (5.0, 0.0, 0.0, 10.0, -1.0, 45.0, 2.0, 0.75, 0.1, 0.0, 1.0, 0.03, 0.0331, 0.0)
PRECIPITATION_DEPOSITS, SUN_ALTITUDE, WETNESS = 2, 5, 9


def weather_from_wire(value: Wire) -> Weather:
    """WeatherParameters: 14 finite numbers; raises `CallRefused`."""
    return tuple(numbers(value, len(WEATHER_NAMES), "weather"))


@dataclass(frozen=True)
class Settings:
    """CARLA's EpisodeSettings. The town honours the first three and the substepping; the others are kept and echoed."""

    synchronous: bool = False
    no_rendering: bool = False
    fixed_delta_s: float | None = None
    substepping: bool = True
    max_substep_s: float = 0.01
    max_substeps: int = 10
    max_culling_distance_m: float = 0.0
    deterministic_ragdolls: bool = True
    tile_stream_distance_m: float = 3000.0
    actor_active_distance_m: float = 2000.0
    spectator_as_ego: bool = True

    @property
    def step_s(self) -> float:
        """Simulated time of one tick [s]."""
        return self.fixed_delta_s if self.fixed_delta_s else ASYNC_STEP_S

    def to_wire(self) -> Wire:
        """The eleven fields in the protocol's order."""
        return [
            self.synchronous,
            self.no_rendering,
            optional(self.fixed_delta_s),
            self.substepping,
            self.max_substep_s,
            self.max_substeps,
            self.max_culling_distance_m,
            self.deterministic_ragdolls,
            self.tile_stream_distance_m,
            self.actor_active_distance_m,
            self.spectator_as_ego,
        ]

    @classmethod
    def from_wire(cls, value: Wire) -> Settings:
        """Read and check what a client sent; raises `CallRefused`."""
        fields = array(value, "episode settings", 11)
        fixed = array(fields[2], "fixed_delta_seconds")
        delta = number(fixed[1], "fixed_delta_seconds") if len(fixed) == 2 and fixed[0] else None
        if delta is not None and not 0.0 <= delta <= MAX_STEP_S:
            raise CallRefused(f"fixed_delta_seconds: expected 0 to {MAX_STEP_S} s, got {delta}")
        return cls(
            flag(fields[0], "synchronous_mode"),
            flag(fields[1], "no_rendering_mode"),
            delta or None,
            flag(fields[3], "substepping"),
            number(fields[4], "max_substep_delta_time"),
            integer(fields[5], "max_substeps"),
            number(fields[6], "max_culling_distance"),
            flag(fields[7], "deterministic_ragdolls"),
            number(fields[8], "tile_stream_distance"),
            number(fields[9], "actor_active_distance"),
            flag(fields[10], "spectator_as_ego"),
        )

    def after_reload(self) -> Settings:
        """The settings after `load_world(..., reset_settings=True)`: asynchronous, no fixed step."""
        return replace(self, synchronous=False, no_rendering=False, fixed_delta_s=None)

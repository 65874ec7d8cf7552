"""Calls of CARLA 0.9.16 that the town refuses, each with its reason, and the recorder's switches that it lets pass."""

from __future__ import annotations

from roadworthy.agent.town.calls import Context, returns_nothing, returns_value
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.protocol import Wire

_RECORDER = "the town has no recorder: there is nothing to show or replay"
_GBUFFERS = "the town has no G-buffers: it is no Unreal Engine; use depth, semantic and instance cameras"
_TEXTURES = "textures cannot be changed in the town: its scenery is made from the map and a seed"
_ROS = "the town has no ROS 2 interface: use the CARLA ROS bridge, which is a client"
_PHYSICS = "the town has one vehicle model of its own (see its physics); it can be changed by apply_physics_control"
# Calls that would answer with a value, and calls that would answer with nothing. A refusal of a call that its client does not
# wait for shows in the town's log only.
REFUSED_VALUES = {
    "show_recorder_file_info": _RECORDER,
    "show_recorder_collisions": _RECORDER,
    "show_recorder_actors_blocked": _RECORDER,
    "replay_file": _RECORDER,
    "get_gbuffer_token": _GBUFFERS,
    "get_actor_component_world_transform": "actors in the town have no components",
    "get_actor_component_relative_transform": "actors in the town have no components",
}
REFUSED = {
    "enable_gbuffers": _GBUFFERS,
    "apply_color_texture_to_objects": _TEXTURES,
    "apply_float_color_texture_to_objects": _TEXTURES,
    "enable_environment_objects": "environment objects cannot be switched off in the town: its scenery is fixed",
    "enable_sensor_for_ros": _ROS,
    "enable_carsim": _PHYSICS,
    "use_carsim_road": _PHYSICS,
    "enable_chrono_physics": _PHYSICS,
    "set_wheel_pitch_angle": "wheels in the town cannot be turned about their axle by hand",
    "set_imui_gravity": "gravity cannot be changed in the town",
}


def _refuse(name: str, reason: str, *, void: bool) -> None:
    def function(_context: Context, *_: Wire) -> Wire:
        raise CallRefused(reason)

    function.__name__ = name
    (returns_nothing if void else returns_value)(function)


for _name, _reason in REFUSED_VALUES.items():
    _refuse(_name, _reason, void=False)
for _name, _reason in REFUSED.items():
    _refuse(_name, _reason, void=True)


@returns_nothing
def disable_sensor_for_ros(_context: Context, *_: Wire) -> None:
    """Accepted: none is enabled."""


@returns_value
def is_sensor_enabled_for_ros(_context: Context, *_: Wire) -> Wire:
    """No sensor is."""
    return False


@returns_value
def are_gbuffers_enabled(_context: Context, *_: Wire) -> Wire:
    """No camera's are."""
    return False


@returns_value
def start_recorder(_context: Context, *_: Wire) -> Wire:
    """Answered so that programs which record go on; nothing is written."""
    return "the town does not record; the call was ignored"


@returns_nothing
def stop_recorder(_context: Context) -> None:
    """Accepted: nothing is being recorded."""


@returns_nothing
def stop_replayer(_context: Context, *_: Wire) -> None:
    """Accepted: nothing is being replayed."""


@returns_nothing
def set_replayer_time_factor(_context: Context, *_: Wire) -> None:
    """Accepted: nothing is being replayed."""


@returns_nothing
def set_replayer_ignore_hero(_context: Context, *_: Wire) -> None:
    """Accepted: nothing is being replayed."""


@returns_nothing
def set_replayer_ignore_spectator(_context: Context, *_: Wire) -> None:
    """Accepted: nothing is being replayed."""

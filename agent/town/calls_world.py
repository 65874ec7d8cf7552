"""Calls about the world as a whole: version, episode, map, settings, weather, files, environment."""

from __future__ import annotations

import math
from dataclasses import asdict

from roadworthy.agent.town.calls import Context, returns_nothing, returns_value
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.loaded_map import FOLDER, GENERATED, check_strangers_map
from roadworthy.agent.town.placement import EnvironmentObject
from roadworthy.agent.town.protocol import (
    STATE_STREAM,
    VERSION,
    Wire,
    bounding_box,
    flag,
    integer,
    number,
    text,
    token,
    vector,
    wire_transform,
)
from roadworthy.agent.town.settings import Settings, weather_from_wire

ANY_TAG = 255  # CityObjectLabel.Any


@returns_value
def version(_context: Context) -> Wire:
    """The server's version; the client compares it with its own."""
    return VERSION


@returns_value
def get_episode_info(context: Context) -> Wire:
    """Episode id and the token of the state stream."""
    return [context.world.episode, [token(STATE_STREAM, context.world.outlet.streaming_port)]]


@returns_value
def get_sensor_token(context: Context, stream: Wire) -> Wire:
    """Where to subscribe to a stream; the caller will."""
    wanted = integer(stream, "stream id")
    context.expect_subscriber(wanted)
    return [token(wanted, context.world.outlet.streaming_port)]


@returns_value
def get_map_info(context: Context) -> Wire:
    """Name and recommended spawn points of the map."""
    loaded = context.world.map
    return [loaded.path, [wire_transform((x, y, z, 0.0, yaw, 0.0)) for x, y, z, yaw in loaded.spawn_points]]


@returns_value
def get_map_data(context: Context) -> Wire:
    """The map's OpenDRIVE text."""
    return context.world.map.text


@returns_value
def get_available_maps(context: Context) -> Wire:
    """All maps that `load_world` takes."""
    return [f"/Game/{FOLDER}{name}" for name in context.world.shelf.names()]


@returns_nothing
def load_new_episode(context: Context, name: Wire, reset_settings: Wire = True, *_layers: Wire) -> None:
    """Load a map ("" reloads the present one)."""
    for actor in context.world.load(text(name, "map name"), flag(reset_settings, "reset_settings")):
        if actor.sensor:
            context.ended(actor.sensor.stream)


@returns_nothing
def copy_opendrive_to_file(context: Context, opendrive: Wire, *_parameters: Wire) -> None:
    """Take a client's own OpenDRIVE map, to be loaded as "OpenDriveMap"."""
    content = text(opendrive, "OpenDRIVE")
    check_strangers_map(content)
    context.world.shelf.add(GENERATED, content)


@returns_value
def get_required_files(context: Context, folder: Wire = "", *_: Wire) -> Wire:
    """Files that the client should fetch: the navigation mesh, when it asks for the folder Nav."""
    mesh = context.world.map.navmesh if folder == "Nav" else None
    return [mesh.file_name] if mesh else []


@returns_value
def request_file(context: Context, name: Wire) -> Wire:
    """The content of a required file."""
    mesh = context.world.map.navmesh
    if mesh is None or text(name, "file name") not in (mesh.file_name, "/" + mesh.file_name):
        raise CallRefused(f"file {name!r:.80} is not one that this map needs")
    return mesh.data


@returns_value
def get_navigation_mesh(context: Context) -> Wire:
    """The walkers' navigation mesh (older clients ask this way)."""
    mesh = context.world.map.navmesh
    return mesh.data if mesh else b""


@returns_value
def get_episode_settings(context: Context) -> Wire:
    """The episode's settings."""
    return context.world.settings.to_wire()


@returns_value
def set_episode_settings(context: Context, settings: Wire) -> Wire:
    """Change the settings; answers the frame they hold from."""
    context.world.settings = Settings.from_wire(settings)
    return context.world.frame


@returns_value
def get_weather_parameters(context: Context) -> Wire:
    """The weather, 14 numbers."""
    return list(context.world.weather)


@returns_nothing
def set_weather_parameters(context: Context, weather: Wire) -> None:
    """Change the weather."""
    context.world.weather = weather_from_wire(weather)


@returns_value
def is_weather_enabled(_context: Context) -> Wire:
    """Whether weather can be changed here."""
    return True


@returns_value
def get_imui_gravity(_context: Context) -> Wire:
    """Gravity as IMU sensors see it [m/s²]."""
    return 9.81


@returns_value
def get_spectator(context: Context) -> Wire:
    """The spectator actor."""
    return context.world.spectator.to_wire(context.world.outlet.streaming_port)


@returns_value
def query_lights_state(_context: Context, *_: Wire) -> Wire:
    """Street lamps that can be switched one by one: none (they follow the sun)."""
    return []


@returns_nothing
def update_lights_state(_context: Context, *_: Wire) -> None:
    """Accepted: there are no switchable street lamps."""


@returns_nothing
def update_day_night_cycle(_context: Context, *_: Wire) -> None:
    """Accepted: lamps always follow the sun."""


def _things(context: Context, label: Wire) -> list[EnvironmentObject]:
    wanted = integer(label, "label")
    return [thing for thing in context.world.map.environment_objects() if wanted in (ANY_TAG, thing.tag)]


def _thing_box(thing: EnvironmentObject) -> Wire:
    extent = (thing.half_length, thing.half_width, thing.half_height)
    return bounding_box((thing.x, thing.y, thing.z), extent, math.degrees(thing.yaw))


@returns_value
def get_environment_objects(context: Context, label: Wire = ANY_TAG) -> Wire:
    """The scenery's objects with one semantic tag (or all): transform, box, id, name, tag."""
    result = []
    for thing in _things(context, label):
        pose = (thing.x, thing.y, thing.z, 0.0, math.degrees(thing.yaw), 0.0)
        result.append([wire_transform(pose), _thing_box(thing), thing.id, thing.name, int(thing.tag)])
    return result


@returns_value
def get_all_level_BBs(context: Context, label: Wire = ANY_TAG) -> Wire:  # noqa: N802 - the protocol's name
    """The boxes of the scenery's objects with one semantic tag (or all)."""
    return [_thing_box(thing) for thing in _things(context, label)]


@returns_nothing
def load_map_layer(_context: Context, *_: Wire) -> None:
    """Accepted: the town's maps have one layer, always loaded."""


@returns_nothing
def unload_map_layer(_context: Context, *_: Wire) -> None:
    """Accepted: the town's maps have one layer, always loaded."""


@returns_value
def get_names_of_all_objects(context: Context) -> Wire:
    """Names of the scenery's objects."""
    return [thing.name for thing in context.world.map.environment_objects()]


@returns_nothing
def draw_debug_shape(_context: Context, *_: Wire) -> None:
    """Accepted and not drawn: cameras must not see debug shapes."""


@returns_nothing
def clear_debug_shape(_context: Context, *_: Wire) -> None:
    """Accepted: none are drawn."""


@returns_nothing
def clear_debug_string(_context: Context, *_: Wire) -> None:
    """Accepted: none are drawn."""


@returns_nothing
def set_annotations_traverse_translucency(_context: Context, *_: Wire) -> None:
    """Accepted: nothing in the town is translucent, so cameras and tags agree either way."""


@returns_value
def project_point(context: Context, location: Wire, direction: Wire, distance: Wire) -> Wire:
    """The first thing on a ray: [hit, [location, tag]]."""
    x, y, z = vector(location, "location")
    dx, dy, dz = vector(direction, "direction")
    reach = number(distance, "distance")
    length = max((dx * dx + dy * dy + dz * dz) ** 0.5, 1e-9)
    end = (x + dx / length * reach, y + dy / length * reach, z + dz / length * reach)
    hits = context.world.cast_ray((x, y, z), end)
    return [True, [list(hits[0][0]), hits[0][1]]] if hits else [False, [[0.0, 0.0, 0.0], 0]]


@returns_value
def cast_ray(context: Context, start: Wire, end: Wire) -> Wire:
    """Everything between two places: [[location, tag]...], nearest first."""
    return [[list(place), tag] for place, tag in context.world.cast_ray(vector(start, "start"), vector(end, "end"))]


@returns_value
def get_town_timings(context: Context) -> Wire:
    """The town's own call: processor time spent on physics, rendering, protocol so far, as [name, seconds] pairs."""
    return [[name, value] for name, value in asdict(context.world.timings).items()]

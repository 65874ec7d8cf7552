"""Calls about traffic lights, and the register of the Traffic Managers that clients run."""

from __future__ import annotations

from roadworthy.agent.town.calls import Context, returns_nothing, returns_value
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.lights import Light
from roadworthy.agent.town.protocol import Wire, array, flag, integer, number, text

MAX_LIGHT_S = 3600.0


def _light(context: Context, id_: Wire) -> Light:
    actor = context.world.roster.remembered(id_)
    if actor.light is None:
        raise CallRefused(f"actor {actor.id} ({actor.type_id}) is not a traffic light")
    return actor.light


def _seconds(value: Wire) -> float:
    return min(max(number(value, "seconds"), 0.0), MAX_LIGHT_S)


@returns_nothing
def set_traffic_light_green_time(context: Context, id_: Wire, seconds: Wire) -> None:
    """Length of the green phase of the turn that this light belongs to."""
    for light in _same_turn(_light(context, id_)):
        light.green = _seconds(seconds)


@returns_nothing
def set_traffic_light_yellow_time(context: Context, id_: Wire, seconds: Wire) -> None:
    """Length of the yellow phase of the turn that this light belongs to."""
    for light in _same_turn(_light(context, id_)):
        light.yellow = _seconds(seconds)


@returns_nothing
def set_traffic_light_red_time(context: Context, id_: Wire, seconds: Wire) -> None:
    """Length of the all-red pause after the turn that this light belongs to."""
    for light in _same_turn(_light(context, id_)):
        light.red = _seconds(seconds)


def _same_turn(light: Light) -> list[Light]:
    return next(turn for turn in light.group.turns if light in turn)


@returns_nothing
def freeze_traffic_light(context: Context, _id: Wire, frozen: Wire) -> None:
    """Stop or resume all cycles (CARLA's client means all lights, whichever it names)."""
    context.world.lights.frozen = flag(frozen, "freeze")


@returns_nothing
def freeze_all_traffic_lights(context: Context, frozen: Wire) -> None:
    """Stop or resume all cycles."""
    context.world.lights.frozen = flag(frozen, "freeze")


@returns_nothing
def reset_traffic_light_group(context: Context, id_: Wire) -> None:
    """Start the cycle of one junction anew."""
    _light(context, id_).group.start(0, 0.0)


@returns_nothing
def reset_all_traffic_lights(context: Context) -> None:
    """Start all cycles anew."""
    context.world.lights.reset()


@returns_value
def get_group_traffic_lights(context: Context, id_: Wire) -> Wire:
    """Ids of all lights of the same junction."""
    members = _light(context, id_).group.lights
    return [actor.id for actor in context.world.light_actors if actor.light in members]


@returns_value
def get_light_boxes(context: Context, id_: Wire) -> Wire:
    """Boxes of a light's heads: none are kept apart from the pole."""
    _light(context, id_)
    return []


@returns_value
def is_traffic_manager_running(context: Context, port: Wire) -> Wire:
    """Whether some client runs a Traffic Manager on this port."""
    return port in context.managers.by_port


@returns_value
def get_traffic_manager_running(context: Context, port: Wire) -> Wire:
    """Address and port of a running Traffic Manager."""
    entry = context.managers.by_port.get(integer(port, "port"))
    return [entry[0], port] if entry else ["", 0]


@returns_value
def add_traffic_manager_running(context: Context, info: Wire) -> Wire:
    """A client has started a Traffic Manager; false when the port has one already."""
    address, port = array(info, "traffic manager", 2)
    if port in context.managers.by_port:
        return False
    context.managers.by_port[integer(port, "port")] = (text(address, "address"), context.client)
    return True


@returns_value
def destroy_traffic_manager(context: Context, port: Wire) -> Wire:
    """A Traffic Manager has ended."""
    return context.managers.by_port.pop(integer(port, "port"), None) is not None

"""Calls about actors: definitions, birth and death, what may be done to them, and what they tell."""

from __future__ import annotations

import math

from roadworthy.agent.town import ackermann, actions, physics_control
from roadworthy.agent.town.bodies import DRAG, STEER_ANGLE, YAW
from roadworthy.agent.town.calls import Context, returns_nothing, returns_value
from roadworthy.agent.town.entities import Actor
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.protocol import Wire, array, integer, text, transform

MAX_ATTRIBUTES, MAX_TEXT = 128, 1024  # of a description


@returns_value
def get_actor_definitions(context: Context) -> Wire:
    """The blueprint library."""
    return context.world.library.to_wire()


def checked_description(value: Wire) -> Wire:
    """An ActorDescription of sane size. Raises `CallRefused`."""
    uid, type_id, attributes = array(value, "actor description", 3)
    integer(uid, "uid")
    text(type_id, "type id")
    if len(array(attributes, "attributes")) > MAX_ATTRIBUTES:
        raise CallRefused(f"actor description with {len(attributes)} attributes: expected at most {MAX_ATTRIBUTES}")
    for attribute in attributes:
        name, _, content = array(attribute, "attribute", 3)
        if len(text(name, "attribute")) + len(text(content, "attribute value")) > MAX_TEXT:
            raise CallRefused(f"attribute {name!r:.40} is longer than {MAX_TEXT} characters")
    return value


@returns_value
def spawn_actor(context: Context, description: Wire, pose: Wire) -> Wire:
    """Spawn an actor in the world."""
    actor = context.world.spawn(checked_description(description), transform(pose))
    return actor.to_wire(context.world.outlet.streaming_port)


@returns_value
def spawn_actor_with_parent(
    context: Context, description: Wire, pose: Wire, parent: Wire, _attachment: Wire = 0, *_socket: Wire
) -> Wire:
    """Spawn an actor that rides on another; `pose` is relative to it."""
    actor = context.world.spawn(checked_description(description), transform(pose), integer(parent, "parent"))
    return actor.to_wire(context.world.outlet.streaming_port)


@returns_value
def destroy_actor(context: Context, id_: Wire) -> Wire:
    """End an actor; false when there is none of that id any more."""
    actor = context.world.roster.get(integer(id_, "actor id"))
    if actor is None:
        return False
    end_actor(context, actor)
    return True


def end_actor(context: Context, actor: Actor) -> None:
    """Destroy an actor and close the streams of the sensors that go with it."""
    for gone in context.world.destroy(actor):
        if gone.sensor:
            context.ended(gone.sensor.stream)


@returns_value
def get_actors_by_id(context: Context, ids: Wire) -> Wire:
    """Actors by id; unknown ids are left out."""
    roster, port = context.world.roster, context.world.outlet.streaming_port
    found = (roster.get(id_) for id_ in array(ids, "actor ids") if isinstance(id_, int))
    return [actor.to_wire(port) for actor in found if actor]


@returns_value
def get_actor_bounding_box(context: Context, id_: Wire) -> Wire:
    """The box of an actor, also of one that has just been destroyed."""
    return context.world.roster.remembered(id_).box()


# ---- acting on one actor -----------------------------------------------------------------------------------------------

_ACTIONS: dict[str, actions.Action] = {
    "set_actor_transform": actions.set_transform,
    "set_actor_location": actions.set_location,
    "set_actor_target_velocity": actions.target_velocity,
    "set_actor_target_angular_velocity": actions.target_angular_velocity,
    "enable_actor_constant_velocity": actions.constant_velocity,
    "disable_actor_constant_velocity": actions.release_velocity,
    "add_actor_impulse": actions.impulse,
    "add_actor_impulse_at_location": actions.impulse_at,
    "add_actor_force": actions.force,
    "add_actor_force_at_location": actions.force_at,
    "add_actor_angular_impulse": actions.angular_impulse,
    "add_actor_torque": actions.torque,
    "set_actor_simulate_physics": actions.simulate_physics,
    "set_actor_collisions": actions.collisions,
    "set_actor_enable_gravity": actions.enable_gravity,
    "set_actor_dead": actions.dead,
    "set_actor_autopilot": actions.acknowledge,  # the client's Traffic Manager drives
    "apply_control_to_vehicle": actions.vehicle_control,
    "apply_ackermann_control_to_vehicle": actions.ackermann_control,
    "apply_ackermann_controller_settings": actions.acknowledge,
    "apply_control_to_walker": actions.walker_control,
    "apply_physics_control": actions.set_physics_control,
    "set_vehicle_light_state": actions.light_state,
    "set_traffic_light_state": actions.traffic_light_state,
    "show_vehicle_debug_telemetry": actions.acknowledge,
    "restore_physx_physics": actions.acknowledge,  # it is never left
    "set_ignored_vehicles": actions.ignore_vehicles,
    "set_wheel_steer_direction": actions.acknowledge,
    "open_vehicle_door": actions.acknowledge,
    "close_vehicle_door": actions.acknowledge,
    "set_bones_transform": actions.acknowledge,
    "blend_pose": actions.acknowledge,
    "get_pose_from_animation": actions.acknowledge,
}


def _action_call(name: str, action: actions.Action) -> None:
    def function(context: Context, id_: Wire, *values: Wire) -> None:
        actor = context.world.roster.get(integer(id_, "actor id"))
        if actor is None:
            context.world.roster.remembered(id_)  # late calls for the dead are normal and ignored; for strangers refused
            return
        actions.act(action, context, actor, values)

    function.__name__ = name
    returns_nothing(function)


for _name, _action in _ACTIONS.items():
    _action_call(_name, _action)


@returns_value
def get_physics_control(context: Context, id_: Wire) -> Wire:
    """Mass, tyres, steering, engine of a vehicle."""
    return physics_control.read(context.world.roster.remembered(id_))


@returns_value
def get_vehicle_light_state(context: Context, id_: Wire) -> Wire:
    """A vehicle's lights."""
    return [context.world.roster.remembered(id_).lights_on]


@returns_value
def get_vehicle_light_states(context: Context) -> Wire:
    """The lights of all vehicles: [[id, flags]...]."""
    return [[actor.id, actor.lights_on] for actor in context.world.roster if actor.kind == "vehicle"]


@returns_value
def get_wheel_steer_angle(context: Context, id_: Wire, *_wheel: Wire) -> Wire:
    """Angle [deg] of a steered wheel."""
    actor = context.world.roster.living(id_)
    return math.degrees(context.world.roster.bodies.drive[actor.slot, STEER_ANGLE])


@returns_value
def get_wheel_pitch_angle(context: Context, id_: Wire, *_wheel: Wire) -> Wire:
    """Wheels do not turn about their axles in the town: 0."""
    context.world.roster.living(id_)
    return 0.0


@returns_value
def get_ignored_vehicles(context: Context, id_: Wire) -> Wire:
    """Ids of the vehicles that a sensor does not see."""
    sensor = context.world.roster.living(id_).sensor
    return sorted(sensor.ignored) if sensor else []


@returns_value
def get_ackermann_controller_settings(_context: Context, _id: Wire) -> Wire:
    """The Ackermann controller's gains: speed P, I, D and acceleration P, I, D."""
    return [ackermann.SPEED_GAIN, 0.0, 0.0, 0.0, 0.0, 0.0]


@returns_value
def get_telemetry_data(context: Context, id_: Wire) -> Wire:
    """Speed [m/s], controls, engine speed [rpm], gear, drag, wheels of a vehicle."""
    actor = context.world.roster.living(id_)
    bodies, slot = context.world.roster.bodies, actor.slot
    throttle, steer, brake = (float(value) for value in bodies.control[slot, :3])
    yaw = math.radians(bodies.pose[slot, YAW])
    speed = math.cos(yaw) * bodies.velocity[slot, 0] + math.sin(yaw) * bodies.velocity[slot, 1]
    rpm = 800.0 + 5000.0 * min(abs(speed) / 40.0, 1.0)
    return [float(speed), steer, throttle, brake, rpm, 1, float(bodies.model[slot, DRAG]), []]


def _no_bones(name: str) -> None:
    def function(_context: Context, *_: Wire) -> Wire:
        return []

    function.__name__ = name
    returns_value(function)


for _name in (
    "get_bones_transform", "get_actor_bone_names", "get_actor_bone_relative_transforms",
    "get_actor_bone_world_transforms", "get_actor_component_names", "get_actor_socket_names",
    "get_actor_socket_relative_transforms", "get_actor_socket_world_transforms", "get_vehicle_bone_world_transforms",
):  # fmt: skip
    _no_bones(_name)

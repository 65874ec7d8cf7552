"""What a client may do to one actor: controls, poses, velocities, forces, switches. Each is `(context, actor, *values)`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import numpy as np

from roadworthy.agent.town import physics_control
from roadworthy.agent.town.bodies import (
    CONSTANT,
    CONSTANT_X,
    CONSTANT_Y,
    INERTIA,
    MASS,
    Kind,
)
from roadworthy.agent.town.calls import Context
from roadworthy.agent.town.entities import Ackermann, Actor
from roadworthy.agent.town.errors import CallRefused
from roadworthy.agent.town.protocol import (
    Command,
    LightState,
    Wire,
    array,
    control_value,
    flag,
    integer,
    number,
    numbers,
    transform,
    vector,
)

MAX_SPEED_MPS = 200.0  # of velocities that clients set


def set_transform(context: Context, actor: Actor, pose: Wire) -> None:
    """Teleport."""
    context.world.place(actor, transform(pose))


def set_location(context: Context, actor: Actor, location: Wire) -> None:
    """Teleport, keeping the rotation."""
    pose = context.world.roster.bodies.pose[actor.slot]
    x, y, z = vector(location, "location")
    context.world.place(actor, (x, y, z, float(pose[3]), float(pose[4]), float(pose[5])))


def vehicle_control(context: Context, actor: Actor, control: Wire) -> None:
    """Throttle, steer, brake, hand brake, reverse, gear of a vehicle."""
    throttle, steer, brake, hand_brake, reverse, manual, gear = array(control, "vehicle control", 7)
    if context.world.roster.bodies.kind[actor.slot] != Kind.VEHICLE:
        raise CallRefused(f"actor {actor.id} ({actor.type_id}) is not a vehicle")
    actor.ackermann = None
    gear_number = integer(gear, "gear")
    # The Traffic Manager sends NaN for the brake when it wants a standstill.
    context.world.roster.bodies.control[actor.slot] = (
        control_value(throttle, 0.0, 1.0, 0.0),
        control_value(steer, -1.0, 1.0, 0.0),
        control_value(brake, 0.0, 1.0, 1.0),
        flag(hand_brake, "hand_brake"),
        flag(reverse, "reverse") or (flag(manual, "manual_gear_shift") and gear_number < 0),
        flag(manual, "manual_gear_shift"),
        min(max(gear_number, -1), 8),
    )


def ackermann_control(_context: Context, actor: Actor, control: Wire) -> None:
    """Hand the vehicle to the Ackermann controller."""
    steer, steer_speed, speed, acceleration, jerk = numbers(control, 5, "Ackermann control")
    actor.ackermann = Ackermann(steer, steer_speed, speed, acceleration, jerk)


def walker_control(context: Context, actor: Actor, control: Wire) -> None:
    """Where a walker goes, and how fast."""
    direction, speed, jump = array(control, "walker control", 3)
    x, y, z = vector(direction, "direction")
    flag(jump, "jump")
    length = math.hypot(x, y, z)
    if length > 1e-6:
        x, y, z = x / length, y / length, z / length
    context.world.roster.bodies.control[actor.slot, :4] = (x, y, z, control_value(speed, 0.0, 20.0, 0.0))


def walker_state(context: Context, actor: Actor, pose: Wire, speed: Wire) -> None:
    """An AI walker's state, computed by its client."""
    context.world.drive_walker(actor, transform(pose), number(speed, "speed"))


def velocity(value: Wire) -> tuple[float, float, float]:
    """A velocity from the wire, of a credible size. Raises `CallRefused`."""
    x, y, z = vector(value, "velocity")
    if math.hypot(x, y, z) > MAX_SPEED_MPS:
        raise CallRefused(f"velocity of {math.hypot(x, y, z):.0f} m/s: expected at most {MAX_SPEED_MPS:.0f}")
    return x, y, z


def target_velocity(context: Context, actor: Actor, value: Wire) -> None:
    """Set the velocity [m/s], world axes, once."""
    context.world.roster.bodies.velocity[actor.slot] = velocity(value)


def target_angular_velocity(context: Context, actor: Actor, value: Wire) -> None:
    """Set the turn rates [deg/s] once."""
    context.world.roster.bodies.spin[actor.slot] = np.clip(vector(value, "angular velocity"), -1000.0, 1000.0)


def is_moved(context: Context, actor: Actor) -> bool:
    """Whether the town's physics moves the actor."""
    return bool(context.world.roster.bodies.simulated[actor.slot])


def impulse(context: Context, actor: Actor, impulse: Wire) -> None:
    """Impulse [N s] at the centre of mass."""
    change = np.array(vector(impulse, "impulse"))
    if is_moved(context, actor):
        bodies = context.world.roster.bodies
        bodies.velocity[actor.slot] += np.clip(change / bodies.model[actor.slot, MASS], -MAX_SPEED_MPS, MAX_SPEED_MPS)


def force(context: Context, actor: Actor, force: Wire) -> None:
    """Force [N] during the next tick."""
    bodies = context.world.roster.bodies
    limit = bodies.model[actor.slot, MASS] * 1000.0
    bodies.push[actor.slot, :3] += np.clip(vector(force, "force"), -limit, limit)


def impulse_at(context: Context, actor: Actor, impulse_: Wire, place: Wire) -> None:
    """Impulse [N s] at a place in the world: off the centre it also turns the actor."""
    impulse(context, actor, impulse_)
    angular_impulse(context, actor, [0.0, 0.0, _moment(context, actor, impulse_, place)])


def force_at(context: Context, actor: Actor, force_: Wire, place: Wire) -> None:
    """Force [N] at a place in the world during the next tick: off the centre it also turns the actor."""
    force(context, actor, force_)
    torque(context, actor, [0.0, 0.0, _moment(context, actor, force_, place)])


def _moment(context: Context, actor: Actor, push: Wire, place: Wire) -> float:
    """Moment about the vertical axis of a push at a place."""
    x, y, _ = vector(place, "location")
    fx, fy, _ = vector(push, "force")
    pose = context.world.roster.bodies.pose[actor.slot]
    return float((x - pose[0]) * fy - (y - pose[1]) * fx)


def ignore_vehicles(_context: Context, actor: Actor, ids: Wire) -> None:
    """Vehicles that a camera or lidar shall not see."""
    if actor.sensor is None:
        raise CallRefused(f"actor {actor.id} ({actor.type_id}) is not a sensor")
    actor.sensor.ignored = frozenset(integer(id_, "vehicle id") for id_ in array(ids, "vehicle ids"))


def angular_impulse(context: Context, actor: Actor, impulse: Wire) -> None:
    """Angular impulse [N m s] about the vertical axis."""
    turn = vector(impulse, "angular impulse")[2]
    if is_moved(context, actor):
        bodies = context.world.roster.bodies
        bodies.spin[actor.slot, 2] += min(max(math.degrees(turn / bodies.model[actor.slot, INERTIA]), -1000.0), 1000.0)


def torque(context: Context, actor: Actor, torque: Wire) -> None:
    """Torque [N m] about the vertical axis during the next tick."""
    bodies = context.world.roster.bodies
    limit = bodies.model[actor.slot, INERTIA] * 1000.0
    bodies.push[actor.slot, 3] += min(max(vector(torque, "torque")[2], -limit), limit)


def simulate_physics(context: Context, actor: Actor, enabled: Wire) -> None:
    """Whether the town's physics moves the actor."""
    bodies = context.world.roster.bodies
    movable = bodies.kind[actor.slot] in (Kind.VEHICLE, Kind.WALKER)
    bodies.simulated[actor.slot] = flag(enabled, "enabled") and movable
    if not bodies.simulated[actor.slot]:
        bodies.velocity[actor.slot] = bodies.spin[actor.slot] = 0.0


def enable_gravity(context: Context, actor: Actor, enabled: Wire) -> None:
    """Whether the actor falls."""
    context.world.roster.bodies.weightless[actor.slot] = not flag(enabled, "enabled")


def light_state(_context: Context, actor: Actor, state: Wire) -> None:
    """A vehicle's lights (VehicleLightState flags)."""
    flags = state[0] if isinstance(state, list) and state else state
    actor.lights_on = integer(flags, "light state") & 0xFFFFFFFF


def traffic_light_state(_context: Context, actor: Actor, state: Wire) -> None:
    """Set a traffic light; its junction's cycle goes on unless frozen."""
    if actor.light is None:
        raise CallRefused(f"actor {actor.id} ({actor.type_id}) is not a traffic light")
    value = integer(state, "traffic light state")
    if value not in list(LightState):
        raise CallRefused(f"traffic light state {value}: expected 0 (red) to 4 (unknown)")
    if actor.light.state != value:
        actor.light.state, actor.light.elapsed = LightState(value), 0.0


def set_physics_control(context: Context, actor: Actor, control: Wire) -> None:
    """Change mass, tyres, steering, engine of a vehicle."""
    physics_control.apply(context.world.roster.bodies, actor, control)


def collisions(context: Context, actor: Actor, enabled: Wire) -> None:
    """Whether the actor takes part in collisions."""
    bodies = context.world.roster.bodies
    bodies.solid[actor.slot] = flag(enabled, "enabled") and bodies.kind[actor.slot] != Kind.FIXED


def dead(context: Context, actor: Actor) -> None:
    """A walker has been run over: it falls, slides, and is carried away after a while."""
    bodies = context.world.roster.bodies
    if bodies.kind[actor.slot] == Kind.WALKER:
        actor.dead_s = context.world.time_s
        bodies.control[actor.slot, :4] = 0.0
        bodies.simulated[actor.slot] = True


def constant_velocity(context: Context, actor: Actor, velocity_: Wire) -> None:
    """Hold a velocity [m/s] given in the vehicle's own axes until it is released."""
    x, y, _ = velocity(velocity_)
    bodies = context.world.roster.bodies
    bodies.drive[actor.slot, CONSTANT] = 1.0
    bodies.drive[actor.slot, CONSTANT_X], bodies.drive[actor.slot, CONSTANT_Y] = x, y


def release_velocity(context: Context, actor: Actor) -> None:
    """End the constant velocity."""
    context.world.roster.bodies.drive[actor.slot, CONSTANT] = 0.0


def acknowledge(_context: Context, _actor: Actor, *_: Wire) -> None:
    """Accepted without effect."""


Action = Callable[..., None]

# Commands of `apply_batch` that act on one actor, by number
ACTIONS: dict[Command, Action] = {
    Command.VEHICLE_CONTROL: vehicle_control,
    Command.ACKERMANN_CONTROL: ackermann_control,
    Command.WALKER_CONTROL: walker_control,
    Command.PHYSICS_CONTROL: set_physics_control,
    Command.TRANSFORM: set_transform,
    Command.WALKER_STATE: walker_state,
    Command.TARGET_VELOCITY: target_velocity,
    Command.TARGET_ANGULAR_VELOCITY: target_angular_velocity,
    Command.IMPULSE: impulse,
    Command.FORCE: force,
    Command.ANGULAR_IMPULSE: angular_impulse,
    Command.TORQUE: torque,
    Command.SIMULATE_PHYSICS: simulate_physics,
    Command.ENABLE_GRAVITY: enable_gravity,
    Command.AUTOPILOT: acknowledge,  # the client's Traffic Manager drives
    Command.DEBUG_TELEMETRY: acknowledge,
    Command.LIGHT_STATE: light_state,
    Command.LOCATION: set_location,
    Command.TRAFFIC_LIGHT_STATE: traffic_light_state,
}


def act(action: Action, context: Context, actor: Actor, values: Sequence[Wire]) -> None:
    """Do one thing to one actor. Raises `CallRefused` when the number of values is wrong."""
    wanted = action.__code__.co_argcount - 2
    if len(values) < wanted or (len(values) > wanted and not action.__code__.co_flags & inspect.CO_VARARGS):
        raise CallRefused(f"{action.__name__}: expected {wanted} values, got {len(values)}")
    action(context, actor, *values)

"""What cameras see: the actors handed to the renderer, one picture per point of view and tick, and its bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from roadworthy.agent.town.actors import WALK_PHASES
from roadworthy.agent.town.attachments import to_local
from roadworthy.agent.town.bodies import BRAKE as BRAKE_PEDAL
from roadworthy.agent.town.bodies import HALF_LENGTH, HALF_WIDTH, TOP, Floats, Kind, X, Y, Z
from roadworthy.agent.town.bodies import REVERSE as REVERSE_GEAR
from roadworthy.agent.town.entities import Actor
from roadworthy.agent.town.instruments import Camera
from roadworthy.agent.town.protocol import Stream, encode_depth, encode_instances, encode_tags
from roadworthy.agent.town.raster import BRAKE, REVERSE, ActorPose, CameraPose, Frame

if TYPE_CHECKING:
    from roadworthy.agent.town.world import World

STRIDE_M = 1.4  # distance over which a walker's legs repeat
STANDING_MPS = 0.1


def scene(world: World) -> list[ActorPose]:
    """Every visible actor as the renderer wants it."""
    bodies = world.roster.bodies
    poses = []
    for slot in world.roster.moving_slots().tolist():
        actor = world.roster.by_slot[slot]
        blueprint = actor.blueprint
        assert blueprint is not None
        x, y, z, pitch, yaw, roll = bodies.pose[slot].tolist()
        speed = math.hypot(*bodies.velocity[slot, :2].tolist())
        phase, lights = 0, actor.lights_on
        if blueprint.base_type in ("walker", "bicycle") and speed > STANDING_MPS:
            phase = int((world.time_s * speed + actor.ordinal) / STRIDE_M * WALK_PHASES) % WALK_PHASES
        if bodies.kind[slot] == Kind.WALKER:
            z += blueprint.box_bottom_m
            if actor.dead:
                z, pitch = z + 0.2, 90.0  # lies on its back
        elif bodies.kind[slot] == Kind.VEHICLE:
            lights |= BRAKE if bodies.control[slot, BRAKE_PEDAL] > 0.05 else 0
            lights |= REVERSE if bodies.control[slot, REVERSE_GEAR] > 0.0 else 0
        key = (blueprint.base_type, *blueprint.size_m, phase)
        poses.append(ActorPose(key, x, y, z, yaw, _paint(actor), actor.id, lights, pitch, roll))
    return poses


def take(world: World, actor: Actor, camera: Camera, actors: Sequence[ActorPose]) -> Frame:
    """The picture of one camera."""
    x, y, z, pitch, yaw, roll = world.roster.bodies.pose[actor.slot].tolist()
    view = CameraPose(x, y, z, pitch, yaw, roll, camera.width, camera.height, camera.fov)
    lights = {light.signal.id: int(light.state) for light in world.lights.lights}
    return world.map.renderer.render(
        view, actors, world.weather, lights, world.episode_frame, world.seed, carrier_around(world, actor)
    )


def carrier_around(world: World, actor: Actor) -> int | None:
    """Id of the carrier if the sensor sits inside its box: it must not see the body's inside."""
    parent = world.roster.get(actor.parent)
    return parent.id if parent and _inside(world, parent, world.roster.bodies.pose[actor.slot]) else None


def _inside(world: World, actor: Actor, pose: Floats) -> bool:
    bodies, slot = world.roster.bodies, actor.slot
    own, shape = bodies.pose[slot], bodies.shape[slot]
    x, y, z = to_local(own, pose[X] - own[X], pose[Y] - own[Y], pose[Z] - own[Z])
    return bool(abs(x) <= shape[HALF_LENGTH] and abs(y) <= shape[HALF_WIDTH] and z <= shape[TOP])


def pixels(kind: Stream, frame: Frame) -> bytes:
    """The bytes of one camera's picture."""
    if kind == Stream.RGB:
        return frame.bgra.tobytes()
    if kind == Stream.SEMANTIC:
        return encode_tags(frame.tags).tobytes()
    if kind == Stream.DEPTH:
        return encode_depth(frame.depth).tobytes()
    return encode_instances(frame.tags, frame.instance).tobytes()


def _paint(actor: Actor) -> tuple[float, float, float]:
    """Colour 0 to 1: a vehicle's from its blueprint's attribute, a walker's own (the same for the same id)."""
    if "color" in actor.attributes:
        r, g, b = actor.colour
        return r / 255, g / 255, b / 255
    hue = (actor.ordinal * 0.61803) % 1.0
    red, green, blue = (0.15 + 0.7 * abs(((hue * 6 + shift) % 6) / 3 - 1) for shift in (0, 2, 4))
    return red, green, blue

"""Collision sensors: who touched whom in a tick, and how scenery is named to clients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from roadworthy.agent.town.contacts import Contact
from roadworthy.agent.town.protocol import Vector, Wire

if TYPE_CHECKING:
    from roadworthy.agent.town.world import World

LEAST_IMPULSE_NS = 0.5  # weaker contacts are not reported
# What scenery is called, by CARLA's semantic tag
STATIC_NAMES = {
    1: "road", 2: "sidewalk", 3: "building", 4: "wall", 5: "fence", 6: "pole", 7: "trafficlight", 8: "trafficsign",
    9: "vegetation", 10: "terrain", 14: "car", 15: "truck", 16: "bus", 18: "motorcycle", 19: "bicycle", 20: "static",
    21: "dynamic", 22: "other", 26: "bridge", 28: "guardrail",
}  # fmt: skip


def impulses(world: World, contacts: Sequence[Contact]) -> dict[int, list[tuple[Wire, Vector]]]:
    """Per actor that was touched: the other (as clients see it) and the impulse [N s] on the first."""
    found: dict[int, list[tuple[Wire, Vector]]] = {}
    for contact in contacts:
        x, y, z = contact.impulse_ns
        if math.hypot(x, y, z) < LEAST_IMPULSE_NS:
            continue
        first = world.roster.by_slot.get(contact.slot)
        second = world.roster.by_slot.get(contact.other) if contact.other >= 0 else None
        port = world.outlet.streaming_port
        if first:
            other = second.to_wire(port) if second else scenery_actor(world, -1 - contact.other)
            found.setdefault(first.id, []).append((other, (x, y, z)))
        if first and second:
            found.setdefault(second.id, []).append((first.to_wire(port), (-x, -y, -z)))
    return found


def scenery_actor(world: World, index: int) -> Wire:
    """Something of the scenery as the nameless actor that CARLA reports: id 0, type static.<tag>."""
    scenery = world.map.scenery
    _, _, yaw, length, width, height = scenery.colliders[index]
    box = [[0.0, 0.0, height / 2], [length, width, height / 2], [0.0, math.degrees(yaw), 0.0], 0]
    return _nameless(int(scenery.collider_tags[index]), box)


def ground_actor(tag: int) -> Wire:
    """The ground as such an actor; it has no box."""
    return _nameless(tag, [[0.0] * 3, [0.0] * 3, [0.0] * 3, 0])


def _nameless(tag: int, box: Wire) -> Wire:
    return [0, 0, [0, f"static.{STATIC_NAMES.get(tag, 'unknown')}", []], box, bytes([tag]), b""]

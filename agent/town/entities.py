"""What the world is made of: an actor's identity, attributes and place in the arrays of `bodies`."""

from __future__ import annotations

from dataclasses import dataclass

from roadworthy.agent.town.blueprints import Blueprint
from roadworthy.agent.town.bodies import Floats
from roadworthy.agent.town.instruments import Sensor
from roadworthy.agent.town.lights import Light
from roadworthy.agent.town.protocol import Wire, bounding_box, token

Pose = tuple[float, float, float, float, float, float]  # x, y, z [m], pitch, yaw, roll [deg]
Extent = tuple[float, float, float]


@dataclass
class Ackermann:
    """Targets of the Ackermann controller (the vehicle's speed is driven to `speed`)."""

    steer: float  # [rad] at the wheels
    steer_speed: float  # [rad/s], 0: at once
    speed: float  # [m/s]
    acceleration: float  # [m/s²], 0: as the gain says
    jerk: float  # kept and echoed


@dataclass
class Actor:
    """One actor of an episode. `slot` is its row in the world's arrays."""

    id: int
    type_id: str
    description: Wire  # uid, id, attributes, as the client sent them
    slot: int
    ordinal: int = 0  # how many were born before it in this episode: the same in every repetition of the episode
    blueprint: Blueprint | None = None
    parent: int = 0
    mount: Floats | None = None  # pose relative to the parent, float64 [6]
    box_centre: Extent = (0.0, 0.0, 0.0)
    box_extent: Extent = (0.0, 0.0, 0.0)
    tags: bytes = b""  # CARLA semantic tags
    sensor: Sensor | None = None
    light: Light | None = None
    sign_id: str = ""
    lights_on: int = 0  # VehicleLightState flags
    physics_control: Wire = None  # as last set by a client
    ackermann: Ackermann | None = None
    dead_s: float | None = None  # simulation time at which a walker was run over
    colour: tuple[int, int, int] = (128, 128, 128)

    @property
    def dead(self) -> bool:
        """Whether this walker has been run over."""
        return self.dead_s is not None

    @property
    def kind(self) -> str:
        """First part of the type id."""
        return self.type_id.split(".", 1)[0]

    @property
    def attributes(self) -> dict[str, str]:
        """Attribute values by id."""
        return {attribute[0]: attribute[2] for attribute in self.description[2]}

    def box(self) -> Wire:
        """The BoundingBox as clients see it."""
        return bounding_box(self.box_centre, self.box_extent, 0.0, self.id)

    def to_wire(self, streaming_port: int) -> Wire:
        """The six fields of an Actor."""
        stream_token = token(self.sensor.stream, streaming_port) if self.sensor else b""
        return [self.id, self.parent, self.description, self.box(), self.tags, stream_token]

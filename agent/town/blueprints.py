"""The blueprint library: CARLA's own ids and attributes, with the size, mass and drive of each vehicle.

Sizes follow the boxes that CARLA 0.9.15 reports for the same ids, to a few centimetres (but for the bus, whose box there
is wider than a lane); masses are the cars' kerb
weights. One list, `BLUEPRINTS`: adding an actor type is adding a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from roadworthy.agent.town.protocol import AttributeType, Wire


@dataclass(frozen=True)
class Attribute:
    """One attribute of a blueprint, as the client's `ActorAttribute` sees it (the value is always text)."""

    id: str
    type: AttributeType
    value: str
    recommended: tuple[str, ...] = ()
    modifiable: bool = True
    restricted: bool = False

    def to_wire(self) -> Wire:
        """The six fields of an ActorAttribute."""
        return [self.id, int(self.type), self.value, list(self.recommended), self.modifiable, self.restricted]


@dataclass(frozen=True)
class Drive:
    """What moves and stops a vehicle; `physics.VehicleModel` says how each is used."""

    mass_kg: float
    wheelbase_m: float
    peak_force_n: float  # tyre force at full throttle from standstill
    power_w: float  # engine power at the wheels
    brake_mps2: float = 8.8  # deceleration at full brake, before the tyre limit
    max_steer_deg: float = 70.0  # road-wheel angle at full steer and standstill
    drag: float = 0.42  # 0.5 * air density * drag coefficient * frontal area [kg/m]
    wheel_radius_m: float = 0.34
    wheels: int = 4


@dataclass(frozen=True)
class Blueprint:
    """One actor type: what the client is told, and the body that the town gives it."""

    id: str
    attributes: tuple[Attribute, ...] = ()
    size_m: tuple[float, float, float] = (0.0, 0.0, 0.0)  # length, width, height of the box
    box_bottom_m: float = 0.0  # z of the box's underside relative to the actor's origin
    base_type: str = ""  # mesh family: car, van, truck, bus, motorcycle, bicycle, walker, prop
    tag: int = 0  # CARLA semantic tag
    drive: Drive | None = None
    mass_kg: float = 0.0  # of props and walkers; vehicles have it in `drive`
    solid: bool = True  # False: lies flat and stops nobody

    @property
    def tags(self) -> str:
        """CARLA's comma-separated tags: the parts of the id."""
        return self.id.replace(".", ",")

    @property
    def kind(self) -> str:
        """First part of the id: vehicle, walker, sensor, controller, static."""
        return self.id.split(".", 1)[0]

    @property
    def extent(self) -> tuple[float, float, float]:
        """Half sizes of the box [m]."""
        length, width, height = self.size_m
        return length / 2, width / 2, height / 2

    @property
    def box_centre(self) -> tuple[float, float, float]:
        """Centre of the box relative to the actor's origin [m]."""
        return 0.0, 0.0, self.box_bottom_m + self.size_m[2] / 2

    def to_wire(self, uid: int) -> Wire:
        """An ActorDefinition."""
        return [uid, self.id, self.tags, [attribute.to_wire() for attribute in self.attributes]]


_BOOL, _INT, _FLOAT, _STRING, _COLOUR = (
    AttributeType.BOOL,
    AttributeType.INT,
    AttributeType.FLOAT,
    AttributeType.STRING,
    AttributeType.COLOUR,
)
_PAINTS = ("180,44,44", "23,25,29", "180,180,180", "44,75,140", "230,230,225", "60,85,60", "150,120,70", "90,15,20")


def _fixed(id_: str, type_: AttributeType, value: str) -> Attribute:
    return Attribute(id_, type_, value, (value,), modifiable=False)


def _vehicle(
    id_: str,
    base_type: str,
    size_m: tuple[float, float, float],
    drive: Drive,
    *,
    generation: int = 1,
    special: str = "",
    lights: bool = True,
) -> Blueprint:
    tag = {"car": 14, "van": 14, "truck": 15, "bus": 16, "motorcycle": 18, "bicycle": 19}[base_type]
    attributes = (
        _fixed("number_of_wheels", _INT, str(drive.wheels)),
        _fixed("generation", _INT, str(generation)),
        _fixed("base_type", _STRING, base_type),
        _fixed("special_type", _STRING, special),
        _fixed("object_type", _STRING, ""),
        _fixed("has_dynamic_doors", _BOOL, "false"),
        _fixed("has_lights", _BOOL, "true" if lights else "false"),
        Attribute("color", _COLOUR, _PAINTS[0], _PAINTS),
        Attribute("role_name", _STRING, "autopilot", ("autopilot", "scenario", "ego_vehicle")),
        Attribute("sticky_control", _BOOL, "true"),
        Attribute("terramechanics", _BOOL, "false"),
    )
    return Blueprint(id_, attributes, size_m, 0.0, base_type, tag, drive)


def _car(mass: float, wheelbase: float, peak: float = 3.4, watts_per_kg: float = 32.0, drag: float = 0.42) -> Drive:
    return Drive(mass, wheelbase, peak * mass, watts_per_kg * mass, drag=drag)


_TRUCK = Drive(7200.0, 3.6, 2.2 * 7200.0, 130e3, 7.2, 70.0, 2.2, 0.5)
_SMALL_TRUCK = Drive(4300.0, 2.8, 2.3 * 4300.0, 95e3, 7.6, 70.0, 1.6, 0.42)
_BUS = Drive(6800.0, 4.55, 2.1 * 6800.0, 120e3, 7.2, 70.0, 2.4, 0.48)  # the wheelbase of the real Fuso Rosa
_MOTORCYCLE = Drive(275.0, 1.40, 4.2 * 275.0, 17e3, 8.0, 55.0, 0.32, 0.31, 2)
_SCOOTER = Drive(200.0, 1.27, 2.6 * 200.0, 6e3, 7.0, 55.0, 0.35, 0.26, 2)
_BICYCLE = Drive(92.0, 1.05, 1.8 * 92.0, 700.0, 6.0, 60.0, 0.26, 0.34, 2)
_VEHICLES = (
    _vehicle("vehicle.tesla.model3", "car", (4.79, 2.16, 1.49), _car(1845.0, 2.87), generation=2),
    _vehicle("vehicle.lincoln.mkz_2017", "car", (4.90, 2.13, 1.51), _car(1769.0, 2.85)),
    _vehicle("vehicle.lincoln.mkz_2020", "car", (4.89, 2.24, 1.49), _car(1801.0, 2.85), generation=2),
    _vehicle("vehicle.audi.tt", "car", (4.18, 1.99, 1.38), _car(1335.0, 2.50)),
    _vehicle("vehicle.audi.a2", "car", (3.70, 1.79, 1.55), _car(1060.0, 2.40, 3.1, 27.0)),
    _vehicle("vehicle.nissan.patrol", "car", (4.60, 1.93, 1.85), _car(2430.0, 2.90, 3.0, 27.0, 0.6)),
    _vehicle("vehicle.nissan.micra", "car", (3.63, 1.85, 1.50), _car(1045.0, 2.45, 3.1, 26.0)),
    _vehicle("vehicle.mini.cooper_s", "car", (3.81, 1.97, 1.47), _car(1220.0, 2.47)),
    _vehicle("vehicle.toyota.prius", "car", (4.51, 2.01, 1.52), _car(1390.0, 2.70, 3.0, 26.0, 0.36)),
    _vehicle("vehicle.dodge.charger_police", "car", (4.97, 2.04, 1.55), _car(1920.0, 3.05), special="emergency"),
    _vehicle("vehicle.ford.crown", "car", (5.37, 1.80, 1.57), _car(1860.0, 2.91), generation=2, special="taxi"),
    _vehicle("vehicle.ford.mustang", "car", (4.72, 1.89, 1.30), _car(1540.0, 2.72, 3.8, 60.0)),
    _vehicle("vehicle.audi.etron", "car", (4.86, 2.03, 1.65), _car(2490.0, 2.93, 3.6, 50.0)),
    _vehicle("vehicle.bmw.grandtourer", "car", (4.61, 2.24, 1.67), _car(1545.0, 2.78)),
    _vehicle("vehicle.chevrolet.impala", "car", (5.36, 2.03, 1.41), _car(1690.0, 2.84)),
    _vehicle("vehicle.citroen.c3", "car", (3.99, 1.85, 1.62), _car(1050.0, 2.54, 3.0, 26.0)),
    _vehicle("vehicle.jeep.wrangler_rubicon", "car", (3.87, 1.91, 1.88), _car(1850.0, 2.42, 3.0, 27.0, 0.65)),
    _vehicle("vehicle.mercedes.coupe", "car", (5.03, 2.15, 1.64), _car(1600.0, 2.76)),
    _vehicle("vehicle.mercedes.coupe_2020", "car", (4.67, 2.00, 1.44), _car(1650.0, 2.84), generation=2),
    _vehicle("vehicle.mini.cooper_s_2021", "car", (4.55, 2.10, 1.77), _car(1340.0, 2.50), generation=2),
    _vehicle("vehicle.seat.leon", "car", (4.19, 1.82, 1.47), _car(1270.0, 2.64)),
    _vehicle("vehicle.mercedes.sprinter", "van", (5.92, 1.99, 2.56), _car(2350.0, 3.66, 2.7, 22.0, 1.1), generation=2),
    _vehicle("vehicle.volkswagen.t2", "van", (4.48, 2.07, 2.04), _car(1480.0, 2.40, 2.6, 20.0, 0.9)),
    _vehicle("vehicle.carlamotors.firetruck", "truck", (8.47, 2.89, 3.83), _TRUCK, generation=2, special="emergency"),
    _vehicle("vehicle.carlamotors.carlacola", "truck", (5.20, 2.61, 2.47), _SMALL_TRUCK),
    _vehicle("vehicle.mitsubishi.fusorosa", "bus", (10.27, 2.55, 3.60), _BUS, generation=2),
    _vehicle("vehicle.kawasaki.ninja", "motorcycle", (2.03, 0.80, 1.45), _MOTORCYCLE),
    _vehicle("vehicle.vespa.zx125", "motorcycle", (1.82, 0.80, 1.40), _SCOOTER),
    _vehicle("vehicle.bh.crossbike", "bicycle", (1.49, 0.86, 1.62), _BICYCLE, lights=False),
    _vehicle("vehicle.diamondback.century", "bicycle", (1.64, 0.58, 1.62), _BICYCLE, lights=False),
)


def _walker(number: str, gender: str, age: str, height: float, generation: int = 1) -> Blueprint:
    speeds = ("0.0", "1.4", "2.8") if age != "child" else ("0.0", "1.1", "2.2")
    attributes = (
        _fixed("gender", _STRING, gender),
        _fixed("age", _STRING, age),
        _fixed("generation", _INT, str(generation)),
        _fixed("can_use_wheelchair", _BOOL, "false"),
        Attribute("is_invincible", _BOOL, "true"),
        Attribute("speed", _FLOAT, speeds[0], speeds),
        Attribute("role_name", _STRING, "pedestrian", ("pedestrian",)),
    )
    # As in CARLA the origin of a walker is the middle of its box.
    size = (0.38, 0.38, height)
    return Blueprint(f"walker.pedestrian.{number}", attributes, size, -height / 2, "walker", 12, mass_kg=42.0 * height)


_WALKERS = (
    _walker("0001", "female", "adult", 1.86),
    _walker("0002", "male", "adult", 1.86),
    _walker("0003", "female", "adult", 1.78),
    _walker("0004", "male", "adult", 1.90),
    _walker("0005", "male", "elderly", 1.74),
    _walker("0009", "female", "child", 1.30),
    _walker("0010", "male", "child", 1.30),
    _walker("0015", "female", "adult", 1.72, 2),
    _walker("0016", "male", "adult", 1.82, 2),
)


def _prop(name: str, size_m: tuple[float, float, float], mass_kg: float, *, solid: bool = True) -> Blueprint:
    attributes = (Attribute("role_name", _STRING, "prop"), _fixed("size", _STRING, "medium"))
    return Blueprint(f"static.prop.{name}", attributes, size_m, 0.0, "prop", 20, mass_kg=mass_kg, solid=solid)


_PROPS = (
    _prop("streetbarrier", (1.22, 0.37, 1.05), 40.0),
    _prop("trafficcone01", (0.44, 0.44, 0.70), 5.0),
    _prop("trafficcone02", (0.44, 0.44, 0.70), 5.0),
    _prop("constructioncone", (0.36, 0.36, 0.61), 4.0),
    _prop("trafficwarning", (2.20, 1.10, 2.90), 400.0),
    _prop("vendingmachine", (0.90, 0.80, 1.90), 250.0),
    _prop("bench01", (1.60, 0.60, 0.85), 60.0),
    _prop("box01", (0.60, 0.60, 0.60), 8.0),
    _prop("barrel", (0.60, 0.60, 0.90), 20.0),
    _prop("container", (2.40, 1.40, 1.35), 300.0),
    _prop("warningconstruction", (1.00, 0.80, 1.20), 25.0),
    _prop("dirtdebris01", (1.60, 1.60, 0.05), 5.0, solid=False),
    _prop("dirtdebris02", (1.60, 1.60, 0.05), 5.0, solid=False),
    _prop("dirtdebris03", (1.60, 1.60, 0.05), 5.0, solid=False),
)

_TICK = Attribute("sensor_tick", _FLOAT, "0.0")
_ROLE = Attribute("role_name", _STRING, "")


def _camera(name: str, *more: Attribute) -> Blueprint:
    attributes = (
        Attribute("image_size_x", _INT, "800"),
        Attribute("image_size_y", _INT, "600"),
        Attribute("fov", _FLOAT, "90.0"),
        *(Attribute(f"lens_{key}", _FLOAT, value) for key, value in _LENS),
        _TICK,
        Attribute("role_name", _STRING, "front"),
        *more,
    )
    return Blueprint(f"sensor.camera.{name}", attributes)


# Accepted and echoed; the town's lens is an ideal pinhole.
_LENS = (
    ("circle_falloff", "5.0"), ("circle_multiplier", "0.0"), ("k", "-1.0"), ("kcube", "0.0"), ("x_size", "0.08"),
    ("y_size", "0.08"),
)  # fmt: skip
_EXPOSURE = (
    ("gamma", "2.2"), ("shutter_speed", "200.0"), ("iso", "100.0"), ("fstop", "1.4"), ("min_fstop", "1.2"),
    ("blade_count", "5"), ("exposure_compensation", "0.0"), ("exposure_min_bright", "10.0"),
    ("exposure_max_bright", "12.0"), ("exposure_speed_up", "3.0"), ("exposure_speed_down", "1.0"),
    ("calibration_constant", "16.0"), ("focal_distance", "1000.0"), ("blur_amount", "1.0"), ("blur_radius", "0.0"),
    ("motion_blur_intensity", "0.45"), ("motion_blur_max_distortion", "0.35"),
    ("motion_blur_min_object_screen_size", "0.1"), ("slope", "0.88"), ("toe", "0.55"), ("shoulder", "0.26"),
    ("black_clip", "0.0"), ("white_clip", "0.04"), ("temp", "6500.0"), ("tint", "0.0"),
    ("chromatic_aberration_intensity", "0.0"), ("chromatic_aberration_offset", "0.0"), ("bloom_intensity", "0.675"),
    ("lens_flare_intensity", "0.1"),
)  # fmt: skip
_NOISE = tuple(
    Attribute(f"noise_{sensor}_{part}", _FLOAT, "0.0")
    for sensor, part in (
        ("accel", "stddev_x"), ("accel", "stddev_y"), ("accel", "stddev_z"),
        ("gyro", "stddev_x"), ("gyro", "stddev_y"), ("gyro", "stddev_z"),
        ("gyro", "bias_x"), ("gyro", "bias_y"), ("gyro", "bias_z"),
    )
)  # fmt: skip
_GNSS_NOISE = tuple(
    Attribute(f"noise_{axis}_{part}", _FLOAT, "0.0") for axis in ("alt", "lat", "lon") for part in ("bias", "stddev")
)
_SEED = Attribute("noise_seed", _INT, "0")

_LIDAR = (
    ("channels", _INT, "32"), ("range", _FLOAT, "10.0"), ("points_per_second", _INT, "56000"),
    ("rotation_frequency", _FLOAT, "10.0"), ("upper_fov", _FLOAT, "10.0"), ("lower_fov", _FLOAT, "-30.0"),
    ("horizontal_fov", _FLOAT, "360.0"),
)  # fmt: skip
_LIDAR_LOSSES = tuple(
    Attribute(key, _FLOAT, value, (value,))
    for key, value in (
        ("atmosphere_attenuation_rate", "0.004"), ("dropoff_general_rate", "0.45"), ("dropoff_intensity_limit", "0.8"),
        ("dropoff_zero_intensity", "0.4"), ("noise_stddev", "0.0"),
    )
)  # fmt: skip
_RADAR = (
    Attribute("horizontal_fov", _FLOAT, "30.0", ("30.0",)),
    Attribute("vertical_fov", _FLOAT, "30.0", ("30.0",)),
    Attribute("range", _FLOAT, "100.0", ("100.0",)),
    Attribute("points_per_second", _INT, "1500", ("1500",)),
)
_OBSTACLE = (
    Attribute("distance", _FLOAT, "5.0", ("5.0",)),
    Attribute("hit_radius", _FLOAT, "0.5", ("0.5",)),
    Attribute("only_dynamics", _BOOL, "false", ("false",)),
    Attribute("debug_linetrace", _BOOL, "false", ("false",)),  # accepted and not drawn
)


def _lidar(name: str, *more: Attribute) -> Blueprint:
    own = tuple(Attribute(key, type_, value, (value,)) for key, type_, value in _LIDAR)
    return Blueprint(f"sensor.lidar.{name}", (_ROLE, _TICK, *own, *more, *((_SEED,) if more else ())))


_SENSORS = (
    _camera(
        "rgb",
        Attribute("enable_postprocess_effects", _BOOL, "true"),
        Attribute("exposure_mode", _STRING, "histogram", ("manual", "histogram")),
        *(Attribute(key, _FLOAT, value) for key, value in _EXPOSURE),
    ),
    _camera("semantic_segmentation"),
    _camera("instance_segmentation"),
    _camera("depth"),
    _lidar("ray_cast", *_LIDAR_LOSSES),
    _lidar("ray_cast_semantic"),
    Blueprint("sensor.other.radar", (_ROLE, _TICK, _SEED, *_RADAR)),
    Blueprint("sensor.other.obstacle", (_ROLE, _TICK, *_OBSTACLE)),
    Blueprint("sensor.other.collision", (_ROLE,)),
    Blueprint("sensor.other.lane_invasion", (_ROLE,)),
    Blueprint("sensor.other.imu", (_ROLE, _TICK, _SEED, *_NOISE)),
    Blueprint("sensor.other.gnss", (_ROLE, _TICK, _SEED, *_GNSS_NOISE)),
    Blueprint("controller.ai.walker", (_ROLE,)),
)

BLUEPRINTS: tuple[Blueprint, ...] = (*_VEHICLES, *_WALKERS, *_PROPS, *_SENSORS)


@dataclass(frozen=True)
class BlueprintLibrary:
    """The blueprints by the number that a client's ActorDescription carries."""

    by_uid: dict[int, Blueprint] = field(default_factory=lambda: dict(enumerate(BLUEPRINTS, start=1)))

    def to_wire(self) -> Wire:
        """The list of ActorDefinitions."""
        return [blueprint.to_wire(uid) for uid, blueprint in self.by_uid.items()]

"""Everything that belongs to one map and outlives an episode: roads, scenery, renderer, spawn points, navigation mesh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import carla

from roadworthy.agent.town import maps, opendrive
from roadworthy.agent.town.boxes import StaticBoxes
from roadworthy.agent.town.errors import MapRefused
from roadworthy.agent.town.navmesh import Navmesh, NavmeshError, build_navmesh
from roadworthy.agent.town.placement import EnvironmentObject
from roadworthy.agent.town.raster import Renderer
from roadworthy.agent.town.roads import RoadNetwork
from roadworthy.agent.town.scenery import Scenery, build_scenery
from roadworthy.agent.town.tracing import Tracer

FOLDER = "Carla/Maps/"  # CARLA's maps are named Carla/Maps/<name>
GENERATED = "OpenDriveMap"  # the name under which `generate_opendrive_world` loads its text
MAX_OPENDRIVE_BYTES = 20_000_000
PARSE_LIMIT_S = 20.0


@dataclass
class LoadedMap:
    """One map, ready to drive in."""

    name: str
    text: str
    roads: RoadNetwork
    scenery: Scenery
    static: StaticBoxes
    spawn_points: list[tuple[float, float, float, float]]  # x, y, z [m], yaw [deg]
    seed: int

    @classmethod
    def build(cls, name: str, text: str, seed: int) -> LoadedMap:
        """Parse the OpenDRIVE `text` and dress it. Raises `MapRefused`."""
        try:
            roads = RoadNetwork.from_opendrive(name, text)
        except opendrive.MapError as error:
            raise MapRefused(str(error)) from error
        scenery = build_scenery(roads, seed)
        static = StaticBoxes.build(scenery.colliders)
        return cls(name, text, roads, scenery, static, roads.spawn_points(), seed)

    def geolocation(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Latitude, longitude [deg], altitude [m] of a place, as `carla.Map.transform_to_geolocation` has it."""
        place = self.roads.map.transform_to_geolocation(carla.Location(x, y, z))
        return place.latitude, place.longitude, place.altitude

    @property
    def path(self) -> str:
        """The name that clients see, e.g. Carla/Maps/Grid01."""
        return FOLDER + self.name

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of this map; made when the first camera looks."""
        return Renderer(self.scenery, self.roads)

    @cached_property
    def tracer(self) -> Tracer:
        """Rays through this map; made when the first ray sensor is spawned."""
        return Tracer(self.scenery.mesh)

    def environment_objects(self) -> Sequence[EnvironmentObject]:
        """What stands in the scenery, as clients ask for it."""
        return self.scenery.objects

    @cached_property
    def navmesh(self) -> Navmesh | None:
        """The walkers' navigation mesh; None where the map has no place for walkers."""
        try:
            return build_navmesh(self.name, self.text)
        except NavmeshError:
            return None


class MapShelf:
    """The maps that a server offers: the shipped ones, those given at start, and those that clients upload."""

    KEPT = 3  # loaded maps kept for the next `load_world`

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._texts: dict[str, str] = {}
        self._loaded: dict[str, LoadedMap] = {}

    def names(self) -> list[str]:
        """Bare names of all maps."""
        return sorted({*maps.names(), *self._texts})

    def add(self, name: str, text: str) -> None:
        """Offer a map under `name`; an older one of that name is forgotten."""
        self._texts[name] = text
        self._loaded.pop(name, None)

    def get(self, name: str) -> LoadedMap:
        """Load a map by bare name or by a path that ends in it. Raises `MapRefused`."""
        bare = name.rsplit("/", 1)[-1]
        if bare not in self._loaded:
            if bare in self._texts:
                text = self._texts[bare]
            elif bare in maps.names():
                text = maps.load(bare)
            else:
                raise MapRefused(f"map {name!r} not found; this server has: {', '.join(self.names())}")
            while len(self._loaded) >= self.KEPT:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[bare] = LoadedMap.build(bare, text, self._seed)
        else:
            self._loaded[bare] = self._loaded.pop(bare)  # now the most recently used
        return self._loaded[bare]


def check_strangers_map(text: str) -> None:
    """Refuse an OpenDRIVE text that is unusable or that crashes the parser, by trying it in a child process first.

    `carla.Map` does not survive every file. Raises `MapRefused`.
    """
    if len(text) > MAX_OPENDRIVE_BYTES:
        raise MapRefused(f"OpenDRIVE text of {len(text)} bytes: expected at most {MAX_OPENDRIVE_BYTES}; use a smaller map")
    try:
        opendrive.parse(text)
    except opendrive.MapError as error:
        raise MapRefused(str(error)) from error
    code = "import sys, carla; m = carla.Map('m', sys.stdin.read()); m.get_topology(); m.generate_waypoints(20.0)"
    try:
        child = subprocess.run(
            [sys.executable, "-c", code],
            input=text.encode("utf-8", "replace"),
            capture_output=True,
            timeout=PARSE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MapRefused(f"the OpenDRIVE text was not parsed within {PARSE_LIMIT_S:.0f} s") from error
    if child.returncode != 0:
        said = child.stderr.decode("utf-8", "replace").strip().splitlines()
        raise MapRefused(f"carla.Map does not take this OpenDRIVE text: {said[-1] if said else f'exit {child.returncode}'}")

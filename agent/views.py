"""Records scenes from fixed cameras, as a city watches its crossings: data for scene adaptation (Di Mauro et al., AVSS 2018).

Every scene is a place of a map, seen by two or more cameras that differ in altitude, pitch, yaw and roll; cars and people pass,
and every episode has a time of day and a weather of its own. A YAML file says which:

    town: Grid01
    episodes: 4           # per scene, each with its own traffic, time and weather
    frames: 50            # per episode and view, one a second
    scenes:
      - spawn_point: 2    # of the map: the place that the views are relative to, x ahead of it
        views:            # metres and degrees
          A: {x: -4, y: 3, z: 4.5, pitch: -12}
          B: {x: -7, y: -3, z: 8, pitch: -24, yaw: 16, roll: 4}

View A of the first scene becomes the recording OUTPUT/A1 (see `roadworthy.agent.recording`), and so on. Both views of a scene
see the same moments. Works with any CARLA server; without one, embedded towns are started.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from roadworthy.agent.camera import COLOUR, SEMANTIC, CameraFeed, CameraRig, rgb_of, tags_of
from roadworthy.agent.carla_client import carla
from roadworthy.agent.parallel import Task, run_tasks
from roadworthy.agent.recording import Recording
from roadworthy.agent.session import Session
from roadworthy.agent.supervisor import Report
from roadworthy.agent.traffic import Traffic
from roadworthy.agent.weather import TRAINING_WEATHERS, get_weather, vary, weather_numbers
from roadworthy.runtime.errors import BadInput, RoadworthyError

Progress = Callable[[str, float], None]

PERIOD_S = 1.0  # [s] between two frames, as published
SETTLE_TICKS = 60  # [ticks] before the first frame of an episode: cars and people spread out
DAY_ALTITUDE_DEG = (8.0, 85.0)  # [degrees] the sun of an episode's time of day, unless its weather is a night
REPORT_TICKS = 20  # [ticks] between signs of life
SLOW_FACTOR = 3  # an episode that takes so many times its ticks has lost its cameras


@dataclass(frozen=True)
class View:
    """Where one camera stands, relative to its scene's place: x ahead, y to the right, z up [m]; turns in degrees."""

    x: float = 0.0
    y: float = 0.0
    z: float = 5.0
    pitch: float = -15.0  # negative looks down
    yaw: float = 0.0  # positive to the right
    roll: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A place of the map, and its views by name."""

    spawn_point: int  # index among the map's spawn points
    views: Mapping[str, View]


def _default_scenes() -> tuple[Scene, ...]:
    # Altitude, pitch, yaw and roll of the two views differ; both see the place ahead of the spawn point.
    low = View(x=-4.0, y=3.0, z=4.5, pitch=-12.0)
    high = View(x=-7.0, y=-3.0, z=8.0, pitch=-24.0, yaw=16.0, roll=4.0)
    return tuple(Scene(place, {"A": low, "B": high}) for place in (2, 11, 23))


@dataclass(frozen=True)
class ViewsPlan:
    """What to record."""

    town: str = "Grid01"
    episodes: int = 4  # per scene
    frames: int = 50  # per episode and view
    vehicles: int = 25
    walkers: int = 30
    width: int = 800  # [pixels]
    height: int = 600  # [pixels]
    fov: float = 90.0  # [degrees] horizontal
    seed: int = 0  # of traffic, times and weathers
    scenes: tuple[Scene, ...] = field(default_factory=_default_scenes)

    def check(self, source: str = "views") -> None:
        """Raise `BadInput` that names `source` and the field that cannot be recorded with."""
        for name, lowest in (("episodes", 1), ("frames", 1), ("vehicles", 0), ("walkers", 0), ("width", 16), ("height", 16),
                             ("seed", 0)):  # fmt: skip
            if getattr(self, name) < lowest:
                raise BadInput(f"{source}: {name} is {getattr(self, name)}, expected {lowest} or more")
        if not 1.0 <= self.fov < 180.0:
            raise BadInput(f"{source}: fov is {self.fov}, expected degrees from 1 to below 180")
        if not self.scenes or not all(scene.views for scene in self.scenes):
            raise BadInput(f"{source}: expected at least one scene, each with at least one view")
        for number, scene in enumerate(self.scenes, 1):
            if scene.spawn_point < 0:
                raise BadInput(f"{source}: spawn_point of scene {number} is {scene.spawn_point}, expected 0 or more")
            for name in scene.views:
                if not name.isalnum():
                    raise BadInput(
                        f"{source}: view {name!r} of scene {number}: expected letters and digits, it becomes a folder"
                    )


@dataclass(frozen=True)
class ViewsResult:
    """What the recordings hold after `record_views`."""

    folders: tuple[Path, ...]
    frames: int  # in all of them
    new_frames: int  # added by this call
    seconds: float


def load_views(path: Path) -> ViewsPlan:
    """Read a plan from YAML; what it leaves out is as in `ViewsPlan`. Raises `BadInput` naming the field that will not do."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a YAML file with the scenes to record")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a YAML file ({error})") from error
    plan = plan_from(values, str(path))
    plan.check(str(path))
    return plan


def plan_from(values: object, source: str) -> ViewsPlan:
    """Make sense of a plan's plain data. Raises `BadInput` that names `source` and the field."""
    fields = _fields(ViewsPlan, values, source)
    if "scenes" in fields:
        entries = fields["scenes"]
        if not isinstance(entries, list):
            raise BadInput(f"{source}: scenes is {entries!r}, expected a list")
        fields["scenes"] = tuple(_scene(entry, f"{source}: scene {number}") for number, entry in enumerate(entries, 1))
    return ViewsPlan(**fields)


def _scene(values: object, where: str) -> Scene:
    fields = _fields(Scene, values, where)
    views = fields.get("views")
    if "spawn_point" not in fields or not isinstance(views, dict):
        raise BadInput(f"{where}: expected spawn_point, a number, and views, cameras by name")
    named = {str(name): View(**_fields(View, view, f"{where}, view {name}")) for name, view in views.items()}
    return Scene(fields["spawn_point"], named)


def _fields(kind: type[Any], values: object, where: str) -> dict[str, Any]:
    """Check the names and types of a dataclass's plain fields."""
    known = {entry.name: str(entry.type) for entry in dataclasses.fields(kind)}
    if not isinstance(values, dict):
        raise BadInput(f"{where}: is {values!r}, expected fields: {', '.join(known)}")
    numbers: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
    for name, value in values.items():
        if name not in known:
            raise BadInput(f"{where}: unknown field {name!r}; known: {', '.join(known)}")
        allowed = numbers.get(known[name])
        if allowed is not None and (
            not isinstance(value, allowed) or isinstance(value, bool) or value in (math.inf, -math.inf)
        ):
            raise BadInput(f"{where}: {name} is {value!r}, expected {'text' if allowed == (str,) else 'a number'}")
    return dict(values)


def record_views(
    plan: ViewsPlan, output: Path, progress: Progress | None = None, *, address: str | None = None, workers: int = 2
) -> ViewsResult:
    """Record into one recording per view in the folder `output`; an interrupted recording of the same plan goes on.

    `address` is HOST:PORT of a CARLA server, of which one scene at a time is recorded; None starts `workers` embedded towns.
    Raises `BadInput` for a folder that holds something else, an unknown town or spawn point, or no server at `address`.
    """
    plan.check()
    began = time.monotonic()
    folders = {name: output / name for name in view_names(plan)}
    recordings = {name: Recording.open(folder, _asked_for(plan, name)) for name, folder in folders.items()}
    before = sum(recording.frames_by_episode().total() for recording in recordings.values())
    say = progress or (lambda text, fraction: None)
    tasks = [
        Task(f"scene {number + 1}", record_scene, (plan, number, output, address))
        for number, scene in enumerate(plan.scenes)
        if any(_missing(plan, recordings[f"{view}{number + 1}"]) for view in scene.views)
    ]
    try:
        run_tasks(
            tasks,
            workers=workers if address is None else 1,
            progress=say,
            on_restart=lambda reason: say(f"starting again: {reason}", 0.0),
        )
    except BadInput:
        for recording in recordings.values():
            recording.discard_empty()
        raise
    frames = sum(recording.frames_by_episode().total() for recording in recordings.values())
    return ViewsResult(tuple(folders.values()), frames, frames - before, time.monotonic() - began)


def view_names(plan: ViewsPlan) -> list[str]:
    """Return the names of all recordings: A1 is view A of the first scene."""
    return [f"{view}{number}" for number, scene in enumerate(plan.scenes, 1) for view in scene.views]


def _asked_for(plan: ViewsPlan, name: str) -> dict[str, Any]:
    return {"view": name, **asdict(plan)}


def _missing(plan: ViewsPlan, recording: Recording) -> list[int]:
    """Return the episodes that a recording does not have yet."""
    done = recording.frames_by_episode()
    return [episode for episode in range(plan.episodes) if episode not in done]


def record_scene(report: Report, plan: ViewsPlan, number: int, output: Path, address: str | None) -> None:
    """Record the missing episodes of scene `number` (from 0), all its views at once. Runs in a worker process."""
    scene = plan.scenes[number]
    recordings = {view: Recording(output / f"{view}{number + 1}") for view in scene.views}
    with Session.open(address, map=plan.town, seed=plan.seed) as session, ThreadPoolExecutor(1) as writer:
        for episode in range(plan.episodes):
            wanting = {view: each for view, each in recordings.items() if episode in _missing(plan, each)}
            if not wanting:
                continue
            session.reload()  # so that an episode is the same whatever was before it

            def on_frames(frames: int, episode: int = episode) -> None:
                text = f"episode {episode + 1} of {plan.episodes}, frame {frames} of {plan.frames}"
                report((text, (episode + frames / plan.frames) / plan.episodes, False))

            lines = _watch(session, plan, number, episode, wanting, writer, on_frames)
            for view, recording in wanting.items():
                recording.add_episode(lines[view])
            report((f"episode {episode + 1} of {plan.episodes} done", (episode + 1) / plan.episodes, True))


def _watch(
    session: Session,
    plan: ViewsPlan,
    number: int,
    episode: int,
    recordings: Mapping[str, Recording],
    writer: ThreadPoolExecutor,
    on_frames: Callable[[int], None],
) -> dict[str, list[dict[str, Any]]]:
    """Watch one episode, save its images, and return the lines of each view."""
    seed = int(np.random.SeedSequence([plan.seed, number, episode]).generate_state(1)[0])
    rng = np.random.default_rng(seed)
    name, weather = random_weather(rng)
    session.world.set_weather(weather)
    scene = plan.scenes[number]
    places = session.map.get_spawn_points()
    if scene.spawn_point >= len(places):
        raise BadInput(
            f"scene {number + 1}: spawn_point is {scene.spawn_point}, but map {session.map_name!r} has {len(places)} of them"
        )
    place = places[scene.spawn_point]
    traffic = Traffic(session, vehicles=plan.vehicles, walkers=plan.walkers, seed=seed, near=place.location)
    for _ in range(SETTLE_TICKS):
        session.tick()
    rig = CameraRig(plan.width, plan.height, plan.fov)
    stands = {view: standing(place, scene.views[view]) for view in recordings}
    feeds = {view: CameraFeed(session, None, rig, (COLOUR, SEMANTIC), PERIOD_S, stand) for view, stand in stands.items()}
    began_s = session.world.get_snapshot().timestamp.elapsed_seconds
    saved: dict[str, list[tuple[dict[str, Any], Future[dict[str, str]]]]] = {view: [] for view in recordings}
    for tick in range(math.ceil(plan.frames * SLOW_FACTOR * PERIOD_S / session.fixed_delta_s)):
        session.tick()
        for view, feed in feeds.items():
            for images in feed.arrived():
                count = len(saved[view])
                if count == plan.frames:
                    continue
                line = {
                    "name": f"{episode:04d}_{count:05d}",
                    "episode": episode,
                    "town": session.map_name,
                    "weather": name,
                    "weather_parameters": weather_numbers(weather),
                    "seed": seed,
                    "frame": images[COLOUR].frame,
                    "time_s": round(images[COLOUR].timestamp - began_s, 3),
                    "pose": _pose(stands[view]),
                    "speed_mps": 0.0,
                }
                rgb, tags = rgb_of(images[COLOUR]), tags_of(images[SEMANTIC])
                saved[view].append((line, writer.submit(recordings[view].save_images, str(line["name"]), rgb, tags)))
        if tick % REPORT_TICKS == 0:
            on_frames(min(len(lines) for lines in saved.values()))
        if all(len(lines) == plan.frames for lines in saved.values()):
            break
    # In this order, and only when all went well: after a failure the process is about to end, and the session cleans up.
    for feed in feeds.values():
        feed.destroy()
    traffic.destroy()
    if not all(len(lines) == plan.frames for lines in saved.values()):
        counts = ", ".join(f"{view} {len(lines)}" for view, lines in saved.items())
        raise RoadworthyError(f"the cameras of scene {number + 1} stopped sending: {counts} of {plan.frames} frames arrived")
    return {view: [{**line, **files.result()} for line, files in lines] for view, lines in saved.items()}


def random_weather(rng: np.random.Generator) -> tuple[str, carla.WeatherParameters]:
    """Draw an episode's weather and its time of day; returns the weather's name and all its parameters."""
    name = str(rng.choice(TRAINING_WEATHERS))
    weather = vary(get_weather(name), rng)
    if weather.sun_altitude_angle > 0:
        weather.sun_altitude_angle = float(rng.uniform(*DAY_ALTITUDE_DEG))
    return name, weather


def standing(place: carla.Transform, view: View) -> carla.Transform:
    """Return where a view's camera stands on the map whose scene is at `place`."""
    corner = place.transform(carla.Location(x=view.x, y=view.y, z=view.z))
    turn = carla.Rotation(pitch=view.pitch, yaw=place.rotation.yaw + view.yaw, roll=view.roll)
    return carla.Transform(corner, turn)


def _pose(stand: carla.Transform) -> dict[str, float]:
    place, turn = stand.location, stand.rotation
    numbers = {"x": place.x, "y": place.y, "z": place.z, "pitch": turn.pitch, "yaw": turn.yaw, "roll": turn.roll}
    return {key: round(value, 4) for key, value in numbers.items()}

"""Records a driving data set from any CARLA server: colour frames with their semantic tags, from a car on CARLA's autopilot.

The files are described in `roadworthy.agent.recording`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from roadworthy.agent.camera import CameraFeed, CameraRig, rgb_of, tags_of
from roadworthy.agent.carla_client import carla
from roadworthy.agent.lanegraph import RoadOption
from roadworthy.agent.parallel import Task, run_tasks
from roadworthy.agent.recording import Recording
from roadworthy.agent.session import Session
from roadworthy.agent.supervisor import Report
from roadworthy.agent.traffic import Traffic
from roadworthy.agent.weather import TRAINING_WEATHERS, get_weather, vary, weather_numbers
from roadworthy.runtime.errors import BadInput, RoadworthyError

Progress = Callable[[str, float], None]

EGO = "vehicle.tesla.model3"
CAMERAS = ("rgb", "semantic_segmentation")
SETTLE_TICKS = 15  # [ticks] before the first frame of an episode: cars drop to the ground and drive off
MAX_TICKS_PER_FRAME = 40  # [ticks] an episode that crawls ends after so many times its frames
STANDING_IMAGES = 10  # between frames of a standing car: the others move on meanwhile
CAMERA_PERIOD_S = 0.3  # [s] between images; most ticks need none, and drawing them is what takes the time
STANDING_MPS = 0.3  # [m/s] slower is standing
REPORT_TICKS = 50  # [ticks] between signs of life


@dataclass(frozen=True)
class RecordConfig:
    """What to record. Episodes take turns over towns and weathers."""

    towns: tuple[str, ...] = ("Grid01", "Grid02")
    episodes: int = 12  # in all
    frames: int = 50  # per episode
    weathers: tuple[str, ...] = TRAINING_WEATHERS
    vehicles: int = 15  # others on the road
    walkers: int = 15
    seed: int = 0
    spacing_m: float = 2.0  # [m] driven between two frames
    max_standing: int = 2  # frames per stop
    rig: CameraRig = field(default_factory=CameraRig)
    image_format: Literal["png", "jpg"] = "png"  # of the colour frames; tags are always PNG
    carla: str | None = None  # HOST:PORT of a CARLA server; None = an embedded town

    def check(self) -> None:
        """Raise `BadInput` for values that cannot be recorded with."""
        for name, lowest in (("episodes", 1), ("frames", 1), ("vehicles", 0), ("walkers", 0), ("max_standing", 0)):
            if getattr(self, name) < lowest:
                raise BadInput(f"{name} is {getattr(self, name)}, expected {lowest} or more")
        if not self.towns or not self.weathers:
            raise BadInput("no town or no weather to record in, expected at least one of each")
        if not 0.0 < self.spacing_m < 100.0:
            raise BadInput(f"spacing_m is {self.spacing_m}, expected a distance between 0 and 100 m")
        if self.image_format not in ("png", "jpg"):
            raise BadInput(f"image_format is {self.image_format!r}, expected png or jpg")
        for weather in self.weathers:
            get_weather(weather)


@dataclass(frozen=True)
class Episode:
    """One drive: where, in which weather, and the seed of everything in it."""

    index: int
    town: str
    weather: str
    seed: int


@dataclass(frozen=True)
class RecordResult:
    """What a recording holds after `record`."""

    folder: Path
    frames: int  # in the whole recording
    new_frames: int  # added by this call
    seconds: float
    restarts: int  # of a simulator or client that died


def plan_episodes(config: RecordConfig) -> list[Episode]:
    """Spread the episodes over towns and weathers, evenly and in a seeded order."""
    rng = np.random.default_rng(config.seed)
    weathers = [config.weathers[i] for i in rng.permutation(len(config.weathers))]
    towns = len(config.towns)
    return [
        Episode(
            index=i,
            town=config.towns[i % towns],
            weather=weathers[(i // towns + i % towns) % len(weathers)],
            seed=int(np.random.SeedSequence([config.seed, i]).generate_state(1)[0]),
        )
        for i in range(config.episodes)
    ]


def record(config: RecordConfig, output: Path, progress: Progress | None = None, *, workers: int = 2) -> RecordResult:
    """Record into the folder `output`; a recording of the same configuration that was interrupted goes on.

    `workers` embedded towns drive at a time; a server at `config.carla` is used by one. Drives and labels are the same for
    any number of them. Raises `BadInput` for a folder that holds something else, an unknown town or weather, or no CARLA server
    at `config.carla`; `RoadworthyError` if the simulator keeps dying.
    """
    config.check()
    began = time.monotonic()
    recording = Recording.open(output, {key: value for key, value in asdict(config).items() if key != "carla"})
    done = recording.frames_by_episode()
    pending = [episode for episode in plan_episodes(config) if episode.index not in done]
    workers = workers if config.carla is None else 1
    restarts: list[str] = []
    share = len(done) / config.episodes

    def on_progress(text: str, fraction: float) -> None:
        nonlocal share
        share = (len(done) + fraction * len(pending)) / config.episodes
        if progress is not None:
            progress(text, share)

    def on_restart(reason: str) -> None:
        restarts.append(reason)
        if progress is not None:
            progress(f"starting again: {reason}", share)

    try:
        run_tasks(_tasks(config, output, pending, workers), workers=workers, progress=on_progress, on_restart=on_restart)
    except BadInput:
        recording.discard_empty()
        raise
    recording.sort()
    frames = recording.frames_by_episode().total()
    return RecordResult(output, frames, frames - done.total(), time.monotonic() - began, len(restarts))


def _tasks(config: RecordConfig, output: Path, pending: Sequence[Episode], workers: int) -> list[Task]:
    """Deal the episodes out to worker processes, each with one town."""
    towns = sorted({episode.town for episode in pending})
    shares = max(1, workers // max(len(towns), 1))
    tasks = []
    for town in towns:
        here = [episode for episode in pending if episode.town == town]
        for share in range(min(shares, len(here))):
            tasks.append(Task(f"recording in {town}", record_episodes, (config, output, tuple(here[share::shares]))))
    return tasks


def record_episodes(report: Report, config: RecordConfig, output: Path, episodes: Sequence[Episode]) -> None:
    """Record those of `episodes`, all in one town, that `output` does not have yet. Runs in a worker process."""
    recording = Recording(output)
    done = recording.frames_by_episode()
    finished = sum(episode.index in done for episode in episodes)
    with Session.open(config.carla, map=episodes[0].town, seed=config.seed) as session, ThreadPoolExecutor(1) as writer:
        for episode in (e for e in episodes if e.index not in done):

            def on_frames(frames: int, episode: Episode = episode, finished: int = finished) -> None:
                text = f"episode {episode.index + 1} of {config.episodes}, frame {frames} of {config.frames}"
                report((text, (finished + frames / config.frames) / len(episodes), False))

            session.reload()  # so that an episode is the same whatever was before it
            lines = _drive(session, config, episode, recording, writer, on_frames)
            recording.add_episode(lines)
            finished += 1
            report((f"episode {episode.index + 1} of {config.episodes} done", finished / len(episodes), True))


def _drive(
    session: Session,
    config: RecordConfig,
    episode: Episode,
    recording: Recording,
    writer: ThreadPoolExecutor,
    on_frames: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Drive one episode, save its images, and return its lines."""
    rng = np.random.default_rng(episode.seed)
    began_s = session.world.get_snapshot().timestamp.elapsed_seconds
    weather = vary(get_weather(episode.weather), rng)
    session.world.set_weather(weather)
    ego = _spawn_ego(session, rng)
    start = ego.get_transform().location
    traffic = Traffic(session, vehicles=config.vehicles, walkers=config.walkers, seed=episode.seed, clear=start, near=start)
    traffic.drive(ego)
    for _ in range(SETTLE_TICKS):
        session.tick()
    cameras = CameraFeed(session, ego, config.rig, CAMERAS, CAMERA_PERIOD_S)
    choice = FrameChoice(config.spacing_m, config.max_standing)
    states: dict[int, dict[str, Any]] = {}  # of the car, by simulator frame
    saved: list[tuple[dict[str, Any], Future[dict[str, str]]]] = []
    for tick in range(config.frames * MAX_TICKS_PER_FRAME):
        frame = session.tick()
        states[frame] = _state(session, ego, traffic.manager, began_s)
        if tick % REPORT_TICKS == 0:
            on_frames(len(saved))
        for images in cameras.arrived():
            frame = images["rgb"].frame
            state = states[frame]
            states = {later: states[later] for later in states if later > frame}
            if len(saved) == config.frames or not choice.wants(state["pose"]["x"], state["pose"]["y"], state["speed_mps"]):
                continue
            line = {
                "name": f"{episode.index:04d}_{len(saved):05d}",
                "episode": episode.index,
                "town": episode.town,
                "weather": episode.weather,
                "weather_parameters": weather_numbers(weather),
                "seed": episode.seed,
                "frame": frame,
                **state,
            }
            rgb, tags = rgb_of(images["rgb"]), tags_of(images["semantic_segmentation"])
            saved.append((line, writer.submit(recording.save_images, str(line["name"]), rgb, tags, config.image_format)))
        if len(saved) == config.frames:
            break
    # In this order, and only when all went well: after a failure the process is about to end, and the session cleans up.
    cameras.destroy()
    traffic.release(ego)
    traffic.destroy()
    session.destroy(ego)
    if not saved:
        raise RoadworthyError(f"the car never moved in episode {episode.index} ({episode.town}, seed {episode.seed})")
    return [{**line, **files.result()} for line, files in saved]


class FrameChoice:
    """Which images to keep: one every few metres, and a few per stop, so that no two frames are nearly the same."""

    def __init__(self, spacing_m: float, max_standing: int) -> None:
        self._spacing_m, self._max_standing = spacing_m, max_standing
        self._kept_at: tuple[float, float] | None = None
        self._waited = 0  # images since the last kept frame
        self._standing = 0  # frames kept in this stop

    def wants(self, x: float, y: float, speed_mps: float) -> bool:
        """Whether to keep this image; call it once per image."""
        self._waited += 1
        moved = self._kept_at is None or math.dist(self._kept_at, (x, y)) >= self._spacing_m
        stood = speed_mps < STANDING_MPS and self._waited >= STANDING_IMAGES and self._standing < self._max_standing
        if not moved and not stood:
            return False
        self._standing = 0 if moved else self._standing + 1
        self._kept_at, self._waited = (x, y), 0
        return True


def _spawn_ego(session: Session, rng: np.random.Generator) -> carla.Actor:
    blueprint = session.world.get_blueprint_library().find(EGO)
    blueprint.set_attribute("role_name", "hero")
    places = session.map.get_spawn_points()
    for index in rng.permutation(len(places)):
        ego = session.spawn(blueprint, places[index])
        if ego is not None:
            session.tick()
            return ego
    raise RoadworthyError(f"no free place for the car on map {session.map_name!r} ({len(places)} spawn points)")


def _state(session: Session, ego: carla.Actor, manager: carla.TrafficManager, began_s: float) -> dict[str, Any]:
    """Return where the car is, how fast it is, and what the autopilot is about to do, as a command."""
    snapshot = session.world.get_snapshot()
    state = snapshot.find(ego.id)
    pose, velocity = state.get_transform(), state.get_velocity()
    place, turn = pose.location, pose.rotation
    numbers = {"x": place.x, "y": place.y, "z": place.z, "pitch": turn.pitch, "yaw": turn.yaw, "roll": turn.roll}
    action = str(manager.get_next_action(ego)[0]).upper()
    return {
        "time_s": round(snapshot.timestamp.elapsed_seconds - began_s, 3),
        "pose": {key: round(value, 4) for key, value in numbers.items()},
        "speed_mps": round(math.hypot(velocity.x, velocity.y, velocity.z), 3),
        "command": int(RoadOption.__members__.get(action, RoadOption.LANEFOLLOW)),
    }

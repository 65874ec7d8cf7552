"""Demonstrations: frames, measurements and an expert's actions on routes, recorded once and shared by every segmenter.

A folder holds `part-*/` folders, one per worker, each with `frames.npy` (uint8 [n, H, W, 3]), `steps.npz` (measurements [n, 9],
actions [n, 3], episode [n], follows [n]), `maps.npz` (segmentation and depth as in `roadworthy/DriveSegDepth-v0`, from the true
labels) and `part.json`, which is written last: a part without it is recorded again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roadworthy.agent.camera import COLOUR, DEPTH, SEMANTIC, CameraRig
from roadworthy.agent.ego import Assignment, Ego, Moment
from roadworthy.agent.env import GOAL_M
from roadworthy.agent.expert import Expert, ExpertStyle, Stall, SteeringNoise
from roadworthy.agent.lanegraph import TURNS, RoadOption
from roadworthy.agent.observation import measurement_vector
from roadworthy.agent.obstruction import Obstruction
from roadworthy.agent.parallel import Task as Work
from roadworthy.agent.parallel import reporter, run_tasks
from roadworthy.agent.routes import Route, Task, make_routes
from roadworthy.agent.segdepth import thinned, thinned_depth, true_labels
from roadworthy.agent.session import Session
from roadworthy.agent.supervisor import Report
from roadworthy.agent.weather import TRAINING_WEATHERS
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, write_text

Progress = Callable[[str, float], None]

STANDING_KEPT = 10  # [steps] of one stop that are kept; the rest of a red light teaches nothing new
DULL_STEER, DULL_MPS = 0.03, 5.0  # of full steering, [m/s]: rolling straight on with less steering and more speed is dull
DULL_KEPT, DULL_PERIOD = 4, 10  # [steps] of dull driving that are kept, of so many
MAX_EPISODE_STEPS = 900  # [steps] of 0.1 s
ROUTE_DRAWS = 30  # to find a route with the wanted command
SHOWN_GAP_M = 5.0  # [m] kept to what stands in the way: who imitates that stops a metre or two later
LOST_M = 4.0  # [m] beside the route the expert has failed, and the episode ends


@dataclass(frozen=True)
class DemonstrationConfig:
    """What to demonstrate."""

    towns: tuple[str, ...] = ("Grid01", "Grid02")  # one per worker, in turn
    steps: int = 4000  # kept, in all
    workers: int = 2
    # Wanted on the routes, in turn; 0 = whatever comes. Junctions are where a policy must obey, and can learn them by heart:
    # routes are short and every command gets its share.
    commands: tuple[int, ...] = (RoadOption.LEFT, RoadOption.RIGHT, RoadOption.STRAIGHT, RoadOption.LEFT, RoadOption.RIGHT, 0)
    lengths_m: tuple[float, float] = (40.0, 90.0)  # [m] of a route
    routes_per_world: int = 6  # driven in the same traffic and weather
    start_aside_m: float = 0.6  # [m] a route starts at most this far beside its lane's centre
    start_turned_deg: float = 8.0  # [degrees] and turned by at most this
    weathers: tuple[str, ...] = TRAINING_WEATHERS
    vehicles: int = 15
    walkers: int = 15
    blocked_share: float = 0.5  # of the routes a car stands on, until the expert has waited behind it
    stall_share: float = 0.15  # of the routes the car is stopped once for no reason, so that driving off is seen everywhere
    noise_share: float = 0.35  # of the time the steering is disturbed
    noise_amplitude: float = 0.16  # of full steering
    style: ExpertStyle = field(default_factory=lambda: ExpertStyle(gap_m=SHOWN_GAP_M))
    rig: CameraRig = field(default_factory=CameraRig)
    seed: int = 1
    carla: str | None = None  # HOST:PORT of a CARLA server, for one worker


@dataclass(frozen=True)
class Demonstrations:
    """Recorded steps, in the order of driving."""

    frames: npt.NDArray[np.uint8]  # [N, H, W, 3]
    measurements: npt.NDArray[np.float32]  # [N, 9], as in the environment
    actions: npt.NDArray[np.float32]  # [N, 3], what the expert would do
    episode: npt.NDArray[np.int64]  # [N]
    follows: npt.NDArray[np.bool_]  # [N] whether the step before this one is the sample before it
    segmentation: npt.NDArray[np.uint8] | None = None  # [N, h, w] true labels; None in folders of earlier versions
    depth: npt.NDArray[np.float16] | None = None  # [N, h, w] [m]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.actions)

    def previous(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the sample one tick before each chosen one, itself where none was kept."""
        return np.where(self.follows[chosen], chosen - 1, chosen)

    def split(self, held_out_share: float, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return training and held-out sample numbers; whole episodes are held out."""
        episodes = rng.permutation(np.unique(self.episode))
        held = episodes[: round(held_out_share * len(episodes))]
        mask = np.isin(self.episode, held)
        return np.flatnonzero(~mask), np.flatnonzero(mask)

    @classmethod
    def load(cls, folder: Path) -> Demonstrations:
        """Read all parts of `folder`; raises `BadInput` when there is none or one is damaged."""
        parts = sorted(folder.glob("part-*/part.json"))
        if not parts:
            raise BadInput(f"{folder}: no demonstrations; expected part-*/part.json, written by `roadworthy drive demonstrate`")
        columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in cls.__dataclass_fields__}
        first_episode = 0
        for part in parts:
            try:
                columns["frames"].append(np.load(part.parent / "frames.npy", allow_pickle=False))
                with np.load(part.parent / "steps.npz", allow_pickle=False) as steps:
                    for name in ("measurements", "actions", "follows"):
                        columns[name].append(steps[name])
                    columns["episode"].append(steps["episode"] + first_episode)
                    first_episode += int(steps["episode"].max()) + 1
                if (part.parent / "maps.npz").exists():
                    with np.load(part.parent / "maps.npz", allow_pickle=False) as maps:
                        for name in ("segmentation", "depth"):
                            columns[name].append(maps[name])
            except (OSError, ValueError, KeyError) as error:
                raise BadInput(
                    f"{part.parent}: damaged demonstrations ({error}); delete this folder and record again"
                ) from error
        # Maps that only some parts have are of no use.
        return cls(**{name: np.concatenate(arrays) for name, arrays in columns.items() if len(arrays) == len(parts)})


def demonstrate(config: DemonstrationConfig, folder: Path, progress: Progress | None = None) -> Demonstrations:
    """Record demonstrations into `folder`, or read them if they are there; parts that are missing are recorded.

    Raises `BadInput` when the folder holds demonstrations of another configuration.
    """
    if config.steps < 1 or config.workers < 1:
        raise BadInput(f"steps is {config.steps} and workers {config.workers}, expected 1 or more of each")
    for name in ("blocked_share", "stall_share"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise BadInput(f"{name} is {getattr(config, name)}, expected a share of the routes, 0 to 1")
    workers = 1 if config.carla is not None else min(config.workers, config.steps)  # each has a step to keep
    record = json.loads(json.dumps(asdict(config)))
    plan = folder / "demonstrations.json"
    if plan.exists() and json.loads(plan.read_text(encoding="utf-8")) != record:
        raise BadInput(f"{folder}: holds demonstrations of another configuration; choose another folder or delete it")
    write_text(plan, json.dumps(record, indent=2) + "\n")
    missing = [index for index in range(workers) if not (folder / f"part-{index}" / "part.json").exists()]
    tasks = [
        Work(f"demonstrations {index + 1}", _record_part, (config, index, workers, folder / f"part-{index}"))
        for index in missing
    ]
    run_tasks(tasks, workers=workers, progress=progress)
    return Demonstrations.load(folder)


def _record_part(report: Report, config: DemonstrationConfig, index: int, parts: int, folder: Path) -> int:
    """Record one worker's share; runs in a worker process."""
    town = config.towns[index % len(config.towns)]
    part = _Part(config, config.steps // parts, np.random.default_rng([config.seed, index]), reporter(report))
    with Session.open(carla=config.carla, map=town) as session:
        ego = Ego(session, config.rig, cameras=(COLOUR, SEMANTIC, DEPTH))
        world = index
        while len(part.steps) < part.wanted:
            part.drive_world(ego, config.weathers[world % len(config.weathers)])
            world += parts
        ego.close()
    part.write(folder, town)
    return len(part.steps)


class _Kept(NamedTuple):
    """One step that is kept."""

    frame: npt.NDArray[np.uint8]
    segmentation: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float16]
    measurements: npt.NDArray[np.float32]
    action: npt.NDArray[np.float32]
    episode: int
    follows: bool

    @classmethod
    def of(cls, moment: Moment, left_m: float, action: npt.NDArray[np.float32], episode: int, follows: bool) -> _Kept:
        """Keep what `moment` showed, `left_m` before the goal, and what the expert did."""
        assert moment.tags is not None, "the ego carries all three cameras"
        assert moment.depth_m is not None
        measurements = measurement_vector(moment.speed_mps, left_m, 0.0, moment.command)
        maps = thinned(true_labels(moment.tags)), thinned_depth(moment.depth_m)
        return cls(moment.frame, *maps, measurements, action, episode, follows)


class _Part:
    """One worker's share of the demonstrations, while it grows."""

    def __init__(self, config: DemonstrationConfig, wanted: int, rng: np.random.Generator, progress: Progress) -> None:
        self.config, self.wanted, self.rng, self.progress = config, wanted, rng, progress
        self.steps: list[_Kept] = []
        self.routes = self.episodes = self.collisions = 0

    def drive_world(self, ego: Ego, weather: str) -> None:
        """Drive some routes in one weather and traffic."""
        config = self.config
        seed = int(self.rng.integers(2**31))
        assignment = Assignment(self._route(ego), weather, config.vehicles, config.walkers, seed)
        self._drive(ego, assignment.route, ego.begin(assignment))
        for _ in range(config.routes_per_world - 1):
            if len(self.steps) >= self.wanted:
                break
            route = self._route(ego)
            aside_m, turned_deg = self.rng.uniform(-1.0, 1.0, 2) * (config.start_aside_m, config.start_turned_deg)
            moment = ego.go_on(route, float(aside_m), float(turned_deg))
            if moment is not None:
                self._drive(ego, route, moment)

    def _route(self, ego: Ego) -> Route:
        """Draw a route on which the command whose turn it is occurs."""
        shortest, longest = self.config.lengths_m
        wanted = self.config.commands[self.routes % len(self.config.commands)]
        self.routes += 1
        task: Task = "one-turn" if wanted in TURNS else "straight"
        for _ in range(ROUTE_DRAWS):
            seed = int(self.rng.integers(2**31))
            route = make_routes(ego.lanes, seed, 1, task, min_length_m=shortest, max_length_m=longest)[0]
            if not wanted or wanted in route.commands:
                break
        return route

    def _drive(self, ego: Ego, route: Route, moment: Moment) -> None:
        """Drive one route, on some of them up to a standing car, and keep the steps."""
        blocked = self.config.blocked_share > 0 and self.rng.random() < self.config.blocked_share
        obstruction = Obstruction.place(ego.world, route, self.rng) if blocked else None
        if obstruction is None:
            self._follow(ego, route, moment, None)
        else:
            self._follow(ego, route, ego.world.settle([ego])[0], obstruction)
            obstruction.remove()

    def _follow(self, ego: Ego, route: Route, moment: Moment, obstruction: Obstruction | None) -> None:
        """Follow `route` from `moment` on; the obstruction goes once the expert has stood behind it."""
        expert = Expert(route, ego.model, self.config.style)
        noise = SteeringNoise(self.rng, share=self.config.noise_share, amplitude=self.config.noise_amplitude)
        stall = Stall(self.rng, self.config.stall_share)
        self.episodes += 1
        standing, kept_last = 0, False
        for step in range(MAX_EPISODE_STEPS):
            if obstruction is not None and standing > STANDING_KEPT:
                obstruction.remove()
            action = expert.act(ego.situation(moment))
            standing = standing + 1 if moment.speed_mps < 0.2 and action[1] == 0.0 else 0
            dull = moment.command == RoadOption.LANEFOLLOW and abs(action[0]) < DULL_STEER and action[2] == 0.0
            dull = dull and moment.speed_mps > DULL_MPS
            kept = standing <= STANDING_KEPT and (not dull or step % DULL_PERIOD < DULL_KEPT)
            if kept:
                left_m = max(route.length_m - moment.along_m, 0.0)
                self.steps.append(_Kept.of(moment, left_m, action, self.episodes, kept_last))
            kept_last = kept
            if step % 20 == 0:
                self.progress(f"{len(self.steps)} of {self.wanted} steps", min(len(self.steps) / self.wanted, 1.0))
            steer = float(np.clip(action[0] + noise(), -1.0, 1.0))
            throttle, brake = (0.0, 1.0) if stall.at(step) else (float(action[1]), float(action[2]))
            moment = ego.advance(steer, throttle, brake)
            if moment.contacts:  # what led to a crash is not worth repeating
                self.collisions += 1
                while self.steps and self.steps[-1].episode == self.episodes:
                    self.steps.pop()
                return
            arrived = moment.along_m >= route.length_m - GOAL_M
            if arrived or abs(moment.lateral_m) > LOST_M or len(self.steps) >= self.wanted:
                return

    def write(self, folder: Path, town: str) -> None:
        """Write the part; `part.json` last, which makes it count."""
        frames, segmentation, depth, measurements, actions, episode, follows = zip(*self.steps, strict=True)
        with atomic_path(folder / "frames.npy") as temporary:
            np.save(temporary, np.stack(frames))
        with atomic_path(folder / "maps.npz") as temporary:
            np.savez(temporary, segmentation=np.stack(segmentation), depth=np.stack(depth))
        with atomic_path(folder / "steps.npz") as temporary:
            np.savez(
                temporary,
                measurements=np.stack(measurements),
                actions=np.stack(actions),
                episode=np.array(episode, np.int64),
                follows=np.array(follows, bool),
            )
        facts = {"steps": len(self.steps), "episodes": self.episodes, "collisions": self.collisions, "town": town}
        write_text(folder / "part.json", json.dumps(facts) + "\n")

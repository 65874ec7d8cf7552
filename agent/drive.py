"""Closed-loop evaluation: drive the routes of a suite with a policy on a segmenter's latents, one line of episodes.jsonl each.

Every segmenter drives the same routes, seeds, weathers and traffic. Each simulator client lives in a worker process; when one
dies, its suite goes on with the first route that has no line yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from roadworthy.agent.baselines import Actor, open_driver
from roadworthy.agent.ego import Assignment
from roadworthy.agent.env import DriveConfig, DriveEnv
from roadworthy.agent.episodes import Episode, append_episode, finished_ids, read_episodes
from roadworthy.agent.infractions import Infraction
from roadworthy.agent.lanegraph import LaneGraph
from roadworthy.agent.observation import observation_spaces
from roadworthy.agent.parallel import Task as Work
from roadworthy.agent.parallel import reporter, run_tasks
from roadworthy.agent.routes import Route, Task, make_routes
from roadworthy.agent.session import FIXED_DELTA_S
from roadworthy.agent.supervisor import Report
from roadworthy.agent.weather import TRAINING_WEATHERS
from roadworthy.agent.witness import Look, Witness, sights_folder
from roadworthy.runtime.errors import BadInput, RoadworthyError

Progress = Callable[[str, float], None]

CENTRE_OUTSIDE = 0.5  # fraction of the car's box outside its lane, above which its centre is outside
TRAJECTORY_STEPS = 10  # of 0.1 s between the points of an episode's trajectory
REPEATS = 3  # drives of one route that a dying simulator may spoil


@dataclass(frozen=True)
class Suite:
    """Routes to drive in one town, and the world they are driven in."""

    name: str
    town: str
    held_out: bool  # neither the segmenter nor the policy saw this town in training
    tasks: tuple[tuple[Task, int], ...] = (("straight", 2), ("one-turn", 2))  # task and number of routes
    max_length_m: float | None = None  # [m] longest route; None = the task's own
    weathers: tuple[str, ...] = TRAINING_WEATHERS  # taken in turn
    every_weather: bool = False  # drive each route under each weather instead
    vehicles: int = 15
    walkers: int = 15
    seed: int = 100
    carla: str | None = None  # HOST:PORT; None starts the embedded town

    @property
    def drives(self) -> int:
        """The number of episodes."""
        return sum(count for _, count in self.tasks) * (len(self.weathers) if self.every_weather else 1)


@dataclass(frozen=True)
class Driver:
    """Who drives: a segmenter's model file and the policy that was trained on its latents."""

    segmenter: str  # its name in tables
    model: Path  # ONNX with a latent output
    policy: Path  # folder, exported .onnx, or a baseline: baseline:random, baseline:forward, baseline:brake
    policy_seed: int = 0


def evaluate_policies(
    drivers: Sequence[Driver], suites: Sequence[Suite], output: Path, *, workers: int = 2, progress: Progress | None = None
) -> list[Episode]:
    """Drive every suite with every driver, append to `output` (episodes.jsonl) and return all its episodes.

    Routes that `output` holds already are not driven again.
    """
    done = finished_ids(read_episodes(output))
    pairs = [(driver, suite) for suite in suites for driver in drivers]
    tasks = [
        Work(f"{driver.segmenter} in {suite.town}", _drive_suite, (driver, suite, output))
        for driver, suite in pairs
        if sum(_is_of(name, driver, suite) for name in done) < suite.drives
    ]
    run_tasks(tasks, workers=workers, progress=progress)
    return read_episodes(output)


def evaluate_policy(driver: Driver, suite: Suite, output: Path, progress: Progress | None = None) -> list[Episode]:
    """Drive one suite with one driver; see `evaluate_policies`."""
    return evaluate_policies([driver], [suite], output, workers=1, progress=progress)


def suite_routes(suite: Suite, lanes: LaneGraph) -> list[tuple[Task, Route]]:
    """Return the suite's routes on its map: the same for everybody who asks."""
    routes: list[tuple[Task, Route]] = []
    for index, (task, count) in enumerate(suite.tasks):
        drawn = make_routes(lanes, suite.seed + index, count, task, max_length_m=suite.max_length_m)
        routes += [(task, route) for route in drawn]
    return routes


def suite_drives(suite: Suite, lanes: LaneGraph) -> list[tuple[Task, int, Route, str]]:
    """Return every drive of the suite: task, index of the route, route and weather."""
    routes = suite_routes(suite, lanes)
    if suite.every_weather:
        return [(task, i, route, weather) for i, (task, route) in enumerate(routes) for weather in suite.weathers]
    return [(task, i, route, suite.weathers[i % len(suite.weathers)]) for i, (task, route) in enumerate(routes)]


def _prefix(driver: Driver, suite: Suite) -> str:
    return f"{driver.segmenter}/{driver.policy_seed}/{suite.name}/{suite.town}/"


def _is_of(name: str, driver: Driver, suite: Suite) -> bool:
    return name.startswith(_prefix(driver, suite)) and name.endswith(f"/{suite.seed}")


def _drive_suite(report: Report, driver: Driver, suite: Suite, output: Path) -> None:
    """Drive what is left of a suite; runs in a worker process."""
    policy = open_driver(driver.policy, driver.policy_seed, threads=1)
    env = DriveEnv(driver.model, DriveConfig(town=suite.town, carla=suite.carla, mode="evaluate", threads=1, truth=True))
    progress = reporter(report)
    try:
        check_fit(policy, env, driver.policy)
        done = finished_ids(read_episodes(output))
        drives = suite_drives(suite, env.lanes)
        for index, (task, number, route, weather) in enumerate(drives):
            name = f"{_prefix(driver, suite)}{index}/{suite.seed}"
            if name in done:
                continue
            assignment = Assignment(route, weather, suite.vehicles, suite.walkers, suite.seed + index)
            place, share = f"drive {index + 1} of {len(drives)}", index / len(drives)
            folder = sights_folder(output, name)
            drive = _drive_route(policy, env, assignment, folder, partial(_tell, progress, place, share))
            append_episode(output, _episode(name, driver, suite, task, number, assignment, drive))
            report((f"{place} done", (index + 1) / len(drives), True))
    finally:
        env.close()


def _tell(progress: Progress, place: str, share: float, text: str) -> None:
    progress(f"{place}, {text}", share)


def check_fit(policy: Actor, env: DriveEnv, folder: Path) -> None:
    """Raise `BadInput` when the policy was trained on latents of another shape than the environment's segmenter gives."""
    given = observation_spaces(env.observation_space)
    for name, shape in policy.input_shapes.items():
        found = given[name].shape if name in given else None
        if found != shape:
            raise BadInput(
                f"{folder}: this policy takes {name} {list(shape)}, the model gives {list(found or ()) or 'none'}; "
                "train a policy on this model"
            )


@dataclass(frozen=True)
class _Drive:
    """What came of driving one route."""

    steps: int
    reward_sum: float
    speed_sum_mps: float
    info: dict[str, Any]  # of the last step
    infractions: tuple[Infraction, ...]
    outside_m: float
    trajectory: tuple[tuple[float, float], ...]


def _drive_route(policy: Actor, env: DriveEnv, assignment: Assignment, folder: Path, progress: Callable[[str], None]) -> _Drive:
    """Drive one route to its end and save frames of its infractions; a drive that a dying simulator spoils is repeated."""
    for _ in range(REPEATS):
        observation, info = env.reset(options={"assignment": assignment})
        witness = Witness(folder)
        steps, rewards, speeds, outside_m, distance_m = 0, 0.0, 0.0, 0.0, 0.0
        trajectory = [env.moment.location]
        over = False
        while not over:
            observation, reward, ended, truncated, info = env.step(policy.act(observation))
            over = ended or truncated
            steps, rewards, speeds = steps + 1, rewards + reward, speeds + info.get("speed_mps", 0.0)
            if info.get("ended") == "error":
                break
            moment, driven_m = env.moment, info["distance_m"] - distance_m
            distance_m += driven_m
            outside_m += driven_m if moment.off_line > CENTRE_OUTSIDE else 0.0
            look = Look(moment.frame, moment.tags, moment.command, round(moment.speed_mps, 2))
            witness.see(steps, look, info["infractions"])
            if steps % TRAJECTORY_STEPS == 0:
                trajectory.append(moment.location)
            if steps % 20 == 0:
                progress(f"{info.get('along_m', 0.0):.0f} of {assignment.route.length_m:.0f} m")
        if info["ended"] != "error":
            return _Drive(steps, rewards, speeds, info, tuple(env.infractions.events), outside_m, tuple(trajectory))
    raise RoadworthyError(f"the simulator died {REPEATS} times on one route: {info['error']}")


def _episode(name: str, driver: Driver, suite: Suite, task: Task, index: int, assignment: Assignment, drive: _Drive) -> Episode:
    info = drive.info
    return Episode(
        id=name,
        segmenter=driver.segmenter,
        policy_seed=driver.policy_seed,
        suite=suite.name,
        town=suite.town,
        held_out=suite.held_out,
        weather=assignment.weather,
        task=task,
        route=index,
        seed=assignment.seed,
        traffic={"vehicles": assignment.vehicles, "walkers": assignment.walkers},
        steps=drive.steps,
        duration_s=round(drive.steps * FIXED_DELTA_S, 3),
        distance_m=round(float(info["distance_m"]), 2),
        route_length_m=round(assignment.route.length_m, 2),
        route_completion=round(float(info["route_completion"]), 4),
        ended=info["ended"],
        infractions=drive.infractions,
        mean_speed_mps=round(drive.speed_sum_mps / max(drive.steps, 1), 3),
        reward_sum=round(drive.reward_sum, 3),
        versions=_versions(),
        rescues=int(info["rescues"]),
        outside_m=round(drive.outside_m, 2),
        trajectory=drive.trajectory,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("roadworthy", "carla", "onnxruntime", "torch", "stable-baselines3"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

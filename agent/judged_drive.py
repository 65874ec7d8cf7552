"""One judged drive: one driver along one route of a suite, from the world's first tick to its line in episodes.jsonl.

A drive depends on its suite and driver alone, not on what was driven before it: the world is loaded afresh for each, and the
driver opened afresh. So it can be driven on any worker, in any order, and once more to look at (`roadworthy.eval.replay`). A
real CARLA server is not reloaded (it leaks), and repeats itself less well.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from roadworthy.agent.baselines import PREFIX, Actor, open_driver
from roadworthy.agent.ego import Assignment
from roadworthy.agent.env import DriveConfig, RouteEnv
from roadworthy.agent.episodes import Episode
from roadworthy.agent.film import Film, Painter
from roadworthy.agent.infractions import Infraction
from roadworthy.agent.observation import observation_spaces
from roadworthy.agent.outlook import View, camera_for, observation_of, open_env
from roadworthy.agent.segdepth import TRUTH
from roadworthy.agent.session import FIXED_DELTA_S
from roadworthy.agent.suite import Suite, suite_drives
from roadworthy.agent.witness import Look, Witness
from roadworthy.runtime.errors import BadInput, RoadworthyError

CENTRE_OUTSIDE = 0.5  # fraction of the car's box outside its lane, above which its centre is outside
TRAJECTORY_STEPS = 10  # of 0.1 s between the points of an episode's trajectory
REPEATS = 3  # drives of one route that a dying simulator may spoil


@dataclass(frozen=True)
class Driver:
    """Who drives: a segmenter's model file and the policy that looks through it."""

    segmenter: str  # its name in tables
    model: Path  # ONNX with what the policy sees: a latent, or labels; "truth" for the simulator's labels
    policy: Path  # folder, exported .onnx, or a baseline: baseline:random, baseline:forward, baseline:brake
    policy_seed: int = 0

    def to_dict(self, beside: Path) -> dict[str, str]:
        """Return where the files are, seen from the folder `beside`, with their digests, as plain JSON."""
        policy = str(self.policy)
        where = policy if policy.startswith(PREFIX) else os.path.relpath(self.policy, beside)
        return {
            "model": TRUTH if str(self.model) == TRUTH else os.path.relpath(self.model, beside),
            "model_sha256": "" if str(self.model) == TRUTH else digest(self.model),
            "policy": where,
            "policy_sha256": "" if policy.startswith(PREFIX) else digest(self.policy),
        }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a policy folder's own weights."""
    file = path / "policy.safetensors" if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()


def episode_id(driver: Driver, suite: Suite, index: int) -> str:
    """Name the drive `index` of `suite`, uniquely in a file."""
    return f"{driver.segmenter}/{driver.policy_seed}/{suite.name}/{suite.town}/{index}/{suite.seed}"


def is_of(name: str, driver: Driver, suite: Suite) -> bool:
    """Tell whether an episode's id is of `driver` in `suite`."""
    start, end = episode_id(driver, suite, 0).rsplit("/0/", 1)
    return name.startswith(f"{start}/") and name.endswith(f"/{end}")


def again(driver: Driver, suite: Suite, index: int, beside: Path) -> dict[str, Any]:
    """Return what driving the drive `index` of `suite` again takes, as plain JSON; files are named from the folder `beside`."""
    return {"suite": suite.to_dict(), "drive": index, "server": suite.carla or "town", **driver.to_dict(beside)}


def check_same(episodes: Sequence[Episode], driver: Driver, suite: Suite, file: Path) -> None:
    """Raise `BadInput` when `file` has episodes of these names by another driver or in another world than is asked for now.

    Where the digests are the same the driver's files may have moved; an episode that does not say how it was driven is taken
    as it is.
    """
    known = [episode for episode in episodes if episode.again and is_of(episode.id, driver, suite)]
    if not known:
        return
    new = json.loads(json.dumps(again(driver, suite, 0, file.parent)))  # tuples become lists, as in the file
    for episode in known:
        changed = _differences(episode.again, new)
        if changed:
            raise BadInput(
                f"{file} holds the drive {episode.id} already, and not of this run: another {', '.join(changed)}. Choose "
                "another --output, or delete that file to drive anew"
            )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name what decides a drive and differs between two of `again`'s objects."""
    changed = [word for key, word in (("model_sha256", "model"), ("policy_sha256", "policy")) if old.get(key) != new[key]]
    if not new["policy_sha256"] and old.get("policy") != new["policy"]:  # baselines have names only
        changed.append("policy")
    if (old.get("server") == "town") != (new["server"] == "town"):
        changed.append("server")
    before = old.get("suite") or {}
    changed += [f"{key} ({before.get(key)}, now {value})" for key, value in new["suite"].items() if before.get(key) != value]
    return list(dict.fromkeys(changed))


def open_world(driver: Driver, suite: Suite) -> RouteEnv:
    """Start the suite's town with the segmenter in it; close it when done. Raises `BadInput` when they do not fit."""
    policy = open_driver(driver.policy, driver.policy_seed, threads=1)
    view = View(observation_of(policy.input_shapes, driver.model), driver.model)
    rig = camera_for(driver.model)
    env = open_env(view, DriveConfig(town=suite.town, carla=suite.carla, mode="evaluate", threads=1, truth=True, rig=rig))
    try:
        check_fit(policy, env, driver.policy)
        drives = suite_drives(suite, env.lanes)
        if suite.walkers and suite.carla is None:
            # CARLA's client reads the traffic lights for its walkers once per process and loses them with the next world, so
            # that only the first episode's walkers would wait at lights. An extra walked through first makes all alike.
            env.reset(seed=0, options={"assignment": Assignment(drives[0].route, drives[0].weather, walkers=1)})
    except BaseException:
        env.close()
        raise
    return env


def check_fit(policy: Actor, env: RouteEnv, folder: Path) -> None:
    """Raise `BadInput` when the policy was trained on something of another shape than the environment shows."""
    given = observation_spaces(env.observation_space)
    for name, shape in policy.input_shapes.items():
        found = given[name].shape if name in given else None
        if found != shape:
            raise BadInput(
                f"{folder}: this policy takes {name} {list(shape)}, the model gives {list(found or ()) or 'none'}; "
                "train a policy on this model"
            )


def drive_once(
    env: RouteEnv,
    driver: Driver,
    suite: Suite,
    index: int,
    *,
    beside: Path,
    sights: Path | None = None,
    film: Path | None = None,
    painter: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Episode:
    """Drive the drive `index` of `suite` in `env` (see `open_world`) and return its episode.

    Args:
        env: the suite's world.
        driver: who drives.
        suite: what is driven.
        index: of the drive in `suite_drives`.
        beside: the folder of the episodes file; the driver's files are named from there.
        sights: folder for the frames around infractions; None keeps none.
        film: video file to write; None films nothing.
        painter: a model with labels, whose prediction is filmed when the driver's own gives none.
        progress: is told how far the drive is.
    """
    task, number, route, weather = suite_drives(suite, env.lanes)[index]
    assignment = Assignment(route, weather, suite.vehicles, suite.walkers, suite.seed + index)
    name = episode_id(driver, suite, index)
    policy = open_driver(driver.policy, driver.policy_seed, threads=1)
    drive = _drive_route(policy, env, assignment, name, sights, film, painter, progress)
    return Episode(
        id=name,
        segmenter=driver.segmenter,
        policy_seed=driver.policy_seed,
        suite=suite.name,
        town=suite.town,
        held_out=suite.held_out,
        weather=weather,
        task=task,
        route=number,
        seed=assignment.seed,
        traffic={"vehicles": assignment.vehicles, "walkers": assignment.walkers},
        steps=drive.steps,
        duration_s=round(drive.steps * FIXED_DELTA_S, 3),
        distance_m=round(float(drive.info["distance_m"]), 2),
        route_length_m=round(route.length_m, 2),
        route_completion=round(float(drive.info["route_completion"]), 4),
        ended=drive.info["ended"],
        infractions=drive.infractions,
        mean_speed_mps=round(drive.speed_sum_mps / max(drive.steps, 1), 3),
        reward_sum=round(drive.reward_sum, 3),
        versions=versions(),
        rescues=int(drive.info["rescues"]),
        outside_m=round(drive.outside_m, 2),
        trajectory=drive.trajectory,
        again=again(driver, suite, index, beside),
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


def _drive_route(
    policy: Actor,
    env: RouteEnv,
    assignment: Assignment,
    name: str,
    sights: Path | None,
    film: Path | None,
    painter: Path | None,
    progress: Callable[[str], None],
) -> _Drive:
    """Drive one route to its end; a drive that a dying simulator spoils is repeated."""
    for _ in range(REPEATS):
        observation, info = env.reset(seed=assignment.seed, options={"assignment": assignment})
        witness = None if sights is None else Witness(sights)
        camera = None if film is None else Film(film, name, assignment, None if painter is None else Painter(painter))
        steps, rewards, speeds, outside_m, distance_m = 0, 0.0, 0.0, 0.0, 0.0
        trajectory = [env.moment.location]
        over = False
        try:
            while not over:
                observation, reward, ended, truncated, info = env.step(policy.act(observation))
                over = ended or truncated
                steps, rewards, speeds = steps + 1, rewards + reward, speeds + info.get("speed_mps", 0.0)
                if info.get("ended") == "error":
                    break
                moment, driven_m = env.moment, info["distance_m"] - distance_m
                distance_m += driven_m
                outside_m += driven_m if moment.off_line > CENTRE_OUTSIDE else 0.0
                if witness is not None:
                    look = Look(moment.frame, moment.tags, moment.command, round(moment.speed_mps, 2))
                    ongoing = env.infractions.outside or bool(moment.contacts)
                    witness.see(steps, look, info["infractions"], ongoing=ongoing)
                if camera is not None:
                    camera.see(env, info, reward)
                if steps % TRAJECTORY_STEPS == 0:
                    trajectory.append(moment.location)
                if steps % 20 == 0:
                    progress(f"{info.get('along_m', 0.0):.0f} of {assignment.route.length_m:.0f} m")
        finally:
            if camera is not None:
                camera.close(keep=info.get("ended") not in (None, "error"))
        if info["ended"] != "error":
            return _Drive(steps, rewards, speeds, info, tuple(env.infractions.events), outside_m, tuple(trajectory))
    raise RoadworthyError(f"the simulator died {REPEATS} times on one route: {info['error']}")


def versions() -> dict[str, str]:
    """Return the versions of everything that decides a drive."""
    found = {}
    for package in ("roadworthy", "carla", "onnxruntime", "torch", "stable-baselines3"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

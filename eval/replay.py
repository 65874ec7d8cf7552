"""Drive a recorded episode again: for a film of it, and to see whether it comes out the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from roadworthy.agent.baselines import PREFIX
from roadworthy.agent.episodes import Episode, read_episodes
from roadworthy.agent.judged_drive import Driver, digest, drive_once, open_world, versions
from roadworthy.agent.parallel import Task, reporter, run_tasks
from roadworthy.agent.segdepth import TRUTH
from roadworthy.agent.suite import Suite
from roadworthy.agent.supervisor import Report
from roadworthy.runtime.errors import BadInput

Progress = Callable[[str, float], None]

KEYS = ("suite", "drive", "server", "model", "model_sha256", "policy", "policy_sha256")


@dataclass(frozen=True)
class Replay:
    """A recorded episode and the same one driven again."""

    recorded: Episode
    driven: Episode
    circumstances: tuple[str, ...]  # what was not as it had been when it was recorded, in words
    differences: tuple[str, ...]  # in what the outcomes differ, in words; none = the same to the last centimetre

    @property
    def same(self) -> bool:
        """Whether the drive came out as recorded."""
        return not self.differences


def pick_episode(path: Path, which: str | None) -> Episode:
    """Return one episode of the file `path`: by its number from 1 on, or by its id; None takes the only one.

    Raises `BadInput` naming what there is.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such episodes file; write one with roadworthy drive eval")
    episodes = read_episodes(path)
    if not episodes:
        raise BadInput(f"{path}: holds no episodes; drive first")
    if which is None and len(episodes) == 1:
        return episodes[0]
    if which is not None and which.isdecimal() and 1 <= int(which) <= len(episodes):
        return episodes[int(which) - 1]
    chosen = [episode for episode in episodes if episode.id == which]
    if chosen:
        return chosen[-1]
    known = "; ".join(f"{number}: {episode.id}" for number, episode in enumerate(episodes[:8], start=1))
    more = f" and {len(episodes) - 8} more" if len(episodes) > 8 else ""
    raise BadInput(f"{path}: say which episode with --episode, by number or id, not {which!r}; it holds {known}{more}")


def replay(
    episode: Episode,
    source: Path,
    *,
    film: Path | None = None,
    model: Path | None = None,
    policy: Path | None = None,
    painter: Path | None = None,
    carla: str | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Drive `episode` of the file `source` again, in a process of its own, and compare.

    Args:
        episode: the recorded one.
        source: the file it is from; paths in it are seen from its folder.
        film: video file to write; None only compares.
        model: the model that the driver looks through; None = the recorded path.
        policy: the driver; None = the recorded path.
        painter: a model with labels, for the prediction in the film; None = `model`, or what lies beside an encoder.
        carla: HOST:PORT of a server; None = the embedded town.
        progress: told how far the drive is.

    Raises `BadInput` for an episode that does not say how it was driven, for files that are gone, and for other suites.
    """
    facts = episode.again if isinstance(episode.again, Mapping) else {}
    missing = [key for key in KEYS if key not in facts]
    if missing:
        raise BadInput(
            f"{source}: episode {episode.id} does not say how to drive it again (no {', '.join(missing)}); an older version "
            "wrote it: drive it once more with roadworthy drive eval"
        )
    suite = Suite.from_dict(facts["suite"], f"{source}: episode {episode.id}", carla=carla)
    index = facts["drive"]
    if not isinstance(index, int) or not 0 <= index < suite.drives:
        raise BadInput(f"{source}: episode {episode.id} is drive {index!r} of {suite.drives}; was this file edited?")
    driver = Driver(
        episode.segmenter,
        _found(model, facts["model"], source, "--segmenter"),
        _found(policy, facts["policy"], source, "--driver"),
        episode.policy_seed,
    )
    task = Task("replay", _drive_again, (driver, suite, index, source.parent, film, painter or _painter(driver.model)))
    (driven,) = run_tasks([task], workers=1, progress=progress)
    return Replay(episode, driven, circumstances(episode, driver, carla), differences(episode, driven))


def _drive_again(
    report: Report, driver: Driver, suite: Suite, index: int, beside: Path, film: Path | None, painter: Path | None
) -> Episode:
    """Drive one episode; runs in a worker process."""
    env = open_world(driver, suite)
    progress = reporter(report)
    try:
        return drive_once(
            env,
            driver,
            suite,
            index,
            beside=beside,
            film=film,
            painter=painter if film is not None else None,
            progress=lambda text: progress(text, 0.5),
        )
    finally:
        env.close()


def _found(given: Path | None, recorded: str, source: Path, option: str) -> Path:
    """Return the path `given`, else the one recorded beside `source`. Raises `BadInput` when nothing is there."""
    if given is not None or recorded == TRUTH or recorded.startswith(PREFIX):
        return given or Path(recorded)
    path = source.parent / recorded
    if not path.exists():
        raise BadInput(f"{path}: it is not there any more, and {source} was driven with it; name it with {option}")
    return path


def _painter(model: Path) -> Path | None:
    """Return the whole model beside an encoder, as studies keep them: NAME.onnx beside NAME.encoder.onnx."""
    whole = model.with_name(model.name.replace(".encoder.onnx", ".onnx"))
    return whole if whole != model and whole.is_file() else None


def circumstances(episode: Episode, driver: Driver, carla: str | None) -> tuple[str, ...]:
    """Say what is not as it was when `episode` was recorded: versions, files, the server."""
    found = [
        f"{package} is {versions().get(package, 'missing')}, it was {version}"
        for package, version in episode.versions.items()
        if versions().get(package) != version
    ]
    for name, path in (("model", driver.model), ("policy", driver.policy)):
        recorded = episode.again[f"{name}_sha256"]
        if (digest(path) if path.exists() else "") != recorded:
            found.append(f"{path} is not the {name} that drove then (another SHA-256)")
    server = carla or "town"
    if server != episode.again["server"]:
        found.append(f"the server is {server}, it was {episode.again['server']}")
    elif carla is not None:
        found.append(f"the CARLA server at {carla} is not loaded afresh for each drive, and need not repeat itself")
    return tuple(found)


def differences(recorded: Episode, driven: Episode) -> tuple[str, ...]:
    """Say in what the outcome of two drives of one episode differs; nothing when they are the same."""
    plain = ("ended", "steps", "distance_m", "route_length_m", "route_completion", "rescues", "outside_m", "reward_sum")
    found = [
        f"{name}: recorded {getattr(recorded, name)}, now {getattr(driven, name)}"
        for name in plain
        if getattr(recorded, name) != getattr(driven, name)
    ]
    if recorded.infractions != driven.infractions:
        found.append(f"infractions: recorded {_listed(recorded)}, now {_listed(driven)}")
    apart = [math.dist(a, b) for a, b in zip(recorded.trajectory, driven.trajectory, strict=False)]
    if any(apart):
        first = next(second for second, metres in enumerate(apart) if metres > 0)
        found.append(f"trajectory: apart from {first} s on, at most {max(apart):.2f} m")
    return tuple(found)


def _listed(episode: Episode) -> str:
    return ", ".join(f"{event.kind} at {event.time_s:.1f} s" for event in episode.infractions) or "none"

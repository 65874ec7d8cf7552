"""Closed-loop evaluation: drive the routes of a suite with a policy on a segmenter's latents, one line of episodes.jsonl each.

Every segmenter drives the same routes, seeds, weathers and traffic. Each simulator client lives in a worker process; when one
dies, its part of the suite goes on with the first route that has no line yet: it loses one episode, which is driven again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from roadworthy.agent.episodes import Episode, append_episode, finished_ids, read_episodes
from roadworthy.agent.judged_drive import Driver, check_fit, check_same, drive_once, episode_id, is_of, open_world
from roadworthy.agent.parallel import Task as Work
from roadworthy.agent.parallel import reporter, run_tasks
from roadworthy.agent.suite import Suite, suite_drives, suite_routes
from roadworthy.agent.supervisor import Report
from roadworthy.agent.witness import sights_folder

__all__ = ["Driver", "Suite", "check_fit", "evaluate_policies", "evaluate_policy", "suite_drives", "suite_routes"]

Progress = Callable[[str, float], None]


def evaluate_policies(
    drivers: Sequence[Driver],
    suites: Sequence[Suite],
    output: Path,
    *,
    workers: int = 2,
    film: Path | None = None,
    progress: Progress | None = None,
    run: Callable[..., list[Any]] = run_tasks,
) -> list[Episode]:
    """Drive every suite with every driver, append to `output` (episodes.jsonl) and return all its episodes.

    Routes that `output` holds already are not driven again; `BadInput` when another driver, or another world, drove them. An
    episode is the same whoever drives it, and after whatever.

    Args:
        drivers: who drives.
        suites: what is driven.
        output: the episodes file.
        workers: drives at a time; suites are divided among them where they are fewer.
        film: folder for a video of each drive; None films nothing.
        progress: told about every two seconds of driving.
        run: what runs the tasks, with the arguments of `roadworthy.agent.parallel.run_tasks`: processes of this machine, or
            `roadworthy.agent.cluster.Cluster.run_tasks`.
    """
    episodes = read_episodes(output)
    done = finished_ids(episodes)
    for suite in suites:
        for driver in drivers:
            check_same([episode for episode in episodes if episode.id in done], driver, suite, output)
    pairs = [
        (driver, suite)
        for suite in suites
        for driver in drivers
        if sum(is_of(name, driver, suite) for name in done) < suite.drives
    ]
    parts = math.ceil(workers / max(len(pairs), 1))
    tasks = [
        Work(f"{driver.segmenter} in {suite.town}", _drive_part, (driver, suite, output, film, part, min(parts, suite.drives)))
        for driver, suite in pairs
        for part in range(min(parts, suite.drives))
    ]
    run(tasks, workers=workers, progress=progress)
    return read_episodes(output)


def evaluate_policy(driver: Driver, suite: Suite, output: Path, progress: Progress | None = None) -> list[Episode]:
    """Drive one suite with one driver; see `evaluate_policies`."""
    return evaluate_policies([driver], [suite], output, workers=1, progress=progress)


def _drive_part(report: Report, driver: Driver, suite: Suite, output: Path, film: Path | None, part: int, parts: int) -> None:
    """Drive what is left of a suite's drives number part, part + parts, ...; runs in a worker process."""
    done = finished_ids(read_episodes(output))
    missing = [index for index in range(part, suite.drives, parts) if episode_id(driver, suite, index) not in done]
    if not missing:
        return
    env = open_world(driver, suite)
    progress = reporter(report)
    try:
        for count, index in enumerate(missing):
            name = episode_id(driver, suite, index)
            place, share = f"drive {index + 1} of {suite.drives}", count / len(missing)
            sights = sights_folder(output, name)
            episode = drive_once(
                env,
                driver,
                suite,
                index,
                beside=output.parent,
                sights=sights,
                film=None if film is None else film / f"{sights.name}.mp4",
                progress=partial(_tell, progress, place, share),
            )
            append_episode(output, episode)
            report((f"{place} done", (count + 1) / len(missing), True))
    finally:
        env.close()


def _tell(progress: Progress, place: str, share: float, text: str) -> None:
    progress(f"{place}, {text}", share)

"""The part of a study's plan that drives: demonstrations, drivers, and the drives that judge their segmenters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roadworthy.eval.costs import IMITATE_S, JUDGE_STEPS, LATENT_S, ROUTE_STEPS, START_S, STEP_S, TOWN_S
from roadworthy.eval.entrants import Entrant
from roadworthy.eval.folder import JUDGE, TRUTH, StudyFolder, artifact, file_stem, place
from roadworthy.eval.schedule import Job
from roadworthy.eval.study import DrivePlan, StudyConfig


def driven_precision(study: StudyConfig, drive: DrivePlan) -> str:
    """Return the precision of the segmenters that drive."""
    return drive.precision or study.precisions[0]


def has_judge(study: StudyConfig) -> bool:
    """Tell whether one driver looks through every segmenter, instead of each having its own."""
    return study.drive is not None and study.drive.observation != "latents"


def driving_jobs(study: StudyConfig, drive: DrivePlan, folder: StudyFolder, members: Sequence[Entrant]) -> list[Job]:
    """List the jobs that teach and judge the drivers of `members`, and draw the towns."""
    jobs = [_demonstrate(study, drive, folder)]
    jobs += [_sketch(study, drive, folder, town) for town in drive.test_towns]
    if has_judge(study):
        jobs += [_learn_judge(drive, folder, policy_seed) for policy_seed in drive.policy_seeds]
        jobs += [
            _drive_on_truth(study, drive, folder, policy_seed, town)
            for policy_seed in drive.policy_seeds
            for town in drive.test_towns
            if town in drive.train_towns
        ]
    for entrant in members:
        for policy_seed in drive.policy_seeds:
            if not has_judge(study):
                jobs.append(_learn(study, drive, folder, entrant, policy_seed))
            jobs += [
                _drive(study, drive, folder, entrant, policy_seed, town, weathers)
                for town in drive.test_towns
                for weathers in drive.weathers
            ]
    return jobs


def _demonstrate(study: StudyConfig, plan: DrivePlan, folder: StudyFolder) -> Job:
    config = {
        "towns": list(plan.train_towns), "steps": plan.demonstration_steps, "workers": 1, "vehicles": plan.vehicles,
        "walkers": plan.walkers, "seed": plan.seed + 1, "carla": study.carla, "height": study.height, "width": study.width,
    }  # fmt: skip
    return Job(
        "demonstrate", "demonstrate", "recording demonstrations", config, outputs=folder.relative(folder.demonstrations),
        seconds=START_S + TOWN_S + STEP_S * plan.demonstration_steps,
    )  # fmt: skip


def _learn(study: StudyConfig, plan: DrivePlan, folder: StudyFolder, entrant: Entrant, policy_seed: int) -> Job:
    imitation_s = IMITATE_S * plan.imitation_steps + LATENT_S * plan.demonstration_steps
    driving_s = TOWN_S + STEP_S * (plan.reinforcement_steps + JUDGE_STEPS) if plan.reinforcement_steps else 0.0
    config = {
        "name": entrant.name, "policy_seed": policy_seed, "imitation_steps": plan.imitation_steps,
        "reinforcement_steps": plan.reinforcement_steps, "town": plan.train_towns[0], "vehicles": plan.vehicles,
        "walkers": plan.walkers, "carla": study.carla, "imitation_share": round(imitation_s / (imitation_s + driving_s), 3),
        "height": study.height, "width": study.width,
    }  # fmt: skip
    looks = artifact(entrant.name, driven_precision(study, plan))
    return Job(
        f"learn-{entrant.name}-p{policy_seed}", "learn", f"teaching the driver of {entrant.label}", config,
        (f"export-{looks}", "demonstrate"), folder.relative(folder.driver(entrant.name, policy_seed)),
        seconds=START_S + imitation_s + driving_s,
    )  # fmt: skip


def _learn_judge(plan: DrivePlan, folder: StudyFolder, policy_seed: int) -> Job:
    config = {"policy_seed": policy_seed, "imitation_steps": plan.imitation_steps}
    return Job(
        f"learn-{JUDGE}-p{policy_seed}", "learn_judge", "teaching the judge", config, ("demonstrate",),
        folder.relative(folder.driver(JUDGE, policy_seed)), seconds=START_S + IMITATE_S * plan.imitation_steps,
    )  # fmt: skip


def _suite(study: StudyConfig, plan: DrivePlan, town: str, weathers: str) -> dict[str, Any]:
    # Another suite, because its drives are others; the routes, traffic and seeds are the same.
    name = study.name if weathers == "training" else f"{study.name}-{weathers}"
    return {
        "suite": name, "town": town, "held_out": town not in plan.train_towns, "straight": plan.straight_routes,
        "one_turn": plan.one_turn_routes, "navigation": plan.navigation_routes, "max_route_m": plan.max_route_m,
        "weathers": weathers, "vehicles": plan.vehicles, "walkers": plan.walkers, "seed": plan.seed, "carla": study.carla,
    }  # fmt: skip


def _drive(
    study: StudyConfig, plan: DrivePlan, folder: StudyFolder, entrant: Entrant, policy_seed: int, town: str, weathers: str
) -> Job:
    model = artifact(entrant.name, driven_precision(study, plan))
    judged = has_judge(study)
    driver = JUDGE if judged else entrant.name
    config = {
        "name": entrant.name, "model": model, "driver": driver, "policy_seed": policy_seed,
        **_suite(study, plan, town, weathers),
    }  # fmt: skip
    return Job(
        f"drive-{entrant.name}-p{policy_seed}-{place(town, weathers)}", "drive", f"driving {entrant.label} in {town}", config,
        (f"learn-{driver}-p{policy_seed}", *((f"export-{model}",) if judged else ())),
        folder.relative(folder.episodes(entrant.name, policy_seed, town, weathers)), seconds=_drive_s(plan),
    )  # fmt: skip


def _drive_on_truth(study: StudyConfig, plan: DrivePlan, folder: StudyFolder, policy_seed: int, town: str) -> Job:
    """Let the judge drive a training town on the simulator's labels: what it can do there decides whether it may judge."""
    config = {
        "name": TRUTH, "model": None, "driver": JUDGE, "policy_seed": policy_seed, **_suite(study, plan, town, "training"),
    }  # fmt: skip
    return Job(
        f"drive-{TRUTH}-p{policy_seed}-{file_stem(town)}", "drive", f"driving on true labels in {town}", config,
        (f"learn-{JUDGE}-p{policy_seed}",), folder.relative(folder.episodes(TRUTH, policy_seed, town)), seconds=_drive_s(plan),
    )  # fmt: skip


def _drive_s(plan: DrivePlan) -> float:
    """Return the seconds of one driver's drives in one town."""
    routes = plan.straight_routes + plan.one_turn_routes + plan.navigation_routes
    return START_S + TOWN_S + STEP_S * ROUTE_STEPS * routes


def _sketch(study: StudyConfig, plan: DrivePlan, folder: StudyFolder, town: str) -> Job:
    outputs = folder.relative(folder.sketch(town))
    config = _suite(study, plan, town, "training")
    return Job(f"sketch-{file_stem(town)}", "sketch", f"drawing {town}", config, outputs=outputs, seconds=START_S)

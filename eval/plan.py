"""From a study to its jobs: what runs, on what it builds, on how many cores, and about how long it takes."""

from __future__ import annotations

from typing import Any

from roadworthy.eval.folder import StudyFolder, file_stem
from roadworthy.eval.results import Entrant, entrants
from roadworthy.eval.schedule import Job
from roadworthy.eval.stages import EXAMPLES
from roadworthy.eval.study import RecordingPlan, StudyConfig

# [s] what one unit of work takes on one core of a 2-core x86-64 machine; only progress and order depend on these.
START_S = 4.0  # a worker with its libraries
TOWN_S = 4.0  # a simulator with its map
FRAME_S = 0.1  # a recorded frame, the ticks before it and traffic counted
UPDATE_S = 0.035  # an update, per image
CRITIC_FACTOR = 1.9  # an adversarial objective against a plain one
EXPORT_S = 18.0  # a whole model and its encoder
EVALUATE_S = 0.02  # a test image
LATENCY_S = 0.01  # a call
STEP_S = 0.018  # a step of driving
JUDGE_STEPS = 1500  # of the routes before and after A2C, at most
IMITATE_S = 0.04  # an update of the policy
LATENT_S = 0.003  # a demonstrated frame through an encoder
ROUTE_STEPS = 400  # steps of a judged route


def make_jobs(study: StudyConfig, folder: StudyFolder) -> list[Job]:
    """List every job of the study; names are unique, and a job's configuration holds all that decides its result."""
    members = entrants(study)
    # All waits for the training data: two towns record it. The test data can be recorded whenever a core is free.
    jobs = [_record(study, folder, "train", study.train_data, 2), _record(study, folder, "test", study.test_data, 1)]
    jobs += [_pretrain(study, folder, seed) for seed in study.train.seeds if study.train.pretrain_steps]
    jobs += [_finetune(study, folder, entrant) for entrant in members]
    for entrant in members:
        jobs += [_export(folder, entrant), _evaluate(study, folder, entrant)]
    jobs += [_latency(study, folder, members), _demonstrate(study, folder)]
    jobs += [_sketch(study, folder, town) for town in study.drive.test_towns]
    for entrant in members:
        for policy_seed in study.drive.policy_seeds:
            jobs.append(_learn(study, folder, entrant, policy_seed))
            jobs += [_drive(study, folder, entrant, policy_seed, town) for town in study.drive.test_towns]
    return jobs


def _paths(folder: StudyFolder, *paths: Any) -> tuple[str, ...]:
    return tuple(str(path.relative_to(folder.root)) for path in paths)


def _size(study: StudyConfig) -> dict[str, int]:
    return {"height": study.height, "width": study.width}


def _record(study: StudyConfig, folder: StudyFolder, split: str, plan: RecordingPlan, workers: int) -> Job:
    config = {
        "split": split, "towns": list(plan.towns), "episodes": plan.episodes, "frames": plan.frames, "weathers": plan.weathers,
        "vehicles": plan.vehicles, "walkers": plan.walkers, "seed": plan.seed, "carla": study.carla, "workers": workers,
        **_size(study),
    }  # fmt: skip
    return Job(
        f"record-{split}", "record", f"recording {split} data", config, outputs=_paths(folder, folder.recording(split)),
        cores=workers, seconds=START_S + TOWN_S + FRAME_S * plan.episodes * plan.frames / workers,
    )  # fmt: skip


def _pretrain(study: StudyConfig, folder: StudyFolder, seed: int) -> Job:
    plan = study.train
    name = f"pretrain-s{seed}"
    config = {
        "name": name, "model": plan.model, "objective": plan.pretrain_objective, "init": None,
        "steps": plan.pretrain_steps, "batch_size": plan.batch_size, "learning_rate": plan.learning_rate,
        "seed": seed, "threads": plan.pretrain_threads,
        **_size(study),
    }  # fmt: skip
    seconds = START_S + UPDATE_S * plan.pretrain_steps * plan.batch_size / min(plan.pretrain_threads, 2) ** 0.8
    return Job(
        f"train-{name}", "train", "pre-training", config, ("record-train",), _paths(folder, folder.run(name)),
        cores=plan.pretrain_threads, seconds=seconds,
    )  # fmt: skip


def _finetune(study: StudyConfig, folder: StudyFolder, entrant: Entrant) -> Job:
    plan = study.train
    init = f"pretrain-s{entrant.seed}" if plan.pretrain_steps else None
    config = {
        "name": entrant.name, "model": plan.model, "objective": entrant.objective, "init": init, "steps": plan.finetune_steps,
        "batch_size": plan.batch_size, "learning_rate": plan.finetune_learning_rate if init else plan.learning_rate,
        "seed": entrant.seed, "threads": plan.finetune_threads, **_size(study),
    }  # fmt: skip
    factor = CRITIC_FACTOR if "gambling" in entrant.objective else 1.0
    seconds = START_S + UPDATE_S * plan.finetune_steps * plan.batch_size * factor / plan.finetune_threads**0.8
    return Job(
        f"train-{entrant.name}", "train", f"training {entrant.label}", config, (f"train-{init}" if init else "record-train",),
        _paths(folder, folder.run(entrant.name)), cores=plan.finetune_threads, seconds=seconds,
    )  # fmt: skip


def _export(folder: StudyFolder, entrant: Entrant) -> Job:
    outputs = _paths(folder, folder.model(entrant.name), folder.encoder(entrant.name))
    return Job(
        f"export-{entrant.name}", "export", f"exporting {entrant.label}", {"name": entrant.name}, (f"train-{entrant.name}",),
        outputs, seconds=EXPORT_S,
    )  # fmt: skip


def _evaluate(study: StudyConfig, folder: StudyFolder, entrant: Entrant) -> Job:
    config = {"name": entrant.name, "examples": EXAMPLES, "seed": study.seed}
    images = study.test_data.episodes * study.test_data.frames
    return Job(
        f"evaluate-{entrant.name}", "evaluate", f"evaluating {entrant.label}", config,
        (f"export-{entrant.name}", "record-test"), _paths(folder, folder.evaluation(entrant.name)),
        seconds=START_S + EVALUATE_S * images,
    )  # fmt: skip


def _latency(study: StudyConfig, folder: StudyFolder, members: list[Entrant]) -> Job:
    plan = study.latency
    names = [entrant.name for entrant in members]
    config = {"names": names, "rounds": plan.rounds, "warmup": plan.warmup, "threads": plan.threads, "seed": study.seed}
    return Job(
        "latency", "latency", "measuring latency", config, tuple(f"export-{name}" for name in names),
        _paths(folder, folder.latency), cores=1 << 16,  # alone on the machine
        seconds=START_S + LATENCY_S * len(names) * (plan.rounds + plan.warmup),
    )  # fmt: skip


def _demonstrate(study: StudyConfig, folder: StudyFolder) -> Job:
    plan = study.drive
    config = {
        "towns": list(plan.train_towns), "steps": plan.demonstration_steps, "workers": 1, "vehicles": plan.vehicles,
        "walkers": plan.walkers, "seed": plan.seed + 1, "carla": study.carla, **_size(study),
    }  # fmt: skip
    return Job(
        "demonstrate", "demonstrate", "recording demonstrations", config, outputs=_paths(folder, folder.demonstrations),
        seconds=START_S + TOWN_S + STEP_S * plan.demonstration_steps,
    )  # fmt: skip


def _learn(study: StudyConfig, folder: StudyFolder, entrant: Entrant, policy_seed: int) -> Job:
    plan = study.drive
    imitation_s = IMITATE_S * plan.imitation_steps + LATENT_S * plan.demonstration_steps
    driving_s = TOWN_S + STEP_S * (plan.reinforcement_steps + JUDGE_STEPS) if plan.reinforcement_steps else 0.0
    config = {
        "name": entrant.name, "policy_seed": policy_seed, "imitation_steps": plan.imitation_steps,
        "reinforcement_steps": plan.reinforcement_steps, "town": plan.train_towns[0], "vehicles": plan.vehicles,
        "walkers": plan.walkers, "carla": study.carla, "imitation_share": round(imitation_s / (imitation_s + driving_s), 3),
        **_size(study),
    }  # fmt: skip
    return Job(
        f"learn-{entrant.name}-p{policy_seed}", "learn", f"teaching the driver of {entrant.label}", config,
        (f"export-{entrant.name}", "demonstrate"), _paths(folder, folder.driver(entrant.name, policy_seed)),
        seconds=START_S + imitation_s + driving_s,
    )  # fmt: skip


def _suite(study: StudyConfig, town: str) -> dict[str, Any]:
    plan = study.drive
    return {
        "suite": study.name, "town": town, "held_out": town not in plan.train_towns, "straight": plan.straight_routes,
        "one_turn": plan.one_turn_routes, "navigation": plan.navigation_routes, "max_route_m": plan.max_route_m,
        "weathers": plan.weathers, "vehicles": plan.vehicles, "walkers": plan.walkers, "seed": plan.seed, "carla": study.carla,
    }  # fmt: skip


def _drive(study: StudyConfig, folder: StudyFolder, entrant: Entrant, policy_seed: int, town: str) -> Job:
    plan = study.drive
    routes = plan.straight_routes + plan.one_turn_routes + plan.navigation_routes
    return Job(
        f"drive-{entrant.name}-p{policy_seed}-{file_stem(town)}", "drive", f"driving {entrant.label} in {town}",
        {"name": entrant.name, "policy_seed": policy_seed, **_suite(study, town)}, (f"learn-{entrant.name}-p{policy_seed}",),
        _paths(folder, folder.episodes(entrant.name, policy_seed, town)),
        seconds=START_S + TOWN_S + STEP_S * ROUTE_STEPS * routes,
    )  # fmt: skip


def _sketch(study: StudyConfig, folder: StudyFolder, town: str) -> Job:
    outputs = _paths(folder, folder.sketch(town))
    return Job(f"sketch-{file_stem(town)}", "sketch", f"drawing {town}", _suite(study, town), outputs=outputs, seconds=START_S)

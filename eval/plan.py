"""From a study to its jobs: what runs, on what it builds, on how many cores, and about how long it takes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from roadworthy.eval.entrants import Entrant, entrants, has_critic, has_gambler, rows
from roadworthy.eval.folder import JUDGE, TRUTH, StudyFolder, artifact, file_stem, place
from roadworthy.eval.schedule import Job
from roadworthy.eval.stages import EXAMPLES
from roadworthy.eval.study import DrivePlan, ExistingData, LatencyPlan, RecordingPlan, StudyConfig, TrainPlan

# [s] what one unit of work takes on one core of a 2-core x86-64 machine; only progress and order depend on these.
START_S = 4.0  # a worker with its libraries
TOWN_S = 4.0  # a simulator with its map
FRAME_S = 0.1  # a recorded frame, the ticks before it and traffic counted
UPDATE_S = 0.035  # an update, per image of IMAGE_PIXELS
IMAGE_PIXELS = 128 * 256  # that the figures of an update and of a test image are for
CRITIC_FACTOR = 1.9  # an adversarial objective against a plain one
EXPORT_S = 18.0  # a whole model and its encoder
CONVERT_S = 12.0  # the same in another precision
TAKE_S = 3.0  # a ready model and its encoder
EVALUATE_S = 0.02  # a test image
LATENCY_S = 0.01  # a call
STEP_S = 0.018  # a step of driving
JUDGE_STEPS = 1500  # of the routes before and after A2C, at most
IMITATE_S = 0.04  # an update of the policy
LATENT_S = 0.003  # a demonstrated frame through an encoder
ROUTE_STEPS = 400  # steps of a judged route
EXISTING_IMAGES = 200  # of a data set that nobody has looked into yet


def make_jobs(study: StudyConfig, folder: StudyFolder) -> list[Job]:
    """List every job of the study; names are unique, and a job's configuration holds all that decides its result."""
    members = entrants(study)
    jobs = []
    # All waits for the training data: two towns record it. The test data can be recorded whenever a core is free.
    if isinstance(study.train_data, RecordingPlan) and _reads_training_data(study):
        jobs.append(_record(study, folder, "train", study.train_data, 2))
    if isinstance(study.test_data, RecordingPlan):
        jobs.append(_record(study, folder, "test", study.test_data, 1))
    if (train := study.train) is not None:
        for model in train.models:
            jobs += [_pretrain(study, train, folder, model, seed) for seed in train.seeds if train.pretrain_steps]
            jobs += [_floor(train, model, seed) for seed in train.seeds if train.floor_miou]
        jobs += [_finetune(study, train, folder, entrant) for entrant in members if entrant.path is None]
    for entrant in members:
        jobs += [_make(study, folder, entrant, precision) for precision in _made(study)]
        jobs += [_evaluate(study, folder, entrant, precision) for precision in study.precisions]
    jobs.append(_examples(study, folder))
    jobs += [_bets(folder, each[0]) for each in rows(members).values() if has_gambler(each[0].objective)]
    if study.latency is not None:
        jobs.append(_latency(study, study.latency, folder, members))
    if (drive := study.drive) is not None:
        jobs.append(_demonstrate(study, drive, folder))
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


def driven_precision(study: StudyConfig, drive: DrivePlan) -> str:
    """Return the precision of the segmenters that drive."""
    return drive.precision or study.precisions[0]


def has_judge(study: StudyConfig) -> bool:
    """Tell whether one driver looks through every segmenter, instead of each having its own."""
    return study.drive is not None and study.drive.observation != "latents"


def _made(study: StudyConfig) -> tuple[str, ...]:
    """List the precisions to make: everything is made of the fp32 file."""
    return ("fp32", *(precision for precision in study.precisions if precision != "fp32"))


def _reads_training_data(study: StudyConfig) -> bool:
    """Tell whether anything is trained, or rounded and checked on frames."""
    return study.train is not None or study.precisions != ("fp32",)


def _paths(folder: StudyFolder, *paths: Any) -> tuple[str, ...]:
    return tuple(str(path.relative_to(folder.root)) for path in paths)


def _size(study: StudyConfig) -> dict[str, int]:
    return {"height": study.height, "width": study.width}


def _data(plan: RecordingPlan | ExistingData) -> dict[str, str | None]:
    """Name data in a job's configuration: nothing for what the study itself records."""
    return {"data": plan.data, "split": plan.split} if isinstance(plan, ExistingData) else {"data": None, "split": None}


def _needs_data(plan: RecordingPlan | ExistingData, split: str) -> tuple[str, ...]:
    return (f"record-{split}",) if isinstance(plan, RecordingPlan) else ()


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


def _training(study: StudyConfig, plan: TrainPlan, model: str, seed: int) -> dict[str, Any]:
    """Return what the pre-training and the fine-tunings of one model and seed have in common."""
    crop = None if plan.crop is None else list(plan.crop)
    return {
        "model": model, "batch_size": plan.batch_size, "seed": seed, "crop": crop, "zoom": list(plan.zoom),
        "weight_decay": plan.weight_decay, "device": study.device, "data": _data(study.train_data)["data"], **_size(study),
    }  # fmt: skip


def _training_s(study: StudyConfig, plan: TrainPlan, steps: int, threads: int) -> float:
    """Return the seconds of so many updates."""
    height, width = plan.crop or (study.height, study.width)
    return UPDATE_S * steps * plan.batch_size * height * width / IMAGE_PIXELS / float(min(threads, 2)) ** 0.8


def pretraining(plan: TrainPlan, model: str, seed: int) -> str:
    """Name the shared pre-training of one model and seed."""
    return f"pretrain-s{seed}" if len(plan.models) == 1 else f"pretrain-{file_stem(model)}-s{seed}"


def _pretrain(study: StudyConfig, plan: TrainPlan, folder: StudyFolder, model: str, seed: int) -> Job:
    name = pretraining(plan, model, seed)
    config = {
        "name": name, "objective": plan.pretrain_objective, "init": None, "steps": plan.pretrain_steps,
        "learning_rate": plan.learning_rate, "threads": plan.pretrain_threads, **_training(study, plan, model, seed),
    }  # fmt: skip
    return Job(
        f"train-{name}", "train", "pre-training", config, _needs_data(study.train_data, "train"),
        _paths(folder, folder.run(name)), cores=plan.pretrain_threads,
        seconds=START_S + _training_s(study, plan, plan.pretrain_steps, plan.pretrain_threads),
    )  # fmt: skip


def _floor(plan: TrainPlan, model: str, seed: int) -> Job:
    name = pretraining(plan, model, seed)
    return Job(
        f"floor-{name}", "floor", "checking the pre-training", {"name": name, "floor_miou": plan.floor_miou},
        (f"train-{name}",), seconds=1.0,
    )  # fmt: skip


def _finetune(study: StudyConfig, plan: TrainPlan, folder: StudyFolder, entrant: Entrant) -> Job:
    assert entrant.seed is not None, "what is trained has a seed"
    init = pretraining(plan, entrant.model, entrant.seed) if plan.pretrain_steps else None
    config = {
        "name": entrant.name, "objective": entrant.objective, "init": init, "steps": plan.finetune_steps,
        "learning_rate": plan.finetune_learning_rate if init else plan.learning_rate, "threads": plan.finetune_threads,
        **_training(study, plan, entrant.model, entrant.seed),
    }  # fmt: skip
    factor = CRITIC_FACTOR if has_critic(entrant.objective) else 1.0
    before = f"{'floor' if plan.floor_miou else 'train'}-{init}"
    return Job(
        f"train-{entrant.name}", "train", f"training {entrant.label}", config,
        (before,) if init else _needs_data(study.train_data, "train"), _paths(folder, folder.run(entrant.name)),
        cores=plan.finetune_threads,
        seconds=START_S + factor * _training_s(study, plan, plan.finetune_steps, plan.finetune_threads),
    )  # fmt: skip


def _make(study: StudyConfig, folder: StudyFolder, entrant: Entrant, precision: str) -> Job:
    """Make the model file of one segmenter in one precision, and the encoder that its driver looks through."""
    drives = study.drive is not None and not has_judge(study) and precision == driven_precision(study, study.drive)
    named = artifact(entrant.name, precision)
    outputs = [folder.model(named), *([folder.encoder(entrant.name)] if drives else [])]
    config: dict[str, Any] = {"name": entrant.name, "encoder": drives}
    needs: tuple[str, ...]
    if precision != "fp32":
        config |= {
            "precision": precision, "trained": entrant.path is None, "data": _data(study.train_data)["data"],
        }  # fmt: skip
        stage, needs, seconds = "convert", (f"export-{entrant.name}", *_needs_data(study.train_data, "train")), CONVERT_S
    elif entrant.path is None:
        stage, needs, seconds = "export", (f"train-{entrant.name}",), EXPORT_S
    else:
        config |= {"path": entrant.path, "digest": _digest(Path(entrant.path).expanduser())}
        stage, needs, seconds = "take", (), TAKE_S
    text = f"exporting {entrant.label}" + ("" if precision == "fp32" else f" in {precision}")
    return Job(f"export-{named}", stage, text, config, needs, _paths(folder, *outputs), seconds=seconds)


def _digest(path: Path) -> str | None:
    """Return the sha256 of a file, so that another file under the same name is taken anew; None when it is gone."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _test_images(study: StudyConfig) -> int:
    plan = study.test_data
    return plan.episodes * plan.frames if isinstance(plan, RecordingPlan) else EXISTING_IMAGES


def _evaluate(study: StudyConfig, folder: StudyFolder, entrant: Entrant, precision: str) -> Job:
    named = artifact(entrant.name, precision)
    examples = EXAMPLES if precision == study.precisions[0] else 0
    config = {
        "name": named, "examples": examples, "seed": study.seed, "device": study.device, **_data(study.test_data),
    }  # fmt: skip
    return Job(
        f"evaluate-{named}", "evaluate", f"evaluating {entrant.label}" + ("" if precision == "fp32" else f" in {precision}"),
        config, (f"export-{named}", *_needs_data(study.test_data, "test")), _paths(folder, folder.evaluation(named)),
        seconds=START_S + EVALUATE_S * _test_images(study) * study.height * study.width / IMAGE_PIXELS,
    )  # fmt: skip


def _examples(study: StudyConfig, folder: StudyFolder) -> Job:
    config = {"count": EXAMPLES, **_data(study.test_data)}
    return Job(
        "examples", "examples", "keeping example images", config, _needs_data(study.test_data, "test"),
        _paths(folder, folder.examples), seconds=2.0,
    )  # fmt: skip


def _bets(folder: StudyFolder, entrant: Entrant) -> Job:
    return Job(
        f"bets-{entrant.name}", "bets", f"betting maps of {entrant.label}", {"name": entrant.name},
        (f"train-{entrant.name}", "examples"), _paths(folder, folder.bets(entrant.name)), seconds=START_S,
    )  # fmt: skip


def _latency(study: StudyConfig, plan: LatencyPlan, folder: StudyFolder, members: list[Entrant]) -> Job:
    names = [artifact(entrant.name, precision) for entrant in members for precision in study.precisions]
    config = {
        "names": names, "backends": list(plan.backends), "batches": list(plan.batches), "rounds": plan.rounds,
        "warmup": plan.warmup, "threads": plan.threads, "seed": study.seed, "device": study.device,
    }  # fmt: skip
    graphs = len(study.precisions) * (len(study.models) + (len(study.train.models) if study.train else 0))
    calls = graphs * len(plan.backends) * sum(plan.batches) * (plan.rounds + plan.warmup)
    return Job(
        "latency", "latency", "measuring latency", config, tuple(f"export-{name}" for name in names),
        _paths(folder, folder.latency), cores=1 << 16,  # alone on the machine
        seconds=START_S + LATENCY_S * calls * study.height * study.width / IMAGE_PIXELS,
    )  # fmt: skip


def _demonstrate(study: StudyConfig, plan: DrivePlan, folder: StudyFolder) -> Job:
    config = {
        "towns": list(plan.train_towns), "steps": plan.demonstration_steps, "workers": 1, "vehicles": plan.vehicles,
        "walkers": plan.walkers, "seed": plan.seed + 1, "carla": study.carla, **_size(study),
    }  # fmt: skip
    return Job(
        "demonstrate", "demonstrate", "recording demonstrations", config, outputs=_paths(folder, folder.demonstrations),
        seconds=START_S + TOWN_S + STEP_S * plan.demonstration_steps,
    )  # fmt: skip


def _learn(study: StudyConfig, plan: DrivePlan, folder: StudyFolder, entrant: Entrant, policy_seed: int) -> Job:
    imitation_s = IMITATE_S * plan.imitation_steps + LATENT_S * plan.demonstration_steps
    driving_s = TOWN_S + STEP_S * (plan.reinforcement_steps + JUDGE_STEPS) if plan.reinforcement_steps else 0.0
    config = {
        "name": entrant.name, "policy_seed": policy_seed, "imitation_steps": plan.imitation_steps,
        "reinforcement_steps": plan.reinforcement_steps, "town": plan.train_towns[0], "vehicles": plan.vehicles,
        "walkers": plan.walkers, "carla": study.carla, "imitation_share": round(imitation_s / (imitation_s + driving_s), 3),
        **_size(study),
    }  # fmt: skip
    looks = artifact(entrant.name, driven_precision(study, plan))
    return Job(
        f"learn-{entrant.name}-p{policy_seed}", "learn", f"teaching the driver of {entrant.label}", config,
        (f"export-{looks}", "demonstrate"), _paths(folder, folder.driver(entrant.name, policy_seed)),
        seconds=START_S + imitation_s + driving_s,
    )  # fmt: skip


def _learn_judge(plan: DrivePlan, folder: StudyFolder, policy_seed: int) -> Job:
    config = {"policy_seed": policy_seed, "imitation_steps": plan.imitation_steps}
    return Job(
        f"learn-{JUDGE}-p{policy_seed}", "learn_judge", "teaching the judge", config, ("demonstrate",),
        _paths(folder, folder.driver(JUDGE, policy_seed)), seconds=START_S + IMITATE_S * plan.imitation_steps,
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
        _paths(folder, folder.episodes(entrant.name, policy_seed, town, weathers)), seconds=_drive_s(plan),
    )  # fmt: skip


def _drive_on_truth(study: StudyConfig, plan: DrivePlan, folder: StudyFolder, policy_seed: int, town: str) -> Job:
    """Let the judge drive a training town on the simulator's labels: what it can do there decides whether it may judge."""
    config = {
        "name": TRUTH, "model": None, "driver": JUDGE, "policy_seed": policy_seed, **_suite(study, plan, town, "training"),
    }  # fmt: skip
    return Job(
        f"drive-{TRUTH}-p{policy_seed}-{file_stem(town)}", "drive", f"driving on true labels in {town}", config,
        (f"learn-{JUDGE}-p{policy_seed}",), _paths(folder, folder.episodes(TRUTH, policy_seed, town)), seconds=_drive_s(plan),
    )  # fmt: skip


def _drive_s(plan: DrivePlan) -> float:
    """Return the seconds of one driver's drives in one town."""
    routes = plan.straight_routes + plan.one_turn_routes + plan.navigation_routes
    return START_S + TOWN_S + STEP_S * ROUTE_STEPS * routes


def _sketch(study: StudyConfig, plan: DrivePlan, folder: StudyFolder, town: str) -> Job:
    outputs = _paths(folder, folder.sketch(town))
    config = _suite(study, plan, town, "training")
    return Job(f"sketch-{file_stem(town)}", "sketch", f"drawing {town}", config, outputs=outputs, seconds=START_S)

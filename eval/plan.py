"""From a study to its jobs: what runs, on what it builds, on how many cores, and about how long it takes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from roadworthy.eval.costs import (
    CONVERT_S,
    CRITIC_FACTOR,
    EVALUATE_S,
    EXISTING_IMAGES,
    EXPORT_S,
    FRAME_S,
    IMAGE_PIXELS,
    LATENCY_S,
    START_S,
    TAKE_S,
    TOWN_S,
    UPDATE_S,
)
from roadworthy.eval.driving_plan import driven_precision, driving_jobs, has_judge
from roadworthy.eval.entrants import Entrant, entrants, has_critic, has_gambler, rows
from roadworthy.eval.folder import StudyFolder, artifact, file_stem
from roadworthy.eval.schedule import Job
from roadworthy.eval.stages import EXAMPLES
from roadworthy.eval.study import ExistingData, LatencyPlan, RecordingPlan, StudyConfig, TrainPlan


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
            jobs += [_floor(train, model)] if train.floor_miou else []
        jobs += [_finetune(study, train, folder, entrant) for entrant in members if entrant.path is None]
    for entrant in members:
        jobs += [_make(study, folder, entrant, precision) for precision in _made(study)]
        jobs += [_evaluate(study, folder, entrant, precision) for precision in study.precisions]
    jobs.append(_examples(study, folder))
    jobs += [_bets(folder, each[0]) for each in rows(members).values() if has_gambler(each[0].objective)]
    if study.latency is not None:
        jobs.append(_latency(study, study.latency, folder, members))
    if study.drive is not None:
        jobs += driving_jobs(study, study.drive, folder, members)
    return jobs


def _made(study: StudyConfig) -> tuple[str, ...]:
    """List the precisions to make: everything is made of the fp32 file."""
    return ("fp32", *(precision for precision in study.precisions if precision != "fp32"))


def _reads_training_data(study: StudyConfig) -> bool:
    """Tell whether anything is trained, or rounded and checked on frames."""
    return study.train is not None or study.precisions != ("fp32",)


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
        f"record-{split}", "record", f"recording {split} data", config, outputs=folder.relative(folder.recording(split)),
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
    speedup: float = min(threads, 2) ** 0.8
    return UPDATE_S * steps * plan.batch_size * height * width / IMAGE_PIXELS / speedup


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
        folder.relative(folder.run(name)), cores=plan.pretrain_threads,
        seconds=START_S + _training_s(study, plan, plan.pretrain_steps, plan.pretrain_threads),
    )  # fmt: skip


def _floor(plan: TrainPlan, model: str) -> Job:
    names = [pretraining(plan, model, seed) for seed in plan.seeds]
    return Job(
        _floor_name(model), "floor", "checking the pre-training", {"names": names, "floor_miou": plan.floor_miou},
        tuple(f"train-{name}" for name in names), seconds=1.0,
    )  # fmt: skip


def _floor_name(model: str) -> str:
    return f"floor-{file_stem(model)}"


def _finetune(study: StudyConfig, plan: TrainPlan, folder: StudyFolder, entrant: Entrant) -> Job:
    assert entrant.seed is not None, "what is trained has a seed"
    init = pretraining(plan, entrant.model, entrant.seed) if plan.pretrain_steps else None
    config = {
        "name": entrant.name, "objective": entrant.objective, "init": init, "steps": plan.finetune_steps,
        "learning_rate": plan.finetune_learning_rate if init else plan.learning_rate, "threads": plan.finetune_threads,
        **_training(study, plan, entrant.model, entrant.seed),
    }  # fmt: skip
    factor = CRITIC_FACTOR if has_critic(entrant.objective) else 1.0
    before = _floor_name(entrant.model) if plan.floor_miou else f"train-{init}"
    return Job(
        f"train-{entrant.name}", "train", f"training {entrant.label}", config,
        (before,) if init else _needs_data(study.train_data, "train"), folder.relative(folder.run(entrant.name)),
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
    return Job(f"export-{named}", stage, text, config, needs, folder.relative(*outputs), seconds=seconds)


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
        config, (f"export-{named}", *_needs_data(study.test_data, "test")), folder.relative(folder.evaluation(named)),
        seconds=START_S + EVALUATE_S * _test_images(study) * study.height * study.width / IMAGE_PIXELS,
    )  # fmt: skip


def _examples(study: StudyConfig, folder: StudyFolder) -> Job:
    config = {"count": EXAMPLES, **_data(study.test_data)}
    return Job(
        "examples", "examples", "keeping example images", config, _needs_data(study.test_data, "test"),
        folder.relative(folder.examples), seconds=2.0,
    )  # fmt: skip


def _bets(folder: StudyFolder, entrant: Entrant) -> Job:
    return Job(
        f"bets-{entrant.name}", "bets", f"betting maps of {entrant.label}", {"name": entrant.name},
        (f"train-{entrant.name}", "examples"), folder.relative(folder.bets(entrant.name)), seconds=START_S,
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
        folder.relative(folder.latency), cores=1 << 16,  # alone on the machine
        seconds=START_S + LATENCY_S * calls * study.height * study.width / IMAGE_PIXELS,
    )  # fmt: skip

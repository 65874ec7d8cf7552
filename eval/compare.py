"""The main job: run what is missing of a study (record, train, export, measure, drive) and write its report.

from roadworthy.eval.compare import compare
from roadworthy.eval.study import PRESETS, StudyConfig, check_study, save_study
compare(PRESETS["quick"], Path("studies/quick"))
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from roadworthy.agent.cluster import Cluster
from roadworthy.eval.driving_plan import has_judge
from roadworthy.eval.entrants import entrants
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.plan import make_jobs
from roadworthy.eval.report import write_report
from roadworthy.eval.results import collect
from roadworthy.eval.runner import Progress, ProgressCallback, read_marker, run_jobs, study_lock
from roadworthy.eval.stages import train_config
from roadworthy.eval.study import (
    PRESETS,
    ReadyModel,
    RecordingPlan,
    StudyConfig,
    check_study,
    load_study,
    save_study,
)
from roadworthy.export.revision import roadworthy_version
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import check_output
from roadworthy.runtime.machine import usable_cores


def compare(
    study: StudyConfig,
    output: Path,
    *,
    cores: int | None = None,
    ray: str | None = None,
    command: str | None = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """Run what is missing of `study` in the folder `output` and return the path of its report.

    A job whose configuration and inputs have not changed since it finished is not run again; an interrupted one goes on.

    Args:
        study: what to compare, see `study.PRESETS` and `study.load_study`.
        output: the study's folder; made when missing.
        cores: how many cores to fill; None = the physical cores this process may use.
        ray: address of a Ray cluster to run the jobs on, or "local"; None = processes of this machine.
        command: what the report tells people to type to repeat the study; by default the command line's own.
        progress: called about once a second.

    Raises:
        BadInput: the study or the folder will not do, or another process works in it.
        RoadworthyError: a stage failed; the message says which and shows the end of its log. What is done stays done.
    """
    check_study(study, study.name)
    check_names(study)
    check_output(output, folder=True)
    folder = StudyFolder(output)
    started = time.monotonic()
    with study_lock(output), contextlib.ExitStack() as stack:
        cluster = None if ray is None else stack.enter_context(Cluster.open(ray, output, cores=cores))
        save_study(study, folder.study)
        jobs = make_jobs(study, folder)
        filled = cores or usable_cores()
        markers = run_jobs(jobs, folder, cores=filled, version=roadworthy_version(), progress=progress, cluster=cluster)
        if progress is not None:
            progress(Progress("writing the report", 1.0, time.monotonic() - started, 3.0, len(jobs), len(jobs)))
        collect(folder, study, markers, command or repeat_command(study, folder))
        return write_report(folder)


def rebuild(output: Path) -> Path:
    """Write `results.json` and the report of a finished study again, from its files alone; returns the report's path.

    Raises `BadInput` when the folder holds no study, or one that is not finished.
    """
    folder = StudyFolder(output)
    if not folder.study.is_file():
        raise BadInput(f"{output}: holds no study; expected the folder that roadworthy compare wrote, with {folder.study.name}")
    study = load_study(folder.study)
    jobs = make_jobs(study, folder)
    markers = {job.name: marker for job in jobs if (marker := read_marker(folder.stage(job.name))) is not None}
    missing = [job.name for job in jobs if job.name not in markers]
    if missing:
        raise BadInput(
            f"{output}: {len(missing)} of {len(jobs)} jobs are not done ({', '.join(missing[:4])}"
            f"{', …' if len(missing) > 4 else ''}); go on with: {repeat_command(study, folder)}"
        )
    with study_lock(output):
        collect(folder, study, markers, repeat_command(study, folder))
        return write_report(folder)


def check_names(study: StudyConfig) -> None:
    """Refuse unknown models, objectives and towns, and data and model files that do not fit, before anything runs.

    Raises `BadInput`.
    """
    from roadworthy.runtime.backends import BACKENDS
    from roadworthy.train.models import MODELS
    from roadworthy.train.objectives import adapts, check_spec
    from roadworthy.train.objectives.spec import parse_spec

    if (train := study.train) is not None:
        for model in train.models:
            if model not in MODELS:
                raise BadInput(f"{study.name}: unknown model {model!r}; known: {', '.join(MODELS)}")
        for objective in (train.pretrain_objective, *train.objectives):
            check_spec(objective)
            if unlabelled := [term.name for term in parse_spec(objective) if adapts(term.name)]:
                raise BadInput(
                    f"{study.name}: {', '.join(unlabelled)} learns from a target's unlabelled frames, which a comparison does "
                    "not have; see roadworthy adapt"
                )
    if study.latency is not None:
        for backend in study.latency.backends:
            if backend != "auto" and backend not in BACKENDS:
                raise BadInput(f"{study.name}: unknown backend {backend!r}; known: auto, {', '.join(BACKENDS)}")
    entrants(study)
    _check_trainings(study)
    if study.carla is None:
        _check_towns(study)
    taxonomy = _check_data(study)
    for ready in study.models:
        _check_ready(study, ready, taxonomy)


def _check_trainings(study: StudyConfig) -> None:
    """Refuse what a training would refuse when its turn comes: sizes, rates, crops, seeds."""
    for job in make_jobs(study, StudyFolder(Path())):
        if job.stage == "train":
            try:
                train_config(job.config, "", None)
            except BadInput as error:
                raise BadInput(f"{study.name}: {job.text}: {error}") from error


def _check_towns(study: StudyConfig) -> None:
    """Refuse towns that the embedded server does not have."""
    from roadworthy.agent.town import maps

    recorded = [data.towns for data in (study.train_data, study.test_data) if isinstance(data, RecordingPlan)]
    driven = [study.drive.train_towns, study.drive.test_towns] if study.drive is not None else []
    for town in sorted({town for towns in (*recorded, *driven) for town in towns}):
        if town not in maps.names() and not Path(town).is_file():
            known = ", ".join(maps.names())
            raise BadInput(f"{study.name}: no town {town!r}; the embedded server has {known}, and takes .xodr files")


def _check_data(study: StudyConfig) -> str:
    """Return the name of the test data's taxonomy; refuse existing data that are not there, and two taxonomies."""
    from roadworthy.runtime.taxonomy import TOWN
    from roadworthy.train.data import open_dataset

    found = {}
    for key, data, split in (("train_data", study.train_data, "train"), ("test_data", study.test_data, "val")):
        known = (
            TOWN
            if isinstance(data, RecordingPlan)
            else open_dataset(os.path.expandvars(data.data), data.split or split).taxonomy
        )
        found[key] = known.name
    if study.train is not None and found["train_data"] != found["test_data"]:
        raise BadInput(
            f"{study.name}: train_data has the classes of {found['train_data']!r}, test_data those of {found['test_data']!r}; "
            "choose data of one taxonomy"
        )
    return found["test_data"]


def _check_ready(study: StudyConfig, ready: ReadyModel, taxonomy: str) -> None:
    """Refuse a ready model that is missing, of other classes, rounded already, or without the outputs that are needed."""
    from roadworthy.runtime.metadata import ModelMetadata
    from roadworthy.runtime.onnx_file import read_props
    from roadworthy.runtime.segmenter import load

    path = Path(ready.path).expanduser()
    where = f"{study.name}: model {ready.name!r}"
    if not path.is_file() or path.suffix != ".onnx":
        raise BadInput(f"{where}: {path} is no .onnx file; make one with roadworthy adopt or roadworthy export")
    metadata = ModelMetadata.from_props(read_props(path), str(path))
    if metadata.taxonomy != taxonomy:
        raise BadInput(f"{where} predicts the classes of {metadata.taxonomy!r}, the test data are labelled in {taxonomy!r}")
    if metadata.precision in ("fp16", "int8"):
        raise BadInput(f"{where} is {metadata.precision} already; give its fp32 file, the study's precisions make the rest")
    own_drivers = study.drive is not None and not has_judge(study)
    needed = {"labels", "confidence", *(("latent",) if own_drivers else ())}
    lacking = sorted(needed - set(load(path, device="cpu").outputs))
    if lacking:
        raise BadInput(f"{where} has no output {', '.join(lacking)}; adopt or export it with it, or set drive: null")
    if own_drivers and (metadata.height, metadata.width) != (study.height, study.width):
        raise BadInput(
            f"{where} takes frames of {metadata.width}x{metadata.height}, the drivers see {study.width}x{study.height}; "
            "set the study's width and height to the model's"
        )


def repeat_command(study: StudyConfig, folder: StudyFolder) -> str:
    """Return the command line that repeats a study: its preset when it is one, else its own file."""
    if PRESETS.get(study.name) == study:
        return f"roadworthy compare --preset {study.name} --output {folder.root}"
    return f"roadworthy compare {folder.study} --output {folder.root}"

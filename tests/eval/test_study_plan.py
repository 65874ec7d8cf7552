"""What a study plans to do, before any of it is done: its jobs, what a change runs again, and studies that cannot be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roadworthy.eval import stages
from roadworthy.eval.compare import check_names, compare, repeat_command
from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.plan import make_jobs
from roadworthy.eval.runner import fingerprints
from roadworthy.eval.schedule import order
from roadworthy.eval.study import PRESETS, ExistingData, ReadyModel, RecordingPlan, StudyConfig, study_from
from roadworthy.runtime.errors import BadInput

QUICK = PRESETS["quick"]
assert QUICK.train is not None
assert QUICK.drive is not None


def test_the_quick_study_has_a_plan_that_can_be_ordered(tmp_path: Path) -> None:
    jobs = make_jobs(QUICK, StudyFolder(tmp_path))
    plan = order(jobs)
    names = [job.name for job in plan.jobs]
    assert len([name for name in names if name.startswith("drive-")]) == 3 * len(QUICK.drive.test_towns)
    outputs = [output for job in jobs for output in job.outputs]
    assert len(set(outputs)) == len(outputs)  # no two jobs write one file
    assert all(not Path(output).is_absolute() for output in outputs)


def test_what_a_change_runs_again(tmp_path: Path) -> None:
    def prints(study: StudyConfig) -> dict[str, str]:
        return fingerprints(make_jobs(study, StudyFolder(tmp_path)), "1")

    before = prints(QUICK)
    more_routes = prints(replace(QUICK, drive=replace(QUICK.drive, straight_routes=5)))
    changed = {name for name in before if before[name] != more_routes[name]}
    assert {name.split("-")[0] for name in changed} == {"drive", "sketch"}
    other_test = prints(replace(QUICK, test_data=replace(QUICK.test_data, seed=9)))
    assert {name.split("-")[0] for name in before if before[name] != other_test[name]} == {
        "record", "evaluate", "examples", "bets",
    }  # fmt: skip
    other_words = prints(replace(QUICK, title="Another title"))
    assert other_words == before


def test_a_wide_study_has_a_plan_that_can_be_ordered(tmp_path: Path) -> None:
    assert QUICK.train is not None
    assert QUICK.drive is not None
    ready = tmp_path / "theirs.onnx"
    ready.write_bytes(b"a model")
    study = replace(
        QUICK,
        train=replace(QUICK.train, models=("enet", "unet"), seeds=(0, 1), floor_miou=0.2),
        models=(ReadyModel("theirs", str(ready)),),
        precisions=("fp32", "int8"),
        drive=replace(QUICK.drive, weathers=("training", "held-out")),
    )
    jobs = {job.name: job for job in order(make_jobs(study, StudyFolder(tmp_path))).jobs}
    outputs = [output for job in jobs.values() for output in job.outputs]
    assert len(set(outputs)) == len(outputs)
    stages_of = Counter(job.stage for job in jobs.values())
    members = 2 * 3 * 2 + 1
    assert stages_of["export"] == members - 1
    assert stages_of["take"] == 1
    assert stages_of["convert"] == members
    assert stages_of["evaluate"] == 2 * members
    assert stages_of["floor"] == 2  # one per model
    assert stages_of["bets"] == 2  # the first seed of each model's gambling
    assert stages_of["drive"] == members * 2 * 2  # towns x weathers
    assert stages_of["latency"] == 1
    assert jobs["train-unet-gambling-s1"].needs == ("floor-unet",)
    assert jobs["floor-unet"].needs == ("train-pretrain-unet-s0", "train-pretrain-unet-s1")
    assert jobs["drive-theirs-p0-Grid01-held-out"].config["suite"] != jobs["drive-theirs-p0-Grid01"].config["suite"]
    assert all(getattr(stages, job.stage) for job in jobs.values())
    before = fingerprints(list(jobs.values()), "1")
    ready.write_bytes(b"another model under the same name")
    after = fingerprints(make_jobs(study, StudyFolder(tmp_path)), "1")
    assert {name for name in before if before[name] != after[name] and "latency" not in name} == {
        name for name in before if "theirs" in name
    }


def test_one_judge_drives_every_segmenter(tmp_path: Path) -> None:
    assert QUICK.drive is not None
    judged = replace(QUICK.drive, observation="segmentation-depth", policy_seeds=(0, 1), reinforcement_steps=0)
    jobs = {job.name: job for job in order(make_jobs(replace(QUICK, drive=judged), StudyFolder(tmp_path))).jobs}
    assert [name for name in jobs if name.startswith("learn-")] == ["learn-judge-p0", "learn-judge-p1"]
    assert {job.needs for name, job in jobs.items() if name.startswith("learn-")} == {("demonstrate",)}
    drive = jobs["drive-gambling-s0-p1-Crooked01"]
    assert drive.needs == ("learn-judge-p1", "export-gambling-s0")
    assert (drive.config["driver"], drive.config["model"]) == ("judge", "gambling-s0")
    # What the judge can do is measured on true labels, in the towns it learnt in.
    assert {name for name in jobs if name.startswith("drive-truth")} == {"drive-truth-p0-Grid01", "drive-truth-p1-Grid01"}
    assert not any("encoder" in output for job in jobs.values() for output in job.outputs)


def test_a_study_without_driving_has_no_simulator_in_it(tmp_path: Path) -> None:
    data = ExistingData("camvid:somewhere")
    study = replace(QUICK, train_data=data, test_data=data, drive=None, latency=None)
    jobs = make_jobs(study, StudyFolder(tmp_path))
    assert {job.stage for job in order(jobs).jobs} == {"train", "export", "evaluate", "examples", "bets"}
    assert next(job for job in jobs if job.stage == "train").config["data"] == "camvid:somewhere"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": replace(QUICK.train, objectives=("gambling", "magic"))}, "unknown objective 'magic'"),
        ({"train": replace(QUICK.train, models=("enet", "resnet"))}, "unknown model 'resnet'"),
        ({"test_data": RecordingPlan(("Atlantis",), 2, 2)}, "no town 'Atlantis'"),
        ({"drive": replace(QUICK.drive, straight_routes=-1)}, "straight_routes is -1"),
    ],
)
def test_impossible_studies_are_refused_before_anything_is_written(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        compare(replace(QUICK, **change), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_the_folder_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "study"
    path.touch()
    with pytest.raises(BadInput, match="is a file"):
        compare(QUICK, path)


def test_a_server_of_ones_own_may_have_any_town() -> None:
    check_names(replace(QUICK, carla="127.0.0.1:2000", test_data=RecordingPlan(("Town02",), 2, 2)))


def test_the_command_repeats_the_study() -> None:
    folder = StudyFolder(Path("studies/quick"))
    assert repeat_command(QUICK, folder) == "roadworthy compare --preset quick --output studies/quick"
    assert (
        repeat_command(replace(QUICK, name="tiny"), folder)
        == "roadworthy compare studies/quick/study.yaml --output studies/quick"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 36}, r"pre-training: training option size is \(36, 256\), expected .* multiples of 8 for enet"),
        ({"train": {"learning_rate": -1.0}}, "pre-training: training option learning_rate is -1.0"),
        ({"train": {"finetune_learning_rate": 0.0}}, "training cross-entropy: training option learning_rate is 0.0"),
        ({"train": {"crop": [31, 31]}}, "training option crop is"),
        ({"train": {"seeds": [-1]}}, "training option seed is -1"),
        ({"train": {"objectives": ["cross-entropy + advent"]}}, "advent learns from a target's unlabelled frames"),
        ({"latency": {"backends": ["abacus"]}}, "unknown backend 'abacus'; known: auto,"),
    ],
)
def test_what_a_job_would_refuse_is_refused_before_the_first_one(change: dict[str, object], message: str) -> None:
    study = study_from({"name": "mine", **change}, "s")
    with pytest.raises(BadInput, match=message):
        check_names(study)

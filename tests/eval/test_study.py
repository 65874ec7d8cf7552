"""A study survives the way to YAML and back, and a wrong one says where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from roadworthy.eval.entrants import entrants, rows
from roadworthy.eval.folder import StudyFolder, objective_labels, segmenter_name
from roadworthy.eval.study import (
    PRESETS,
    ExistingData,
    RecordingPlan,
    check_study,
    load_study,
    preset,
    save_study,
    study_data,
    study_from,
)
from roadworthy.runtime.errors import BadInput
from roadworthy.train.objectives import check_spec

OBJECTIVES_OF_THE_PAPERS = (
    "cross-entropy", "focal", "adversarial", "el-gan", "gambling", "importance-aware", "wasserstein",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_valid_and_survive_yaml(name: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    save_study(PRESETS[name], path)
    assert load_study(path) == PRESETS[name]


def test_a_short_study_gets_the_defaults() -> None:
    study = study_from({"name": "mine", "train": {"objectives": ["gambling", "wasserstein(metric=huber)"]}}, "s")
    assert study.train.objectives == ("gambling", "wasserstein(metric=huber)")
    assert study.drive == PRESETS["quick"].drive


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nme": 1}, "unknown key 'nme'; did you mean 'name'"),
        ({"train": {"finetune_steps": "many"}}, "train: finetune_steps: found 'many', expected int"),
        ({"train": {"learning_rate": "1e-3"}}, "write 1.0e-3"),
        ({"train": {"finetune_steps": True}}, "expected int"),
        ({"train": {"objectives": []}}, "train.objectives is empty"),
        ({"train": {"objectives": ["gambling", "gambling"]}}, "names something twice"),
        ({"drive": {"imitation_steps": 0}}, "drive.imitation_steps is 0, expected at least 1"),
        ({"drive": {"straight_routes": 0, "one_turn_routes": 0}}, "drive has no routes"),
        (
            {"test_data": {"towns": ["Grid01"], "episodes": 4, "frames": 5, "weathers": "wet"}},
            "expected 'training' or 'held-out'",
        ),
        ({"test_data": {"towns": ["Grid01"]}}, "episodes, frames is missing"),
        ({"train_data": 3}, "found 3, expected a mapping"),
        ({"drive": {"policy_seeds": 4}}, "expected a list"),
        ({"height": 128.5}, "expected int"),
        ({"train": {"model": "enet"}}, "the key 'model' is now 'models', a list: models: [enet]"),
        ({"drive": {"weathers": "training"}}, "expected a list: write [training]"),
        ({"drive": {"weathers": ["training", "wet"]}}, "drive.weathers[1] is 'wet', expected 'training' or 'held-out'"),
        ({"test_data": {"data": "camvid:x", "splt": "val"}}, "unknown key 'splt'; did you mean 'split'"),
        ({"train_data": {"data": "camvid:x", "split": "val"}}, "train_data.split is 'val', expected 'train'"),
        ({"train": None}, "train is null and models is empty"),
        ({"precisions": ["fp64"]}, "precisions[0] is 'fp64', expected one of fp32, fp16, int8"),
        ({"precisions": ["fp32", "fp32"]}, "precisions names something twice"),
        ({"drive": {"precision": "int8"}}, "drive.precision is 'int8', expected one of the study's precisions: fp32"),
        ({"train": {"floor_miou": 0.4, "pretrain_steps": 0}}, "floor_miou is what the pre-training must reach"),
        ({"train": {"crop": [240]}}, "train.crop is [240], expected two numbers"),
        ({"latency": {"batches": [1, 0]}}, "latency.batches[1] is 0"),
        ({"models": [{"name": "theirs"}]}, "path is missing"),
        ({"drive": {"observation": "frames"}}, "drive.observation is 'frames', expected 'latents' or 'segmentation-depth'"),
        ({"drive": {"observation": "segmentation-depth"}}, "drive.reinforcement_steps is 300, expected 0"),
        ({"drive": {"test_towns": ["Crooked01"]}}, "expected also one of drive.train_towns (Grid01)"),
        ({"drive": {"weathers": ["held-out"]}}, "under the weathers held-out, expected also"),
        ({"name": "../mine"}, "name is '../mine', expected letters"),
        ({"latency": {"threads": -1}}, "latency.threads is -1, expected at least 1"),
        ({"drive": {"max_route_m": -5}}, "drive.max_route_m is -5"),
        ({"device": "tpu"}, "device is 'tpu', expected one of cpu, auto, cuda"),
    ],
)
def test_wrong_studies_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput) as error:
        study_from({"name": "mine", **change}, "study.yaml")
    assert message in str(error.value)
    assert "study.yaml" in str(error.value)


def test_existing_data_and_parts_that_are_left_out() -> None:
    study = study_from({"name": "mine", "test_data": {"data": "camvid:x"}, "drive": None, "latency": None}, "s")
    assert study.test_data == ExistingData("camvid:x")
    assert isinstance(study.train_data, RecordingPlan)
    assert study.drive is None
    assert study.latency is None
    assert study_from(study_data(study), "s") == study


def test_the_study_of_the_docs_is_one() -> None:
    study = load_study(Path(__file__).parents[2] / "docs" / "camvid_study.yaml")
    check_study(study, "docs")
    assert study.train is not None
    for objective in study.train.objectives:
        check_spec(objective)
    assert [entrant.row for entrant in entrants(study) if entrant.seed == 0] == list(OBJECTIVES_OF_THE_PAPERS)


def test_every_model_meets_every_objective_and_ready_ones_take_part() -> None:
    study = study_from(
        {
            "name": "mine",
            "train": {"models": ["enet", "unet"], "objectives": ["cross-entropy", "focal(gamma=1)"], "seeds": [0, 5]},
            "models": [{"name": "SegFormer B0", "path": "b0.onnx"}],
        },
        "s",
    )
    found = rows(entrants(study))
    assert list(found) == ["enet-cross-entropy", "enet-focal", "unet-cross-entropy", "unet-focal", "SegFormer-B0"]
    assert [len(each) for each in found.values()] == [2, 2, 2, 2, 1]
    assert [entrant.name for entrant in found["unet-focal"]] == ["unet-focal-s0", "unet-focal-s5"]
    assert found["unet-focal"][1].label == "unet, focal (seed 5)"
    assert found["SegFormer-B0"][0].path == "b0.onnx"


def test_a_ready_model_cannot_take_the_name_of_a_trained_one() -> None:
    for name in ("cross-entropy", "cross-entropy-s0", "judge", "truth"):
        study = study_from({"name": "mine", "models": [{"name": name, "path": "x.onnx"}]}, "s")
        with pytest.raises(BadInput, match="two segmenters would be called"):
            entrants(study)


def test_a_study_needs_a_name() -> None:
    with pytest.raises(BadInput, match="name is missing"):
        study_from({}, "study.yaml")


def test_files_that_are_no_studies(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such study"):
        load_study(tmp_path / "absent.yaml")
    path = tmp_path / "study.yaml"
    path.write_text("a: [1, ", encoding="utf-8")
    with pytest.raises(BadInput, match="not readable as YAML"):
        load_study(path)
    path.write_text("!!python/object/apply:os.system ['true']", encoding="utf-8")
    with pytest.raises(BadInput, match="not readable as YAML"):
        load_study(path)


@pytest.mark.parametrize(
    "objective", ["../../etc/passwd", "a/b", "x<script>", "..", "wasserstein(metric=huber) + 0.5*cross-entropy"]
)
def test_names_cannot_leave_the_study_folder(objective: str, tmp_path: Path) -> None:
    model = StudyFolder(tmp_path).model(segmenter_name(objective, 0))
    assert model.resolve().parent == (tmp_path / "models").resolve()


def test_objectives_are_named_without_options_where_that_tells_them_apart() -> None:
    assert objective_labels(["a(x=1)", "b", "c + 0.5*d(y=2, z=3)"]) == ["a", "b", "c + 0.5*d"]
    assert objective_labels(["a(x=1)", "a(x=2)"]) == ["a(x=1)", "a(x=2)"]


def test_unknown_preset() -> None:
    with pytest.raises(BadInput, match="quick"):
        preset("slow")


def test_data_is_plain() -> None:
    data = study_data(PRESETS["quick"])
    assert yaml.safe_load(yaml.safe_dump(data)) == data

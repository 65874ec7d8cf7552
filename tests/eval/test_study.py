"""A study survives the way to YAML and back, and a wrong one says where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from roadworthy.eval.folder import StudyFolder, objective_labels, segmenter_name
from roadworthy.eval.study import PRESETS, load_study, preset, save_study, study_data, study_from
from roadworthy.runtime.errors import BadInput


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
    ],
)
def test_wrong_studies_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput) as error:
        study_from({"name": "mine", **change}, "study.yaml")
    assert message in str(error.value)
    assert "study.yaml" in str(error.value)


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

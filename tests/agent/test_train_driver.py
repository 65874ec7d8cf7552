"""Learning by driving into a folder, in the town: stopped, gone on with, finished, exported, and judged without its folder."""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from roadworthy.agent.algorithms import LearnConfig
from roadworthy.agent.camera import CameraRig
from roadworthy.agent.drive import Driver, Suite, evaluate_policies
from roadworthy.agent.policy import load_examples, load_policy
from roadworthy.agent.policy_export import export_policy
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.train_driver import CHECKPOINT_FILE, CURVE_FILE, Training, train_driver
from roadworthy.runtime.errors import BadInput

WORLD = DriveConfig(vehicles=(0, 0), walkers=(0, 0), max_steps=15, threads=1)
TRAINING = Training(LearnConfig(steps=120, checkpoint_every=40), WORLD, workers=1, egos=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("tiny_model").write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver whose learning was interrupted after its first checkpoint."""
    folder = tmp_path_factory.mktemp("driver") / "trained"

    def interrupt(*_: object) -> None:
        if (folder / CHECKPOINT_FILE).exists():
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("roadworthy.agent.learn.SAY_EVERY_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train_driver(model, folder, TRAINING, progress=interrupt)
    assert not (folder / "policy.json").exists()
    facts = train_driver(model, folder, TRAINING)["reinforcement"]
    assert facts["steps"] == 120
    assert facts["environments"] == 2
    return folder


def test_a_finished_driver_has_its_curve_and_no_leftovers(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [
        "curve.json", "learning.json", "observations.safetensors", "policy.json", "policy.safetensors"
    ]  # fmt: skip
    drives = json.loads((trained / CURVE_FILE).read_text())
    assert len(drives) == load_policy(trained)[1]["reinforcement"]["episodes"] >= 6  # none lasts more than 15 steps
    steps = [step for step, *_ in drives]
    assert steps == sorted(steps)
    assert all(0 < lasted <= 15 and 0.0 <= completion <= 1.0 for _, _, lasted, completion in drives)


def test_it_is_not_driven_again_and_belongs_to_one_learning(trained: Path, model: Path) -> None:
    again = train_driver(model, trained, TRAINING)  # would start a town if it learnt
    assert again["reinforcement"] == load_policy(trained)[1]["reinforcement"]
    with pytest.raises(BadInput, match=r"another learning \(different: learn\)"):
        train_driver(model, trained, replace(TRAINING, learn=replace(TRAINING.learn, seed=9)))


def test_a_start_of_other_latents_is_refused(trained: Path, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name in ("policy.json", "policy.safetensors"):
        other.mkdir(exist_ok=True)
        (other / name).write_bytes((trained / name).read_bytes())
    facts = json.loads((other / "policy.json").read_text())
    facts["sees"]["shape"] = [2, 3, 16, 31]  # the same weights fit: 16 columns are left after the first convolution
    (other / "policy.json").write_text(json.dumps(facts))
    with pytest.raises(BadInput, match="gives other shapes"):
        train_driver(model, tmp_path / "out", TRAINING, start=other)


def test_the_exported_policy_drives_as_its_folder_does(trained: Path, model: Path, tmp_path: Path) -> None:
    policy, _ = load_policy(trained)
    report = export_policy(policy, tmp_path / "policy.onnx", load_examples(trained))
    assert report.observations >= 2
    suite = Suite("one", "Grid01", held_out=False, tasks=(("straight", 1),), max_length_m=75.0, vehicles=0, walkers=0)
    drivers = [Driver("folder", model, trained), Driver("file", model, report.path)]
    folder, file = evaluate_policies(drivers, [suite], tmp_path / "episodes.jsonl", workers=1)
    assert {folder.segmenter, file.segmenter} == {"folder", "file"}
    assert folder.steps == pytest.approx(file.steps, abs=2)
    assert folder.distance_m == pytest.approx(file.distance_m, rel=0.02, abs=0.2)
    assert folder.ended == file.ended


def test_the_camera_fits_the_segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    tiny = importlib.import_module("tiny_model")
    for name, value in (("HEIGHT", 64), ("WIDTH", 160), ("LATENT", (3, 8, 20))):
        monkeypatch.setattr(tiny, name, value)
    worlds = []

    def begin(_: object, world: DriveConfig, **__: object) -> None:
        worlds.append(world)
        raise KeyboardInterrupt

    monkeypatch.setattr("roadworthy.agent.train_driver.TownVecEnv", begin)
    wide = replace(WORLD, rig=CameraRig(fov_deg=110.0))
    with pytest.raises(KeyboardInterrupt):
        train_driver(tiny.write_tiny_model(tmp_path / "small.onnx"), tmp_path / "out", replace(TRAINING, world=wide))
    assert worlds == [replace(wide, rig=CameraRig(160, 64, fov_deg=110.0))]

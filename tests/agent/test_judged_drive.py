"""What a judged drive is named by, which camera it has, and what its line says for driving it again."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import pytest

from roadworthy.agent.judged_drive import Driver, camera_for, digest, episode_id, is_of
from roadworthy.agent.suite import Suite
from roadworthy.agent.supervisor import supervise
from roadworthy.runtime.errors import BadInput


def test_the_camera_fits_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    tiny = importlib.import_module("tiny_model")
    monkeypatch.setattr(tiny, "HEIGHT", 64)
    monkeypatch.setattr(tiny, "WIDTH", 160)
    monkeypatch.setattr(tiny, "LATENT", (3, 8, 20))
    rig = camera_for(tiny.write_tiny_model(tmp_path / "small.onnx"))
    assert (rig.height_px, rig.width_px) == (64, 160)
    assert camera_for(Path("truth")).width_px == 256
    with pytest.raises(BadInput, match="no such model file"):
        camera_for(tmp_path / "gone.onnx")


def test_every_episode_of_a_town_begins_with_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    first_pictures = importlib.import_module("reload_task").first_pictures
    pictures = supervise(first_pictures, 3)
    assert len(set(pictures)) == 1  # to the last pixel of the camera's noise


def test_ids_tell_drivers_and_suites_apart() -> None:
    suite = Suite("s", "Grid01", held_out=False, seed=7)
    driver = Driver("a", Path("m.onnx"), Path("p"), policy_seed=3)
    name = episode_id(driver, suite, 5)
    assert name == "a/3/s/Grid01/5/7"
    assert is_of(name, driver, suite)
    for other_driver, other_suite in (
        (Driver("b", Path("m.onnx"), Path("p"), 3), suite),
        (Driver("a", Path("m.onnx"), Path("p"), 4), suite),
        (driver, Suite("t", "Grid01", held_out=False, seed=7)),
        (driver, Suite("s", "Grid02", held_out=False, seed=7)),
        (driver, Suite("s", "Grid01", held_out=False, seed=17)),
    ):
        assert not is_of(name, other_driver, other_suite)


def test_a_suite_survives_json() -> None:
    suite = Suite("s", "Grid01", held_out=True, tasks=(("one-turn", 3),), max_length_m=80.0, carla="10.0.0.5:2000", seed=9)
    plain = json.loads(json.dumps(suite.to_dict()))
    assert "10.0.0.5" not in json.dumps(plain)
    assert Suite.from_dict(plain, "here", carla="10.0.0.5:2000") == suite
    assert Suite.from_dict(plain, "here").carla is None
    with pytest.raises(BadInput, match="here: not the suite of a recorded drive"):
        Suite.from_dict({**plain, "colour": "red"}, "here")


def test_a_drivers_files_are_named_from_beside_and_told_apart(tmp_path: Path) -> None:
    for name in ("models", "drivers/d", "episodes"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models" / "m.onnx").write_bytes(b"model")
    (tmp_path / "drivers" / "d" / "policy.safetensors").write_bytes(b"policy")
    driver = Driver("a", tmp_path / "models" / "m.onnx", tmp_path / "drivers" / "d")
    facts = driver.to_dict(tmp_path / "episodes")
    assert (facts["model"], facts["policy"]) == ("../models/m.onnx", "../drivers/d")  # a study may move as a whole
    assert facts["model_sha256"] == hashlib.sha256(b"model").hexdigest()
    assert facts["policy_sha256"] == digest(driver.policy) == hashlib.sha256(b"policy").hexdigest()
    baseline = Driver("a", Path("truth"), Path("baseline:brake")).to_dict(tmp_path)
    assert baseline == {"model": "truth", "model_sha256": "", "policy": "baseline:brake", "policy_sha256": ""}

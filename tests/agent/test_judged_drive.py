"""What a judged drive is named by, which camera it has, and what its line says for driving it again."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.episodes import Episode
from roadworthy.agent.judged_drive import Driver, _drive_route, again, check_same, digest, episode_id, is_of
from roadworthy.agent.outlook import camera_for
from roadworthy.agent.suite import Suite
from roadworthy.agent.supervisor import supervise
from roadworthy.runtime.errors import BadInput

EPISODE = Episode(
    id="", segmenter="net", policy_seed=0, suite="cli", town="Grid01", held_out=False, weather="ClearNoon", task="straight",
    route=0, seed=1, traffic={"vehicles": 0, "walkers": 0}, steps=100, duration_s=10.0, distance_m=100.0, route_length_m=100.0,
    route_completion=1.0, ended="goal", infractions=(), mean_speed_mps=10.0, reward_sum=1.0,
)  # fmt: skip


def test_the_camera_fits_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    tiny = importlib.import_module("tiny_model")
    monkeypatch.setattr(tiny, "HEIGHT", 64)
    monkeypatch.setattr(tiny, "WIDTH", 160)
    monkeypatch.setattr(tiny, "LATENT", (3, 8, 20))
    model = tiny.write_tiny_model(tmp_path / "small.onnx")
    rig = camera_for(model)
    assert (rig.height_px, rig.width_px) == (64, 160)
    assert camera_for(model, CameraRig(fov_deg=70.0)) == replace(rig, fov_deg=70.0)
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


def test_another_drivers_episodes_are_never_taken_for_ones_own(tmp_path: Path) -> None:
    file, model = tmp_path / "episodes.jsonl", tmp_path / "model.onnx"
    model.write_bytes(b"one")
    driver, suite = Driver("net", model, Path("baseline:brake")), Suite("cli", "Grid01", held_out=False, vehicles=0)

    def driven(by: Driver, world: Suite) -> Episode:
        found = again(by, world, 0, tmp_path)
        record = {"id": episode_id(by, world, 0), "again": json.loads(json.dumps(found))}
        return replace(EPISODE, **record)

    check_same([driven(driver, suite)], driver, suite, file)
    check_same([replace(EPISODE, id=episode_id(driver, suite, 0))], driver, suite, file)  # it does not say who drove
    others = [
        (replace(driver, policy=Path("baseline:random")), suite, "another policy"),
        (driver, replace(suite, vehicles=15), r"another vehicles \(15, now 0\)"),
        (driver, replace(suite, tasks=(("straight", 4),)), "another tasks"),
        (driver, replace(suite, carla="localhost:2000"), "another server"),
    ]
    for who, world, message in others:
        with pytest.raises(BadInput, match=message):
            check_same([driven(who, world)], driver, suite, file)
    old = driven(driver, suite)
    model.write_bytes(b"trained again")
    with pytest.raises(BadInput, match="another model"):
        check_same([old], driver, suite, file)


def test_the_witness_is_told_what_is_not_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    class Listening:
        def __init__(self, _: Path) -> None: ...

        def see(self, *_: object, ongoing: bool) -> None:
            told.append(ongoing)

    class Scripted:
        """Nothing, an excursion, a contact, nothing."""

        states = ((False, ()), (True, ()), (False, ("contact",)), (False, ()))

        def reset(self, **_: object) -> tuple[None, dict[str, Any]]:
            self.at = -1
            self._look(False, ())
            return None, {}

        def step(self, _: object) -> tuple[None, float, bool, bool, dict[str, Any]]:
            self.at += 1
            self._look(*self.states[self.at])
            over = self.at == len(self.states) - 1
            return None, 0.0, over, False, {"distance_m": 0.0, "infractions": 0, "ended": "goal" if over else None}

        def _look(self, outside: bool, contacts: tuple[str, ...]) -> None:
            self.infractions = SimpleNamespace(outside=outside, events=[])
            self.moment = SimpleNamespace(
                location=(0.0, 0.0), off_line=0.0, contacts=contacts, frame=None, tags=None, command=4, speed_mps=1.0
            )

    monkeypatch.setattr("roadworthy.agent.judged_drive.Witness", Listening)
    policy: Any = SimpleNamespace(act=lambda _: None)
    env: Any = Scripted()
    assignment: Any = SimpleNamespace(seed=1)
    _drive_route(policy, env, assignment, "drive", tmp_path, None, None, lambda _: None)
    assert told == [False, True, True, False]

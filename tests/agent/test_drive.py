"""From demonstrations to judged drives in the town, small: every step is the real one."""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roadworthy.agent.demonstrations import DemonstrationConfig, Demonstrations, demonstrate
from roadworthy.agent.drive import Driver, Suite, evaluate_policies
from roadworthy.agent.drivers import DriverConfig, DriverTask, train_drivers
from roadworthy.agent.env import DriveConfig
from roadworthy.agent.episodes import read_episodes
from roadworthy.agent.imitation import CloneConfig, clone
from roadworthy.agent.lessons import SegDepthLesson
from roadworthy.agent.policy import load_policy, save_policy
from roadworthy.agent.witness import MOST, sights, sights_folder
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import TOWN

DEMONSTRATIONS = DemonstrationConfig(towns=("Grid01",), steps=120, workers=1, vehicles=2, walkers=2)
SUITE = Suite("tiny", "Grid01", held_out=False, tasks=(("straight", 2),), max_length_m=75.0, vehicles=2, walkers=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("tiny_model").write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Demonstrations]:
    folder = tmp_path_factory.mktemp("demonstrations")
    return folder, demonstrate(DEMONSTRATIONS, folder)


@pytest.fixture(scope="module")
def driver(model: Path, shown: tuple[Path, Demonstrations], tmp_path_factory: pytest.TempPathFactory) -> Driver:
    folder = tmp_path_factory.mktemp("driver") / "policy"
    world = DriveConfig(vehicles=(0, 2), walkers=(0, 2), max_steps=40, threads=1)
    config = DriverConfig(clone=CloneConfig(steps=20), world=world, a2c_steps=40, judge_routes=1)
    facts = train_drivers([DriverTask("tiny", model, folder)], shown[0], config)[0]
    assert facts["imitation"]["samples"] == 120
    assert facts["a2c"]["steps"] == 40
    assert facts["a2c"]["kept"] == (facts["a2c"]["judged_after"] > facts["a2c"]["judged_before"])
    return Driver("tiny", model, folder)


def test_demonstrations_show_driving(shown: tuple[Path, Demonstrations]) -> None:
    _, steps = shown
    assert steps.frames.shape == (120, 128, 256, 3)
    assert steps.frames.std() > 20  # pictures, not one colour
    assert steps.measurements[:, 0].max() > 4.0  # m/s
    assert (steps.measurements[:, 3:].sum(1) == 1).all()
    assert np.abs(steps.actions[:, 0]).max() > 0.005
    assert not steps.follows[0]
    assert steps.follows.mean() > 0.9


def test_demonstrations_are_recorded_once(shown: tuple[Path, Demonstrations]) -> None:
    folder, steps = shown
    again = demonstrate(DEMONSTRATIONS, folder)  # would take a town's start if it recorded
    np.testing.assert_array_equal(again.actions, steps.actions)
    with pytest.raises(BadInput, match="another configuration"):
        demonstrate(replace(DEMONSTRATIONS, seed=9), folder)


def test_damaged_demonstrations_are_named(shown: tuple[Path, Demonstrations], tmp_path: Path) -> None:
    part = tmp_path / "part-0"
    part.mkdir()
    (part / "part.json").write_text("{}")
    (part / "frames.npy").write_bytes((shown[0] / "part-0" / "frames.npy").read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"part-0: damaged"):
        Demonstrations.load(tmp_path)
    with pytest.raises(BadInput, match="no demonstrations"):
        Demonstrations.load(tmp_path / "empty")


def test_a_suite_is_driven_once_and_resumed(driver: Driver, tmp_path: Path) -> None:
    output = tmp_path / "episodes.jsonl"
    episodes = evaluate_policies([driver], [SUITE], output, workers=1)
    assert [episode.route for episode in episodes] == [0, 1]
    for episode in episodes:
        assert episode.ended in ("goal", "timeout", "blocked")
        assert episode.duration_s == pytest.approx(episode.steps * 0.1)
        assert 0.0 <= episode.route_completion <= 1.0
        assert 20.0 < episode.route_length_m < 76.0
        assert episode.traffic == {"vehicles": 2, "walkers": 2}
        assert 0.0 <= episode.outside_m <= episode.distance_m
        assert len(episode.trajectory) == 1 + episode.steps // 10
        driven = np.linalg.norm(np.diff(episode.trajectory, axis=0), axis=1).sum()
        assert driven <= episode.distance_m + 1.0 + 150.0 * episode.rescues
        seen = list(sights(sights_folder(output, episode.id)))
        assert {sight.infraction for sight in seen} - {None} == set(range(min(len(episode.infractions), MOST)))
        for sight in seen:
            frame, tags = sight.read()
            assert frame.shape == (128, 256, 3)
            assert tags is not None
            assert len(np.unique(tags)) > 1  # something, wherever this driver has got to
    lines = output.read_text().splitlines()
    output.write_text(lines[0] + "\n" + lines[1][:40])  # killed in the middle of the second line
    again = evaluate_policies([driver], [SUITE], output, workers=1)
    assert again[0] == episodes[0]
    assert [episode.id for episode in again] == [episode.id for episode in episodes]
    assert read_episodes(output) == again


def test_a_policy_of_other_latents_is_refused(driver: Driver, tmp_path: Path) -> None:
    policy, _ = load_policy(driver.policy)
    for name in ("policy.safetensors", "policy.json"):
        (tmp_path / name).write_bytes((driver.policy / name).read_bytes())
    facts = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps(facts | {"sees": {"part": "latents", "shape": [2, 3, 8, 32]}}))
    with pytest.raises(BadInput, match="do not fit"):
        load_policy(tmp_path)
    assert policy.observation_space["latents"].shape == (2, 3, 16, 32)


def test_a_driver_on_true_labels_judges_any_segmenter(model: Path, shown: tuple[Path, Demonstrations], tmp_path: Path) -> None:
    steps = shown[1]
    assert steps.segmentation is not None
    assert steps.depth is not None
    assert steps.segmentation.shape == steps.depth.shape == (120, 64, 128)
    assert {TOWN.index("road"), TOWN.index("sky")} <= set(np.unique(steps.segmentation))
    result = clone(SegDepthLesson(steps), steps, CloneConfig(steps=20))
    save_policy(result.policy, tmp_path / "judge", {}, result.examples)
    labels = importlib.import_module("tiny_model").write_tiny_labels(tmp_path / "labels.onnx")
    judged = [Driver("truth", Path("truth"), tmp_path / "judge"), Driver("tiny", labels, tmp_path / "judge")]
    suite = replace(SUITE, tasks=(("straight", 1),), vehicles=0, walkers=0)
    episodes = evaluate_policies(judged, [suite], tmp_path / "episodes.jsonl", workers=1)
    assert [episode.segmenter for episode in episodes] == ["truth", "tiny"]
    assert [episode.again["model"] for episode in episodes] == ["truth", "labels.onnx"]
    assert all(episode.ended in ("goal", "timeout", "blocked") for episode in episodes)
    assert episodes[0].trajectory != episodes[1].trajectory  # what it sees is what it drives by
    with pytest.raises(BadInput, match="no labels"):
        evaluate_policies([Driver("blind", model, tmp_path / "judge")], [suite], tmp_path / "blind.jsonl", workers=1)

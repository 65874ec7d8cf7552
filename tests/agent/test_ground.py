"""Class centroids against numpy, the blend's closed cases, and a whole small learning in the town."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from roadworthy.agent.algorithms import LearnConfig
from roadworthy.agent.camera import CameraRig
from roadworthy.agent.env import DriveConfig
from roadworthy.agent.ground import Centroids, alpha_at, blend, measure_centroids
from roadworthy.agent.ground_control import random_frames
from roadworthy.agent.ground_learning import GroundConfig, learn_ground, round_folder
from roadworthy.agent.policy import load_examples, load_policy
from roadworthy.agent.policy_export import export_policy
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, TOWN
from roadworthy.train.checkpoint import load_run, save_model
from roadworthy.train.config import TrainConfig, load_config
from roadworthy.train.ground import GroundMatrix, load_ground, severity
from roadworthy.train.models import build_model


def test_centroids_equal_a_loop_over_positions() -> None:
    torch.manual_seed(0)
    embedding, labels = torch.randn(3, 5, 4, 6), torch.randint(0, 4, (3, 8, 12))
    labels[0, :, :6] = 255
    centroids = Centroids(4)
    centroids.add(embedding[:1], labels[:1])
    centroids.add(embedding[1:], labels[1:])
    found: dict[int, list[np.ndarray]] = {i: [] for i in range(4)}
    for b in range(3):
        for y in range(4):
            for x in range(6):
                label = int(labels[b, 2 * y + 1, 2 * x + 1])  # the pixel that lies at the position's centre
                if label != 255:
                    vector = embedding[b, :, y, x].numpy().astype(np.float64)
                    found[label].append(vector / np.linalg.norm(vector))
    means = [np.mean(found[i], axis=0) for i in range(4)]
    expected = np.array([[np.abs(a - b).sum() for b in means] for a in means])
    np.testing.assert_allclose(centroids.distances(least=1), expected / expected.max(), atol=1e-12)
    assert centroids.counts.tolist() == [len(found[i]) for i in range(4)]


def test_a_class_hardly_seen_has_no_distance() -> None:
    centroids = Centroids(3)
    labels = torch.tensor([[[0, 0, 0], [1, 1, 2]]])
    centroids.add(torch.randn(1, 4, 2, 3), labels)
    distances = centroids.distances(least=2)
    assert np.isnan(distances[2]).all()
    assert np.isnan(distances[:, 2]).all()
    assert distances[0, 1] == distances[1, 0] == 1.0
    with pytest.raises(BadInput, match="expected at least two"):
        centroids.distances(least=3)


def test_what_is_refused() -> None:
    centroids = Centroids(2)
    with pytest.raises(BadInput, match=r"class 5, expected 0\.\.1"):
        centroids.add(torch.randn(1, 2, 1, 1), torch.tensor([[[5]]]))
    centroids.add(torch.ones(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    with pytest.raises(BadInput, match="collapsed"):
        centroids.distances(least=1)
    with pytest.raises(BadInput, match="alpha"):
        blend(np.zeros((20, 20)), severity(TOWN), float("nan"))


def test_alpha_falls_from_ten_to_nothing() -> None:
    assert [alpha_at(i, 5) for i in range(5)] == [10.0, 7.5, 5.0, 2.5, 0.0]
    assert alpha_at(0, 1) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 10.0, 1e6]))
def test_the_blend_lies_between_its_parts(seed: int, alpha: float) -> None:
    before = severity(TOWN)
    rng = np.random.default_rng(seed)
    learnt = rng.uniform(0, 1, (20, 20)) * (1 - np.eye(20))
    learnt[3] = learnt[:, 3] = np.nan
    blended = blend(learnt, before, alpha).cost
    raw = (learnt + alpha * before.cost) / (1 + alpha)
    raw[3], raw[:, 3] = before.cost[3], before.cost[:, 3]
    np.testing.assert_allclose(blended, raw / raw.max(), atol=1e-12)
    assert blended.max() == 1.0
    if alpha == 1e6:
        np.testing.assert_allclose(blended, before.cost, atol=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig(data="recording:none", size=(64, 128))
    config.save(folder / "config.yaml")
    save_model(folder, build_model("enet", len(TOWN)), config, TOWN)
    return folder


def test_a_predefined_matrix_of_another_scale_weighs_the_same() -> None:
    before = severity(TOWN)
    tenfold = GroundMatrix("mine", TOWN.name, TOWN.classes, 10 * before.cost)
    learnt = np.random.default_rng(0).uniform(0, 1, before.cost.shape)
    learnt[3] = learnt[:, 3] = np.nan
    for kind in ("linear", "huber"):
        expected = blend(learnt, before, 2.0, kind=kind, tau=0.1).cost
        np.testing.assert_allclose(blend(learnt, tenfold, 2.0, kind=kind, tau=0.1).cost, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hubert"}, "unknown ground metric 'hubert'"),
        ({"kind": "power", "rho": -1.0}, "rho is -1.0, expected a number above 0"),
        ({"rho": -1.0}, "rho is -1.0, expected a number above 0"),
        ({"tau": float("nan")}, "tau is nan, expected a number above 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0, expected a number above 0"),
        ({"first_alpha": -3.0}, "first_alpha is -3.0"),
    ],
)
def test_a_blend_that_cannot_be_is_refused_before_the_driving(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        GroundConfig(**change).check()


def test_the_first_matrix_is_bent_as_the_later_ones(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("roadworthy.agent.ground_learning.run_tasks", interrupt)
    with pytest.raises(KeyboardInterrupt):
        learn_ground(run, tmp_path / "learning", GroundConfig(kind="huber", tau=0.1))
    first = load_ground(round_folder(tmp_path / "learning", 0) / "ground-before.yaml", TOWN)
    np.testing.assert_allclose(first.cost, severity(TOWN).with_metric("huber", tau=0.1).cost)


def test_the_stretches_of_one_learning_follow_one_schedule() -> None:
    whole = LearnConfig.fine_tune(600)
    parts = [whole.part(index, 3) for index in range(3)]
    assert [part.critic_share for part in parts] == [0.5, 0.0, 0.0]
    assert [part.learning_rate for part in parts] == pytest.approx([1e-5, 2e-5 / 3, 1e-5 / 3])
    assert [part.last_rate for part in parts] == pytest.approx([2e-5 / 3, 1e-5 / 3, 0.0])


def test_a_driver_from_nothing_goes_on_learning_with_its_trunk(run: Path, tmp_path: Path) -> None:
    world = DriveConfig(vehicles=(0, 0), walkers=(0, 0), max_steps=20, threads=1)
    config = GroundConfig(rounds=2, drive_steps=40, keep_every=4, segmenter_steps=1, batch_size=2, world=world)
    learn_ground(run, tmp_path / "learning", config)
    first, second = (load_policy(round_folder(tmp_path / "learning", index) / "policy")[0] for index in range(2))
    changed = [
        name
        for (name, one), two in zip(first.state_dict().items(), second.state_dict().values(), strict=True)
        if "features_extractor" in name and not torch.equal(one, two)
    ]
    assert changed
    kept = load_examples(round_folder(tmp_path / "learning", 1) / "policy")
    assert export_policy(second, tmp_path / "policy.onnx", kept).observations >= 1


def test_two_rounds_in_the_town_and_on_after_an_interruption(run: Path, tmp_path: Path) -> None:
    world = DriveConfig(vehicles=(2, 2), walkers=(2, 2), max_steps=40, threads=1)
    config = GroundConfig(rounds=2, drive_steps=100, keep_every=5, segmenter_steps=2, batch_size=4, world=world)
    matrix = learn_ground(run, tmp_path / "learning", config)
    history = json.loads((tmp_path / "learning" / "history.json").read_text())["rounds"]
    assert [entry["alpha"] for entry in history] == [10.0, 0.0]
    assert all(15 <= entry["frames"] <= 21 for entry in history)
    assert {"road", "sky", "building"} <= set(history[0]["seen"])
    # Early on the experts' matrix, at the end the learnt one, which is symmetric among the classes that were seen.
    seen = [TOWN.index(name) for name in history[1]["seen"]]
    last, first = matrix.cost[np.ix_(seen, seen)], np.array(history[0]["cost"])
    assert np.abs(first - severity(TOWN).cost).max() < 0.2
    np.testing.assert_allclose(last, last.T, atol=1e-9)
    assert np.abs(last - severity(TOWN).cost[np.ix_(seen, seen)]).max() > 0.2
    assert load_ground(tmp_path / "learning" / "ground.yaml", TOWN).cost.tolist() == matrix.cost.tolist()
    # The figures of the last round can be had again from its files.
    network, _, _ = load_run(tmp_path / "learning" / "round-01" / "segmenter")
    rounds = [f"recording:{round_folder(tmp_path / 'learning', index) / 'recording'}" for index in range(2)]
    again = measure_centroids(network, rounds, batch_size=4)
    np.testing.assert_allclose(blend(again.distances(), severity(TOWN), 0.0).cost, matrix.cost, atol=1e-9)
    # A finished learning is not driven again, and a folder belongs to one learning.
    assert learn_ground(run, tmp_path / "learning", config).cost.tolist() == matrix.cost.tolist()
    with pytest.raises(BadInput, match=r"another learning \(different: seed\)"):
        learn_ground(run, tmp_path / "learning", replace(config, seed=5))


def test_the_policys_gradient_changes_the_encoder_and_the_segmenter_goes_on_from_there(run: Path, tmp_path: Path) -> None:
    world = DriveConfig(vehicles=(0, 0), walkers=(0, 0), max_steps=40, threads=1)
    config = GroundConfig(rounds=1, drive_steps=60, keep_every=2, segmenter_steps=1, batch_size=2, world=world)
    learn_ground(run, tmp_path / "learning", replace(config, policy_gradient=True))
    encoder, _, _ = load_run(tmp_path / "learning" / "round-00" / "encoder")
    before, after = load_run(run)[0].state_dict(), encoder.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert not any("running" in name for name in moved)
    trained = load_config(tmp_path / "learning" / "round-00" / "segmenter" / "config.yaml")
    assert trained.init is not None
    assert Path(trained.init) == tmp_path / "learning" / "round-00" / "encoder"


def test_a_random_driver_leaves_frames_to_measure_on(run: Path, tmp_path: Path) -> None:
    world = DriveConfig(vehicles=(0, 0), walkers=(0, 0), rig=CameraRig(width_px=128, height_px=64), max_steps=40, threads=1)
    random_frames(tmp_path / "frames", world, steps=60, keep_every=5, seed=3)
    found = measure_centroids(load_run(run)[0], [f"recording:{tmp_path / 'frames'}"])
    assert int(found.counts.sum()) > 0
    seen = [name for name, there in zip(TOWN.classes, found.seen(), strict=True) if there]
    assert {"road", "sky"} <= set(seen)


def test_a_run_of_another_taxonomy_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(data="camvid:none", size=(64, 128))
    config.save(tmp_path / "run" / "config.yaml")
    save_model(tmp_path / "run", build_model("enet", len(CAMVID)), config, CAMVID)
    with pytest.raises(BadInput, match="expected 'town'"):
        learn_ground(tmp_path / "run", tmp_path / "out", GroundConfig())
    with pytest.raises(BadInput, match="rounds is 0"):
        learn_ground(tmp_path / "run", tmp_path / "out", GroundConfig(rounds=0))

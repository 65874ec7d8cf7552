"""One tester for every registered objective, and every registered segmenter in the loop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.config import TrainConfig
from roadworthy.train.data import open_dataset
from roadworthy.train.data.frames import Frames
from roadworthy.train.data.pseudo import PseudoFacts, save_facts, write_pseudo_labels
from roadworthy.train.fit import fit
from roadworthy.train.ground import severity
from roadworthy.train.models import MODELS, build_model, patchgan
from roadworthy.train.objectives import OBJECTIVES, Batch, Setting, build_objective

# Registered objectives whose default options are made for long trainings, shortened for these tests, and those that are terms
# for unlabelled frames beside another objective.
SHORT = {
    "gambling": "gambling(segmenter_steps=1, gambler_steps=1)",
    "minent": "cross-entropy + minent",
    "advent": "cross-entropy + advent",
    "scene-adaptation": "cross-entropy + scene-adaptation(width=4, blocks=1, adversarial=0.1)",
    "self-training": "cross-entropy + self-training",
}
SUM = "0.5*cross-entropy(weights=enet) + wasserstein(metric=huber)"
SPECS = [*(SHORT.get(name, name) for name in OBJECTIVES), SUM, "wasserstein(smoothing=0.1)"]
STEPS = {
    "wasserstein": 120,
    "wasserstein(smoothing=0.1)": 120,
    SHORT["scene-adaptation"]: 80,  # its three networks share the segmenter's first steps
}  # from random weights it learns slowly, which is why its paper starts from cross-entropy

HEAVY = ("unet", "fcn8s", "resnet50", "resnet101")  # more parameters than a test should write to disk
NETWORKS = [name for name in MODELS if name != "plain"]
LIGHT = [name for name in NETWORKS if not name.endswith(HEAVY)]


@pytest.fixture(autouse=True)
def narrow_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    """PatchGAN's layers with an eighth of their channels: 32x64 pixels do not need 2.8 million parameters."""
    monkeypatch.setattr(patchgan, "WIDTHS", (8, 16, 32, 64))


@pytest.mark.parametrize("objective", SPECS)
def test_every_objective_learns_a_tiny_task(objective: str, tiny_camvid: Path, tmp_path: Path) -> None:
    plan = TrainConfig(
        data=f"camvid:{tiny_camvid}", model="plain", size=(32, 64), objective=objective, steps=STEPS.get(objective, 40),
        batch_size=4, learning_rate=1e-2, threads=1, workers=1, tensorboard=False,
        target=target_for(objective, tiny_camvid, (32, 64), tmp_path / "pseudo"),
    )  # fmt: skip
    scores = fit(plan, tmp_path / "run").validation
    # Sky and road by majority alone would give 0.5 of the pixels; the car must be found too.
    assert scores.accuracy > 0.9
    assert all(score is not None and score > 0.4 for name, score in scores.iou.items() if name in ("road", "car"))


def target_for(objective: str, folder: Path, size: tuple[int, int], pseudo: Path) -> str | None:
    """The frames that an objective adapts to, if it does: those of the tiny data set, with pseudo-labels if it wants some."""
    target = f"camvid:{folder}"
    if "self-training" in objective:
        write_certain_labels(target, size, pseudo)
        return f"pseudo:{pseudo}"
    return target if any(name in objective for name in ("minent", "advent", "scene-adaptation")) else None


def write_certain_labels(target: str, size: tuple[int, int], folder: Path) -> None:
    """Write the pseudo-labels of a network that is right and certain everywhere."""
    frames = Frames(open_dataset(target, "train"), size)
    for sample in (frames[index] for index in range(len(frames))):
        soft = np.where(sample.labels == np.arange(len(CAMVID))[:, None, None], 255, 0).astype(np.uint8)  # [N, H, W]
        certain, entropy = np.full(size, 255, np.uint8), np.zeros(size, np.uint8)
        write_pseudo_labels(folder, sample.name, soft, certain, entropy, CAMVID)
    save_facts(folder, PseudoFacts(target, "", "cbst", 1.0, size, CAMVID.classes, (0.0,) * len(CAMVID), 1.0))


def covering(networks: list[str]) -> list[tuple[str, str]]:
    """Every network with one objective and every objective with one network, in turns.

    All pairs would take minutes, and an objective sees logits, whatever made them; a critic that depends on the network (the
    gambler) has pairs of its own below.
    """
    count = max(len(networks), len(SPECS))
    return [(networks[index % len(networks)], SPECS[index % len(SPECS)]) for index in range(count)]


@pytest.mark.parametrize(("model", "objective"), covering(LIGHT))
def test_segmenters_and_objectives_train_together(model: str, objective: str, tiny_camvid: Path, tmp_path: Path) -> None:
    # 64x64 pixels leave the deepest map of every network more than one cell, which a batch normalisation needs.
    plan = TrainConfig(
        data=f"camvid:{tiny_camvid}", model=model, size=(64, 64), objective=objective, steps=2, batch_size=2, threads=1,
        workers=1, tensorboard=False, target=target_for(objective, tiny_camvid, (64, 64), tmp_path / "pseudo"),
    )  # fmt: skip
    result = fit(plan, tmp_path / "run")
    assert result.steps == 2
    assert all(math.isfinite(value) for value in result.losses.values())


GAMBLERS = [(name, SHORT["gambling"]) for name in ("enet", "unet", "pspnet-resnet18")]  # one of each family of gamblers


@pytest.mark.parametrize(("model", "objective"), [*covering([name for name in NETWORKS if name not in LIGHT]), *GAMBLERS])
def test_both_players_get_gradients(model: str, objective: str) -> None:
    torch.manual_seed(0)
    setting = Setting(model, CAMVID, np.ones(11, np.int64), severity(CAMVID), 10)
    network, goal = build_model(model, 11), build_objective(objective, setting)
    goal.attach(network, goal.critic)
    soft = torch.softmax(torch.randn(2, 11, 64, 64), 1)
    batch = Batch(torch.randn(2, 3, 64, 64), torch.randint(0, 11, (2, 64, 64)), torch.randn(2, 3, 64, 64), soft)
    torch.stack(list(goal.segmenter_loss(batch).values())).sum().backward()
    learnt = [parameter for parameter in network.parameters() if parameter.grad is not None]
    assert any(bool(parameter.grad.any()) for parameter in learnt)  # not all: FCN-8s begins with zeros in its last layers
    assert all(bool(parameter.grad.isfinite().all()) for parameter in learnt)
    if goal.critic is not None:
        goal.critic.zero_grad()
        network.zero_grad()
        torch.stack(list(goal.critic_loss(batch).values())).sum().backward()
        assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in goal.critic.parameters())
        assert all(parameter.grad is None for parameter in network.parameters())

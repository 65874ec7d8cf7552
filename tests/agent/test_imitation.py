"""Cloning on a made-up world in which the right action can be read from the latents and the command."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from roadworthy.agent.demonstrations import Demonstrations
from roadworthy.agent.imitation import CloneConfig, clone, demonstration_latents, imitation_loss
from roadworthy.agent.observation import measurement_vector
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmentation, load

COUNT = 1200


def world(seed: int) -> tuple[np.ndarray, Demonstrations]:
    """A bright column in the latent says where the lane is: steer there; the command adds a turn; slow cars get throttle."""
    rng = np.random.default_rng(seed)
    column = rng.integers(0, 16, COUNT)
    command = rng.integers(1, 5, COUNT)
    speed = rng.uniform(0, 10, COUNT)
    latents = rng.normal(0, 0.1, (COUNT, 3, 8, 16)).astype(np.float16)
    latents[np.arange(COUNT), 1, :, column] += 2.0
    steer = (column - 7.5) / 40 + np.select([command == 1, command == 2], [-0.2, 0.2], 0.0)
    throttle = np.clip((8 - speed) / 8, 0, 1)
    brake = np.clip((speed - 8) / 4, 0, 1)
    measurements = np.stack([measurement_vector(s, 50.0, 0.0, int(c)) for s, c in zip(speed, command, strict=True)])
    demonstrations = Demonstrations(
        frames=np.zeros((COUNT, 4, 4, 3), np.uint8),
        measurements=measurements,
        actions=np.stack([steer, throttle, brake], axis=1).astype(np.float32),
        episode=np.repeat(np.arange(COUNT // 20), 20),
        follows=np.arange(COUNT) % 20 > 0,
    )
    return latents, demonstrations


def test_a_clone_repeats_the_expert_on_new_scenes() -> None:
    latents, demonstrations = world(0)
    result = clone(latents, demonstrations, CloneConfig(steps=300, learning_rate=1e-3, hidden_share=0.0))
    assert result.validation["samples"] == 120
    assert {name: part.shape for name, part in result.examples.items()} == {"latents": (8, 2, 3, 8, 16), "measurements": (8, 9)}
    np.testing.assert_array_equal(result.examples["latents"][-1], latents[-2:])  # two ticks, as the environment gives them
    assert result.validation["steer"] < 0.05  # the expert's own spread is 0.15
    assert result.validation["throttle"] < 0.2  # its spread is 0.34
    new_latents, new = world(1)
    observation = {"latents": np.stack([new_latents[0], new_latents[0]]), "measurements": new.measurements[0]}
    assert result.policy.act(observation)[0] == pytest.approx(new.actions[0, 0], abs=0.12)


def test_a_clone_brakes_for_what_is_rare() -> None:
    """In one frame of thirty something faint stands ahead: errors count as magnitudes, so the median expert never brakes."""

    def rare(seed: int) -> tuple[np.ndarray, Demonstrations, np.ndarray]:
        latents, demonstrations = world(seed)
        blocked = np.random.default_rng(seed + 100).random(COUNT) < 1 / 30
        latents[blocked, 2, 3:6, 7:9] += 1.0
        actions = demonstrations.actions.copy()
        actions[:, 1:] = np.where(blocked[:, None], (0.0, 0.6), (0.4, 0.0))
        return latents, replace(demonstrations, actions=actions), blocked

    latents, demonstrations, _ = rare(0)
    policy = clone(latents, demonstrations, CloneConfig(steps=200, learning_rate=1e-3, hidden_share=0.0)).policy
    new_latents, new, blocked = rare(1)
    pairs = np.stack([new_latents, new_latents], 1)  # [N, 2, C, h, w]
    chosen = np.concatenate([np.flatnonzero(blocked), np.flatnonzero(~blocked)[:60]])
    brakes = np.array([policy.act({"latents": pairs[i], "measurements": new.measurements[i]})[2] > 0.2 for i in chosen])
    assert brakes[blocked[chosen]].mean() > 0.8
    assert brakes[~blocked[chosen]].mean() < 0.1


def test_damage_and_distance_do_not_change_what_a_clone_does() -> None:
    latents, demonstrations = world(0)
    policy = clone(latents, demonstrations, CloneConfig(steps=150, learning_rate=1e-3, hidden_share=0.0)).policy
    seen = {"latents": np.stack([latents[5], latents[5]]), "measurements": demonstrations.measurements[5].copy()}
    before = policy.act(seen)
    seen["measurements"][1:3] = (200.0, 12.0)
    np.testing.assert_allclose(policy.act(seen), before, atol=0.1)


def test_the_same_seed_gives_the_same_clone() -> None:
    latents, demonstrations = world(0)
    first, second = (clone(latents, demonstrations, CloneConfig(steps=3)).train_loss for _ in range(2))
    assert first == second


def test_the_loss_is_zero_at_the_expert_and_ignores_negative_pedals() -> None:
    expert = torch.tensor([[0.1, 0.5, 0.0]])
    assert imitation_loss(expert, expert) == 0.0
    slight, strong = (imitation_loss(torch.tensor([[0.1, 0.5, brake]]), expert) for brake in (-0.2, -0.9))
    assert slight == strong
    assert imitation_loss(torch.tensor([[0.2, 0.5, 0.0]]), expert) > 0.5


def test_latents_come_pooled_and_in_order() -> None:
    class Twice:
        latent_shape = (1, 32, 64)

        def __call__(self, frames: np.ndarray) -> Segmentation:
            value = frames[:, 0, 0, 0].astype(np.float32)
            return Segmentation(None, None, np.broadcast_to(value[:, None, None, None], (len(frames), 1, 32, 64)).copy())

    _, demonstrations = world(0)
    demonstrations.frames[:, 0, 0, 0] = np.arange(COUNT) % 200
    latents = demonstration_latents(Twice(), demonstrations)
    assert latents.shape == (COUNT, 1, 16, 32)
    assert latents.dtype == np.float16
    np.testing.assert_array_equal(latents[:, 0, 3, 3], np.arange(COUNT) % 200)


def test_the_previous_sample_is_the_tick_before_or_itself() -> None:
    _, demonstrations = world(0)
    np.testing.assert_array_equal(demonstrations.previous(np.array([0, 1, 20, 25])), [0, 0, 20, 24])


def test_frames_of_another_size_than_the_segmenter_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    model = importlib.import_module("tiny_model").write_tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(BadInput, match=r"takes frames of 256x128, these demonstrations have 4x4: .*demonstrate --size 256x128"):
        demonstration_latents(load(model, device="cpu", threads=1), world(0)[1])

"""The policy's gradient reaches the encoder when it is asked to, and only then."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from roadworthy.agent.encoder import EncoderGradient, NetworkLatents, pooled
from roadworthy.agent.learn import LearnConfig, learn
from roadworthy.agent.observation import Observation, action_space, measurement_vector, observation_space
from roadworthy.agent.policy import build_policy
from roadworthy.runtime.observation import pool_latent
from roadworthy.train.models import build_model

SIZE = (32, 64)


class Watching(gymnasium.Env):
    """Pictures of noise behind a network's latents; the brighter the left half, the more the reward wants to go left."""

    def __init__(self, latents: NetworkLatents) -> None:
        assert latents.latent_shape is not None
        self._latents = latents
        parts = dict(observation_space(latents.latent_shape).items())
        self.observation_space = spaces.Dict({**parts, "frames": spaces.Box(0, 255, (2, *SIZE, 3), np.uint8)})
        self.action_space = action_space()

    def _look(self) -> Observation:
        frames = self.np_random.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
        self.side = float(frames[1, :, :32].mean() - frames[1, :, 32:].mean())
        latent = self._latents(frames).latent
        assert latent is not None
        seen = {"latents": pool_latent(latent), "frames": frames}
        return {**seen, "measurements": measurement_vector(5.0, 50.0, 0.0, 4)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        reward = -float(action[0]) * self.side
        return self._look(), reward, False, self.np_random.random() < 0.1, {}


def run(*, gradient: bool, config: LearnConfig) -> dict[str, torch.Tensor]:
    """Learn a little, and return how far each of the network's tensors moved."""
    torch.manual_seed(0)
    network = build_model("enet", 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    latents = NetworkLatents(network, SIZE)
    assert latents.latent_shape is not None
    encoder = EncoderGradient(network, learning_rate=1e-3) if gradient else None
    learn(build_policy(latents.latent_shape, 0), Watching(latents), config, encoder=encoder)
    return {name: (value - before[name]).abs().max() for name, value in network.state_dict().items()}


def test_the_encoder_learns_from_the_policy_only_when_asked() -> None:
    config = LearnConfig(steps=40)
    assert all(moved == 0 for moved in run(gradient=False, config=config).values())
    moved = run(gradient=True, config=config)
    learnt = {name for name, far in moved.items() if far > 0}
    network = build_model("enet", 4)
    used = gradient_of(network)
    assert used  # the encoder, and no part of the decoder
    assert learnt <= used
    assert len(learnt) > 0.9 * len(used)
    assert not {name for name in learnt if "running" in name}  # batch statistics stay


def gradient_of(network: nn.Module) -> set[str]:
    """Name the parameters that the latent is a function of."""
    network.eval().encode(torch.rand(1, 3, *SIZE)).sum().backward()
    return {name for name, parameter in network.named_parameters() if parameter.grad is not None}


def test_while_the_critic_learns_alone_the_encoder_stays() -> None:
    moved = run(gradient=True, config=LearnConfig(steps=40, critic_share=1.0))
    assert all(far == 0 for far in moved.values())


@pytest.mark.parametrize("cells", [(16, 32), (8, 16), (17, 40), (32, 64), (45, 61)])
def test_pooling_is_the_environments(cells: tuple[int, int]) -> None:
    latents = np.random.default_rng(0).normal(0, 3, (2, 3, *cells)).astype(np.float32)
    found = pooled(torch.from_numpy(latents)).numpy()
    np.testing.assert_allclose(found, pool_latent(latents).astype(np.float32), atol=0.01)

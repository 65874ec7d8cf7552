"""A2C with the driving policy on a world of one step whose best action is known."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from roadworthy.agent.learn import LearnConfig, learn
from roadworthy.agent.observation import action_space, measurement_vector, observation_space
from roadworthy.agent.policy import DrivePolicy, build_policy
from roadworthy.runtime.errors import BadInput

LATENT = (1, 8, 8)


class SteerToTheLight(gymnasium.Env):
    """The latent is bright on one side; the reward is highest when the action steers there by half."""

    def __init__(self) -> None:
        self.observation_space = observation_space(LATENT)
        self.action_space = action_space()

    def _look(self) -> dict[str, np.ndarray]:
        self.side = int(self.np_random.integers(2))
        latents = np.zeros((2, *LATENT), np.float16)
        latents[..., 4 * self.side : 4 * self.side + 4] = 1.0
        return {"latents": latents, "measurements": measurement_vector(5.0, 50.0, 0.0, 4)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = -abs(float(action[0]) - (0.5 if self.side else -0.5))
        return self._look(), reward, True, False, {}


def mean_reward(policy: DrivePolicy) -> float:
    env = SteerToTheLight()
    observation, _ = env.reset(seed=9)
    rewards = []
    for _ in range(40):
        observation, reward, *_ = env.step(policy.act(observation))
        rewards.append(reward)
    return float(np.mean(rewards))


def test_it_learns_where_to_steer() -> None:
    policy = build_policy(LATENT, seed=0)
    before = mean_reward(policy)
    config = LearnConfig(steps=2000, learning_rate=7e-4, entropy=0.0, discount=0.0, log_std=-1.0, threads=1)
    result = learn(policy, SteerToTheLight(), config)
    assert result.episodes == len(result.returns) == 2000
    assert before < -0.4
    assert mean_reward(policy) > -0.2


def test_while_the_critic_learns_alone_the_actor_stays() -> None:
    policy = build_policy(LATENT, seed=0)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    learn(policy, SteerToTheLight(), LearnConfig(steps=200, critic_share=1.0))
    changed = {name for name, value in policy.state_dict().items() if not value.equal(before[name])}
    assert changed
    assert all("value" in name for name in changed)


def test_fine_tuning_leaves_the_trunk_alone() -> None:
    policy = build_policy(LATENT, seed=0)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    learn(policy, SteerToTheLight(), LearnConfig.fine_tune(steps=200))
    changed = {name for name, value in policy.state_dict().items() if not value.equal(before[name])}
    assert any("action_net" in name for name in changed)
    assert not any("features_extractor" in name for name in changed)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(BadInput, match="critic_share 2"):
        learn(build_policy(LATENT, 0), SteerToTheLight(), LearnConfig(steps=10, critic_share=2.0))

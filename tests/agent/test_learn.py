"""What a learner changes and leaves alone, kills and checkpoints, replay memory, bad settings: on a world of one step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from roadworthy.agent.learn import ALGOS, LearnConfig, learn
from roadworthy.agent.observation import action_space, measurement_vector, observation_space
from roadworthy.agent.policy import build_policy, load_policy, save_policy
from roadworthy.agent.replay import OTHER_BYTES, check_memory, describe_memory, step_bytes
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


class Counting(SteerToTheLight):
    """What it shows depends on how often it was looked at, so that a resumed learning can see what the first part left."""

    def __init__(self, looks: int = 0) -> None:
        super().__init__()
        self.looks = looks

    def _look(self) -> dict[str, np.ndarray]:
        self._np_random = np.random.default_rng(self.looks)
        self.looks += 1
        return super()._look()


RESUMED = {
    "a2c": LearnConfig(steps=120, checkpoint_every=60),
    "ppo": LearnConfig("ppo", 128, rollout_steps=32, minibatch=16, epochs=2, checkpoint_every=64),
    "sac": LearnConfig("sac", 160, rollout_steps=4, minibatch=16, replay_steps=200, warm_up_steps=120, checkpoint_every=100),
}


class Killed(Exception):
    pass


@pytest.fixture
def killer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Progress that dies ten steps after the first checkpoint."""
    monkeypatch.setattr("roadworthy.agent.learn.SAY_EVERY_S", -1.0)  # told at every step
    left = [10]

    def progress(_: str, fraction: float) -> None:
        assert fraction <= 1.0
        left[0] -= (tmp_path / "last.ckpt.safetensors").exists()
        if left[0] == 0:
            raise Killed

    return progress


@pytest.mark.parametrize("algo", ALGOS)
def test_a_killed_learning_goes_on_to_the_same_weights(algo: str, tmp_path: Path, killer: Callable[[str, float], None]) -> None:
    config = RESUMED[algo]
    whole, halved = build_policy(LATENT, seed=0), build_policy(LATENT, seed=0)
    expected = learn(whole, Counting(), config)
    checkpoint = tmp_path / "last.ckpt.safetensors"
    with pytest.raises(Killed):
        learn(halved, Counting(), config, killer, checkpoint=checkpoint)
    np.random.seed(99)  # noqa: NPY002  # another process has other random states
    torch.manual_seed(99)
    steps = config.steps // 2 if algo != "sac" else 100
    looks = 2 * steps  # one at the end of each episode and one at the start of the next
    resumed = build_policy(LATENT, seed=5)
    found = learn(resumed, Counting(looks), config, checkpoint=checkpoint)
    assert found.steps == expected.steps == config.steps
    assert found.drives == expected.drives
    for name, value in whole.state_dict().items():
        if algo != "sac" or "value" not in name:  # SAC has critics of its own and leaves ours alone
            assert torch.equal(resumed.state_dict()[name], value), name


def test_a_checkpoint_of_another_learning_is_refused(tmp_path: Path, killer: Callable[[str, float], None]) -> None:
    checkpoint = tmp_path / "last.ckpt.safetensors"
    with pytest.raises(Killed):
        learn(build_policy(LATENT, 0), Counting(), RESUMED["a2c"], killer, checkpoint=checkpoint)
    with pytest.raises(BadInput, match="another entropy, seed"):
        learn(build_policy(LATENT, 0), Counting(), replace(RESUMED["a2c"], seed=3, entropy=0.5), checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        learn(build_policy(LATENT, 0), Counting(), RESUMED["a2c"], checkpoint=checkpoint)


def test_what_sac_learns_is_a_driving_policy_that_saves_and_loads(tmp_path: Path) -> None:
    policy = build_policy(LATENT, 0)
    start = {name: value.clone() for name, value in policy.state_dict().items()}
    result = learn(policy, Counting(), RESUMED["sac"])
    assert policy.squashed
    assert not torch.equal(policy.action_net.weight, start["action_net.weight"])
    assert not torch.equal(policy.trunk.see[0].weight, start["features_extractor.see.0.weight"])
    save_policy(policy, tmp_path, {}, result.examples)
    loaded, facts = load_policy(tmp_path)
    seen, _ = Counting(3).reset()
    np.testing.assert_array_equal(loaded.act(seen), policy.act(seen))
    assert facts["squashed"]
    with pytest.raises(BadInput, match="trained by SAC"):
        learn(loaded, Counting(), RESUMED["a2c"])


def test_a_replay_buffer_that_does_not_fit_is_refused_with_what_would(tmp_path: Path) -> None:
    space = observation_space((128, 16, 32))  # two ENet latents: half a megabyte per stored step
    assert step_bytes(space) == 2 * (2 * 128 * 16 * 32 * 2 + 9 * 4) + OTHER_BYTES
    assert describe_memory(space, 10_000) == "a replay buffer of 10000 steps x 524 kB = 5.24 GB"
    for folder in (None, tmp_path / "replay"):
        with pytest.raises(BadInput, match=r"= 52\d\d\.\d\d GB is more than 70% .* at most \d+ steps fit: --replay"):
            check_memory(space, 10_000_000, folder)
    check_memory(space, 10, tmp_path / "replay")


def test_impossible_settings_are_refused() -> None:
    for changes, message in (
        ({"critic_share": 2.0}, "critic_share is 2"),
        ({"algo": "dqn"}, "unknown algorithm 'dqn'; known: a2c, ppo, sac"),
        ({"rollout_steps": 0}, "rollout_steps is 0"),
        ({"algo": "sac", "replay_steps": 10}, "expected at least the 500 of the warm-up"),
    ):
        with pytest.raises(BadInput, match=message):
            learn(build_policy(LATENT, 0), SteerToTheLight(), replace(LearnConfig(steps=10), **changes))

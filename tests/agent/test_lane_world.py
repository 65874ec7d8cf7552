"""On a tiny known world each learner, and imitation, reaches a stated threshold with the real policy.

The best driver makes 23.5 per episode, the best baseline (constant throttle) 10.7. The threshold is half-way between them.
"""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from roadworthy.agent.demonstrations import Demonstrations
from roadworthy.agent.imitation import CloneConfig, clone
from roadworthy.agent.learn import LearnConfig, learn
from roadworthy.agent.policy import build_policy

BEST, FORWARD = 23.5, 10.7
THRESHOLD = (BEST + FORWARD) / 2  # 17.1
LEARNERS = {
    "a2c": LearnConfig("a2c", 7000, entropy=0.0, log_std=-1.0),  # the paper's rate and rollouts, more exploration
    "ppo": replace(LearnConfig.scratch("ppo", 6144), rollout_steps=32, learning_rate=1e-3, epochs=8),
    "sac": replace(
        LearnConfig.scratch("sac", 3000), replay_steps=3000, learning_rate=1e-3, temperature=0.1, log_std=-1.0, minibatch=48
    ),
}
ENVIRONMENTS = {"a2c": 1, "ppo": 8, "sac": 1}


@pytest.fixture(scope="module")
def world() -> Iterator[ModuleType]:
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("lane_world")
    sys.path.remove(str(Path(__file__).parent))


def test_the_world_is_known(world: ModuleType) -> None:
    assert world.mean_return(world.Best()) == pytest.approx(BEST, abs=0.1)
    baselines = {name: world.mean_return(driver) for name, driver in world.BASELINES.items()}
    assert baselines["forward"] == pytest.approx(FORWARD, abs=0.1)
    assert baselines["random"] < 0
    assert baselines["brake"] < 0


@pytest.mark.parametrize("algo", LEARNERS)
def test_a_learner_comes_more_than_half_way_to_the_best(world: ModuleType, algo: str) -> None:
    policy = build_policy(world.LATENT, seed=0)
    assert world.mean_return(policy, 5) < FORWARD
    result = learn(policy, DummyVecEnv([world.LaneWorld] * ENVIRONMENTS[algo]), LEARNERS[algo])
    assert result.steps >= LEARNERS[algo].steps
    assert world.mean_return(policy) > THRESHOLD


def test_imitation_comes_nearly_to_the_best(world: ModuleType) -> None:
    env, best = world.LaneWorld(), world.Best()
    frames, rng = [], np.random.default_rng(0)
    for episode in range(60):
        seen, _ = env.reset(seed=1000 + episode)
        over, follows = False, False
        while not over:
            action = best.act(seen)
            frames.append((seen["latents"][1], seen["measurements"], action, episode, follows))
            disturbed = action + np.array([rng.normal(0, 0.4), 0, 0], np.float32)  # recoveries, as in the demonstrations
            seen, _, ended, truncated, _ = env.step(disturbed)
            over, follows = ended or truncated, True
    latents, measurements, actions, episodes, followed = (np.stack(part) for part in zip(*frames, strict=True))
    blank = np.zeros((len(frames), 2, 2, 3), np.uint8)
    shown = Demonstrations(blank, measurements, actions, episodes, followed)
    config = CloneConfig(
        steps=250, learning_rate=1e-3, hidden_share=0.0, turn_share=0.2, brake_share=0.0, stand_share=0.0, start_share=0.1
    )
    assert world.mean_return(clone(latents, shown, config).policy) > BEST - 2.0

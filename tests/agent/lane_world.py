"""A tiny known world with the driving environment's spaces: keep the lane, pick up speed, and do not leave the road.

The latent shows the lane as a bright column; the car stands beside its middle at the start. What is best is known: full
throttle, and steering to the middle, which takes at most two steps.
"""

from typing import Any

import gymnasium
import numpy as np

from roadworthy.agent.baselines import Actor, ConstantDriver, RandomDriver
from roadworthy.agent.observation import Observation, action_space, measurement_vector, observation_space

LATENT = (1, 8, 16)
STEPS = 25  # of an episode
ASIDE_M = 1.5  # [m] how far beside the middle an episode may begin
ROAD_M = 2.0  # [m] half the road: beyond it is a crash
SIDE_MPS, GAIN_MPS, DRAG_MPS = 1.0, 2.0, 0.2  # [m/s per step] at full steering, at full throttle or brake, and without either
FAST_MPS = 7.0  # [m/s] what the reward pays for at most


class LaneWorld(gymnasium.Env):
    """Reward per step: speed / 7 m/s up to 1, less |distance from the middle| / 2 m; leaving the road costs 5 and ends it."""

    def __init__(self) -> None:
        self.observation_space = observation_space(LATENT)
        self.action_space = action_space()

    def _look(self) -> Observation:
        latent = np.zeros(LATENT, np.float16)
        middle = 7.5 - 3.0 * self.aside_m  # the column where the lane is: to the left when the car stands right of it
        latent[0] = np.exp(-((np.arange(16) - middle) ** 2) / 2.0)
        previous, self.latent = getattr(self, "latent", latent), latent
        return {"latents": np.stack([previous, latent]), "measurements": measurement_vector(self.speed_mps, 50.0, 0.0, 4)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.aside_m, self.speed_mps, self.time = float(self.np_random.uniform(-ASIDE_M, ASIDE_M)), 0.0, 0
        if hasattr(self, "latent"):
            del self.latent
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        steer, throttle, brake = np.clip(action, (-1, 0, 0), 1)
        self.time += 1
        self.aside_m += SIDE_MPS * float(steer)
        self.speed_mps = float(np.clip(self.speed_mps + GAIN_MPS * (throttle - brake) - DRAG_MPS, 0.0, 2 * FAST_MPS))
        crashed = abs(self.aside_m) > ROAD_M
        reward = min(self.speed_mps / FAST_MPS, 1.0) - abs(self.aside_m) / ROAD_M - 5.0 * crashed
        return self._look(), float(reward), crashed, self.time >= STEPS, {}


class Best:
    """The best driver of this world: it reads the lane's place from the latent."""

    input_shapes: dict[str, tuple[int, ...]] = {}  # noqa: RUF012

    def act(self, observation: Observation) -> np.ndarray:
        column = observation["latents"][1, 0, 0].astype(np.float64)
        aside_m = (7.5 - (column * np.arange(16)).sum() / column.sum()) / 3.0
        return np.array([np.clip(-aside_m / SIDE_MPS, -1, 1), 1.0, 0.0], np.float32)


def mean_return(driver: Actor, episodes: int = 30) -> float:
    """Drive `episodes`, the same for every driver."""
    env = LaneWorld()
    total = 0.0
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            observation, reward, ended, truncated, _ = env.step(driver.act(observation))
            total, over = total + reward, ended or truncated
    return total / episodes


BASELINES = {"random": RandomDriver(0), "forward": ConstantDriver(0.0, 0.4, 0.0), "brake": ConstantDriver(0.0, 0.0, 1.0)}

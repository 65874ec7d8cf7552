"""The driving policy of arXiv 2008.04751 (section IV and figure 5), for Stable-Baselines3, saved without pickle.

Two latents -> conv 3x3x32, conv 3x3x16, FC 1024, FC 512; measurements -> FC 64, FC 64; both fused by FC 256, FC 128; then one
branch each for actor and critic, FC 64, FC 16; three outputs (steering, throttle, brake). ReLU throughout: the paper names no
activation. Strides and padding are not in the paper either: both convolutions pad by 1, the first has stride 2. On two ENet
latents (256 channels of 16 x 32) that costs 9 M multiply-adds instead of 38 M and still leaves 8 x 16 places to tell left
from right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from roadworthy.agent.observation import (
    MEASUREMENTS,
    LatentShape,
    Observation,
    action_space,
    observation_space,
    observation_spaces,
)
from roadworthy.agent.policy_scales import MEASUREMENT_CAP, MEASUREMENT_SCALES
from roadworthy.agent.segdepth import SEGDEPTH_PART, segdepth_space
from roadworthy.agent.segdepth_policy import SegDepthExtractor
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import atomic_path, write_text

WEIGHTS_FILE, FACTS_FILE, EXAMPLES_FILE = "policy.safetensors", "policy.json", "observations.safetensors"
FORMAT = "roadworthy-policy-2"
BRANCH = (64, 16)  # of actor and critic
INITIAL_LOG_STD = -2.0  # exploration of 0.14 per action around the imitated mean


class LatentMeasurementExtractor(BaseFeaturesExtractor):
    """The shared trunk: latents and measurements in two branches, fused to 128 features."""

    latent_mean: Tensor  # [2C]
    latent_variance: Tensor  # [2C]
    measurement_scale: Tensor  # [9]

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=128)
        latents = observation_space["latents"].shape
        assert latents is not None
        seen, channels, rows, columns = latents
        self.register_buffer("latent_mean", torch.zeros(seen * channels))
        self.register_buffer("latent_variance", torch.ones(seen * channels))
        self.register_buffer("measurement_scale", torch.tensor(MEASUREMENT_SCALES))
        reduced = -(-rows // 2) * -(-columns // 2)
        self.see = nn.Sequential(
            nn.Conv2d(seen * channels, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * reduced, 1024), nn.ReLU(),
            nn.Linear(1024, 512), nn.ReLU(),
        )  # fmt: skip
        self.measure = nn.Sequential(nn.Linear(MEASUREMENTS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.fuse = nn.Sequential(nn.Linear(512 + 64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Map latents `[B, 2, C, h, w]` and measurements `[B, 9]` to features `[B, 128]`."""
        latents = observations["latents"].float().flatten(1, 2)  # [B, 2C, h, w]
        # Batch norm with fixed statistics: one pass over the largest tensor instead of two.
        standard = F.batch_norm(latents, self.latent_mean, self.latent_variance, training=False)
        seen = self.see(standard)  # [B, 512]
        scaled = (observations["measurements"] / self.measurement_scale).clamp(max=MEASUREMENT_CAP)
        measured = self.measure(scaled)  # [B, 64]
        fused: Tensor = self.fuse(torch.cat([seen, measured], dim=1))  # [B, 576] -> [B, 128]
        return fused

    @torch.no_grad()
    def normalise_to(self, latents: Tensor) -> None:
        """Standardise each latent channel with the mean and deviation of `latents` `[n, C, h, w]`, a sample of its future."""
        seen = self.latent_mean.shape[0] // latents.shape[1]
        variance, mean = torch.var_mean(latents.float(), (0, 2, 3))  # [C] each
        self.latent_mean.copy_(mean.repeat(seen))
        self.latent_variance.copy_(variance.clamp(min=1e-6).repeat(seen))  # a dead channel stays at zero instead of exploding


@dataclass(frozen=True)
class Sense:
    """What a driver looks at: the part of the observation that says which it is, and what reads it."""

    part: str
    space: Callable[[tuple[int, ...]], spaces.Dict]  # from the shape of that part to the whole space
    extractor: type[BaseFeaturesExtractor]


# A new kind of observation is one line here.
SENSES: tuple[Sense, ...] = (
    Sense("latents", lambda shape: observation_space((shape[1], shape[2], shape[3])), LatentMeasurementExtractor),
    Sense(SEGDEPTH_PART, lambda shape: segdepth_space(shape[0], shape[1]), SegDepthExtractor),
)


def sense_of(space: spaces.Space[Any]) -> Sense:
    """Return what a driver with this observation space looks at; raises `BadInput` for a space that no policy is for."""
    for sense in SENSES:
        if isinstance(space, spaces.Dict) and sense.part in space.spaces:
            return sense
    raise BadInput(f"no policy sees {space}; expected an observation with one of: {', '.join(s.part for s in SENSES)}")


class DrivePolicy(ActorCriticPolicy):
    """The paper's actor-critic; give it to any on-policy algorithm of SB3 as its policy class.

    `squashed` actors put their outputs through tanh, as soft actor-critic trains them; the others are clipped.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Any,
        *,
        squashed: bool = False,
        **options: Any,
    ) -> None:
        defaults: dict[str, Any] = {
            "net_arch": {"pi": list(BRANCH), "vf": list(BRANCH)},
            "activation_fn": nn.ReLU,
            "features_extractor_class": sense_of(observation_space).extractor,
            "log_std_init": INITIAL_LOG_STD,
            "normalize_images": False,
        }
        super().__init__(observation_space, action_space, lr_schedule, **(defaults | options))
        self.squashed = squashed

    @property
    def trunk(self) -> BaseFeaturesExtractor:
        """The shared trunk of actor and critic."""
        return self.features_extractor

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each part of the observation that it takes."""
        return {name: tuple(space.shape) for name, space in observation_spaces(self.observation_space).items()}

    def mean_action(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the actor's mean `[B, 3]`, before clipping: what imitation regresses."""
        features: Tensor = self.trunk(observations)
        action: Tensor = self.action_net(self.mlp_extractor.forward_actor(features))
        return action.tanh() if self.squashed else action

    @torch.no_grad()
    def act(self, observation: Observation) -> npt.NDArray[np.float32]:
        """Return the deterministic action `float32 [3]` for one observation of the environment, one pedal at a time.

        A mean that is unsure presses throttle and brake together, and the car creeps. The harder-pressed pedal wins, as in the
        agent of arXiv 1710.02410.
        """
        self.set_training_mode(False)
        seen = {name: torch.from_numpy(np.asarray(part)[None]) for name, part in observation.items()}  # each [1, ...]
        action: npt.NDArray[np.float32] = self.mean_action(seen)[0].clamp(-1.0, 1.0).numpy()
        weaker = 2 if action[1] >= action[2] else 1
        action[weaker] = min(action[weaker], 0.0)
        return action


def build_policy(sees: spaces.Dict | LatentShape, seed: int, *, orthogonal: bool = True, squashed: bool = False) -> DrivePolicy:
    """Build an untrained policy, the same weights for the same seed.

    `sees` is an observation space, or the shape (C, h, w) of latents. `orthogonal` is SB3's initialisation; it takes a second,
    which weights that are loaded over it can save.
    """
    space = sees if isinstance(sees, spaces.Dict) else observation_space(sees)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DrivePolicy(space, action_space(), lambda _: 0.0, ortho_init=orthogonal, squashed=squashed)


def save_policy(
    policy: DrivePolicy, folder: Path, facts: Mapping[str, Any], examples: Mapping[str, npt.NDArray[Any]] | None = None
) -> None:
    """Write `policy.safetensors` and `policy.json` to `folder`; `facts` (JSON-able) say how it was trained.

    `examples` are a few observations of its training, each part `[n, ...]`: what an export can be checked on.
    """
    part = sense_of(policy.observation_space).part
    weights = {name: tensor.detach().contiguous() for name, tensor in unique_weights(policy).items()}
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary)
    if examples is not None:
        with atomic_path(folder / EXAMPLES_FILE) as temporary:
            save_arrays({name: np.ascontiguousarray(part) for name, part in examples.items()}, temporary)
    sees = {"part": part, "shape": list(policy.input_shapes[part])}
    record = {"format": FORMAT, "sees": sees, "squashed": policy.squashed, **facts}
    write_text(folder / FACTS_FILE, json.dumps(record, indent=2) + "\n")


def load_policy(folder: Path) -> tuple[DrivePolicy, dict[str, Any]]:
    """Read a policy and its facts from `folder`, unpickling nothing; raises `BadInput` for a damaged or foreign one."""
    facts_path, weights_path = folder / FACTS_FILE, folder / WEIGHTS_FILE
    for path in (facts_path, weights_path):
        if not path.is_file():
            raise BadInput(f"{path}: no such file; expected a policy folder with {FACTS_FILE} and {WEIGHTS_FILE}")
    try:
        facts = dict(json.loads(facts_path.read_text(encoding="utf-8")))
        if facts.get("format") != FORMAT:
            raise BadInput(
                f"{facts_path}: format {facts.get('format')!r}, expected {FORMAT!r}; train it again with this version"
            )
        part, shape = str(facts["sees"]["part"]), tuple(int(n) for n in facts["sees"]["shape"])
        space = next((sense.space(shape) for sense in SENSES if sense.part == part), None)
        weights = load_file(weights_path)
    except (ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise BadInput(f"{folder}: not a readable policy ({error!r}); train it again or copy it whole") from error
    if space is None:
        raise BadInput(f"{facts_path}: it sees {part!r}, which this version knows no policy for")
    squashed = bool(facts.get("squashed", False))
    policy = build_policy(space, seed=0, orthogonal=False, squashed=squashed)
    expected = {name: tuple(tensor.shape) for name, tensor in unique_weights(policy).items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != found:
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise BadInput(f"{weights_path}: weights do not fit the policy network: {', '.join(different[:4])}; train it again")
    policy.load_state_dict(weights, strict=False)
    policy.set_training_mode(False)
    return policy, facts


def load_examples(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the observations that were saved beside a policy, each part `[n, ...]`; raises `BadInput` when there are none."""
    try:
        return load_arrays(folder / EXAMPLES_FILE)
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"{folder}: no readable {EXAMPLES_FILE} ({error}); this driver kept no observations of its training: train it again"
        ) from error


def unique_weights(policy: DrivePolicy) -> dict[str, Tensor]:
    """Return the policy's tensors once each; SB3 registers the shared extractor under three names."""
    aliases = ("pi_features_extractor.", "vf_features_extractor.")
    return {name: tensor for name, tensor in policy.state_dict().items() if not name.startswith(aliases)}

from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from roadworthy.agent.policy import DrivePolicy, build_policy, load_policy, save_policy
from roadworthy.runtime.errors import BadInput

LATENT = (4, 16, 32)


def observation(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    measurements = np.array([5.0, 80.0, 0.0, 0, 0, 0, 1, 0, 0], np.float32)
    return {"latents": rng.normal(size=(2, *LATENT)).astype(np.float16), "measurements": measurements}


def test_the_network_is_the_papers() -> None:
    policy = build_policy((128, 16, 32), seed=0)
    trunk = policy.features_extractor
    shapes = [tuple(layer.weight.shape) for layer in trunk.see if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert shapes == [(32, 256, 3, 3), (16, 32, 3, 3), (1024, 16 * 8 * 16), (512, 1024)]
    assert [m.out_features for m in trunk.measure if isinstance(m, nn.Linear)] == [64, 64]
    assert [m.out_features for m in trunk.fuse if isinstance(m, nn.Linear)] == [256, 128]
    for branch in (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net):
        assert [m.out_features for m in branch if isinstance(m, nn.Linear)] == [64, 16]
    assert policy.action_net.out_features == 3


def test_the_same_seed_gives_the_same_policy() -> None:
    actions = [build_policy(LATENT, seed).act(observation()) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.allclose(actions[0], actions[2])


def test_standardised_latents_do_not_care_for_scale() -> None:
    sample = torch.from_numpy(np.random.default_rng(1).normal(size=(50, *LATENT)).astype(np.float32))
    plain, scaled = build_policy(LATENT, 0), build_policy(LATENT, 0)
    plain.features_extractor.normalise_to(sample)
    scaled.features_extractor.normalise_to(3 * sample + 2)
    seen = observation()
    moved = seen | {"latents": (3 * seen["latents"].astype(np.float32) + 2)}
    np.testing.assert_allclose(plain.act(seen), scaled.act(moved), atol=1e-3)


def test_it_does_its_mean_with_one_pedal_at_a_time() -> None:
    policy: DrivePolicy = build_policy(LATENT, 0)
    seen = observation()
    batch = obs_as_tensor({key: value[None] for key, value in seen.items()}, "cpu")
    for bias, expected in (
        ([0.1, 0.5, 0.3], [0.1, 0.5, 0.0]),
        ([0.1, 0.2, 0.3], [0.1, 0.0, 0.3]),
        ([-2.0, -0.5, 0.3], [-1, -0.5, 0.3]),
    ):
        with torch.no_grad():
            policy.action_net.weight.zero_()
            policy.action_net.bias.copy_(torch.tensor(bias))
        np.testing.assert_allclose(policy.mean_action(batch).detach().numpy()[0], bias, atol=1e-6)
        np.testing.assert_allclose(policy.act(seen), expected, atol=1e-6)


def test_saved_without_pickle_and_loaded_the_same(tmp_path: Path) -> None:
    policy = build_policy(LATENT, 3)
    policy.features_extractor.normalise_to(torch.randn(8, *LATENT) * 4)
    save_policy(policy, tmp_path / "p", {"segmenter": "cross-entropy", "seed": 3})
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["policy.json", "policy.safetensors"]
    loaded, facts = load_policy(tmp_path / "p")
    assert facts["segmenter"] == "cross-entropy"
    np.testing.assert_array_equal(loaded.act(observation()), policy.act(observation()))


@pytest.mark.parametrize("damage", ["missing", "truncated", "other network", "format"])
def test_a_bad_policy_folder_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    save_policy(build_policy(LATENT, 0), tmp_path, {})
    weights, facts = tmp_path / "policy.safetensors", tmp_path / "policy.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "other network":
        facts.write_text(facts.read_text().replace("32\n", "16\n"))
    else:
        facts.write_text(facts.read_text().replace("roadworthy-policy-2", "other"))
    with pytest.raises(BadInput, match=str(tmp_path)):
        load_policy(tmp_path)

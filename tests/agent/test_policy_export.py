"""The exported policy: the same controls as torch, alone and in `drive eval`, where torch is not installed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from roadworthy.agent.baselines import open_driver
from roadworthy.agent.env import controls
from roadworthy.agent.observation import Observation, measurement_vector
from roadworthy.agent.policy import SENSES, DrivePolicy, Sense, build_policy
from roadworthy.agent.policy_export import export_policy
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.observation import pool_latent
from roadworthy.runtime.policy import Pilot, load_policy

LATENT = (3, 8, 16)


def observations(count: int, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    rows = [measurement_vector(*rng.uniform((0, 0, 0), (12, 200, 30)), int(rng.integers(1, 7))) for _ in range(count)]
    return {"latents": rng.normal(0, 2, (count, 2, *LATENT)).astype(np.float16), "measurements": np.stack(rows)}


def lively_policy(*, squashed: bool) -> DrivePolicy:
    """Untrained actors hardly move (their last layer is scaled by 0.01); this one uses the whole range, both pedals too."""
    policy = build_policy(LATENT, 1, squashed=squashed)
    with torch.no_grad():
        seen = {name: torch.from_numpy(part) for name, part in observations(32, seed=9).items()}
        policy.action_net.weight.mul_(150.0)
        policy.action_net.bias.sub_(policy.action_net(policy.mlp_extractor.forward_actor(policy.trunk(seen))).mean(0))
    return policy


@pytest.fixture(scope="module", params=[False, True], ids=["clipped", "squashed"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[DrivePolicy, Path]:
    policy, path = lively_policy(squashed=request.param), tmp_path_factory.mktemp("policy") / "policy.onnx"
    report = export_policy(policy, path, observations(8), {"segmenter": "enet"})
    assert report.observations == 8
    assert report.worst_error < 1e-5
    return policy, path


def test_the_file_drives_as_torch_does(exported: tuple[DrivePolicy, Path]) -> None:
    policy, path = exported
    fresh = observations(40, seed=5)
    found = load_policy(path)(fresh)
    expected = np.array([controls(policy.act({k: v[i] for k, v in fresh.items()})) for i in range(40)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected[:, 1:].max() > 0.1  # the test sees both pedals move
    assert (expected[:, 1] > 0).any()
    assert (expected[:, 2] > 0).any()
    assert (found[:, 1:].min(axis=1) == 0).all()  # one pedal at a time


SHAPES = {"latents": (2, *LATENT), "segmentation": (16, 32)}  # of the part that says what a driver sees


@pytest.mark.parametrize("sense", SENSES, ids=lambda sense: sense.part)
def test_whatever_a_driver_sees_can_be_exported(sense: Sense, tmp_path: Path) -> None:
    space = sense.space(SHAPES[sense.part])
    rows = [space.sample() for _ in range(4)]
    seen = {name: np.stack([row[name] for row in rows]) for name in space.spaces}
    policy = build_policy(space, 0)
    export_policy(policy, tmp_path / "policy.onnx", seen)
    opened = load_policy(tmp_path / "policy.onnx")
    assert opened.input_shapes == policy.input_shapes
    np.testing.assert_allclose(opened(seen)[2], controls(policy.act(rows[2])), atol=1e-4)


def test_a_pilot_remembers_the_latent_before(exported: tuple[DrivePolicy, Path]) -> None:
    policy, path = exported
    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 2, (2, 1, *LATENT)).astype(np.float32)
    pilot = Pilot(load_policy(path))
    facts = {"speed_mps": 4.0, "distance_m": 90.0, "command": 2}
    for latents in ((first, first), (first, second)):
        found = pilot.drive(latents[1], **facts)
        stack = np.concatenate([pool_latent(latent) for latent in latents])
        seen = {"latents": stack, "measurements": measurement_vector(4.0, 90.0, 0.0, 2)}
        np.testing.assert_allclose(found, controls(policy.act(seen)), atol=1e-5)
    pilot.begin()
    np.testing.assert_allclose(pilot.drive(first, **facts), Pilot(load_policy(path)).drive(first, **facts))


def test_it_drives_where_torch_and_gymnasium_are_not_installed(exported: tuple[DrivePolicy, Path]) -> None:
    program = f"""
import sys
for name in ("torch", "onnx", "gymnasium", "stable_baselines3", "carla"):
    sys.modules[name] = None  # importing it now raises ImportError
import numpy
from roadworthy.runtime.policy import Pilot, load_policy
controls = Pilot(load_policy({str(exported[1])!r})).drive(
    numpy.ones((1, *{LATENT}), numpy.float32), speed_mps=3.0, distance_m=50.0, command=4)
assert -1 <= controls.steer <= 1 and 0 <= controls.throttle <= 1 and 0 <= controls.brake <= 1, controls
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_actor_for_the_environment_without_torch(exported: tuple[DrivePolicy, Path]) -> None:
    """What `drive eval` imports for an exported policy: everything but the town's own processes."""
    program = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
import numpy
import roadworthy.agent.drive
from roadworthy.agent.baselines import open_driver
from roadworthy.agent.observation import action_space, observation_space
seen = observation_space({LATENT}).sample()
action = open_driver(Path({str(exported[1])!r})).act(seen)
assert action_space().contains(action), action
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_refused(exported: tuple[DrivePolicy, Path], tmp_path: Path) -> None:
    policy, path = exported
    opened = open_driver(path)
    assert opened.input_shapes == policy.input_shapes
    seen = {name: part[0] for name, part in observations(1).items()}
    with pytest.raises(BadInput, match=r"takes latents float16 \[batch, 2, 3, 8, 16\], got float16 \[1, 2, 3, 8, 8\]"):
        opened.act(seen | {"latents": seen["latents"][..., :8]})
    with pytest.raises(BadInput, match=r"takes measurements .* got nothing"):
        opened.act({"latents": seen["latents"]})
    with pytest.raises(BadInput, match="not finite"):
        opened.act(seen | {"measurements": np.full(9, np.nan, np.float32)})
    with pytest.raises(BadInput, match=r"pool to \(3, 8, 16\), got \[1, 3, 8, 8\]"):
        Pilot(load_policy(path)).drive(np.zeros((1, 3, 8, 8), np.float32), speed_mps=0.0, distance_m=0.0, command=4)
    with pytest.raises(BadInput, match=r"ends in \.onnx"):
        export_policy(policy, tmp_path / "policy.bin", observations(1))
    with pytest.raises(BadInput, match="to check on are nothing"):
        export_policy(policy, tmp_path / "policy.onnx", {})
    with pytest.raises(BadInput, match="no such model file"):
        load_policy(tmp_path / "policy.onnx")


def test_a_file_that_is_no_policy_of_ours(exported: tuple[DrivePolicy, Path], tmp_path: Path) -> None:
    model = onnx.load(exported[1])
    facts = json.loads(model.metadata_props[0].value)
    path = tmp_path / "other.onnx"
    for change, message in (
        ({"format": "roadworthy-policy-onnx-9"}, "export the driver again"),
        ({"inputs": {"latents": [[2, 3, 8, 16], "float16"]}}, "its metadata say latents"),
        ({"inputs": None}, "not an exported policy"),
    ):
        onnx.helper.set_model_props(model, {"roadworthy_policy": json.dumps(facts | change)})
        onnx.save(model, path)
        with pytest.raises(BadInput, match=message):
            load_policy(path)
    onnx.helper.set_model_props(model, {})
    onnx.save(model, path)
    with pytest.raises(BadInput, match="not an exported policy"):
        load_policy(path)


def test_a_graph_that_disagrees_with_torch_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = lively_policy(squashed=False)
    monkeypatch.setattr("roadworthy.agent.policy_export.TOLERANCE", -1.0)  # nothing is that alike
    with pytest.raises(RoadworthyError, match="differ from torch's by up to"):
        export_policy(policy, tmp_path / "policy.onnx", observations(2))
    assert list(tmp_path.iterdir()) == []

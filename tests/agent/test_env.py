"""The environment in the town, through the real client."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roadworthy.agent.env import DriveConfig, DriveEnv, controls
from roadworthy.agent.observation import LatentStack, measurement_vector, observation_space, pool_latent, pooled_shape
from roadworthy.agent.rewards import RewardWeights
from roadworthy.agent.supervisor import supervise
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.segmenter import Segmentation

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    sys.path.insert(0, HERE)  # spawned processes import by name
    try:
        model = importlib.import_module("tiny_model").write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
        result: dict[str, Any] = supervise(importlib.import_module("drive_tasks").check, model, attempts=1)
    finally:
        sys.path.remove(HERE)
    return result


def test_both_checkers_find_nothing_but_the_shape_of_latents(found: dict[str, Any]) -> None:
    assert [w for w in found["warnings"] if "unconventional shape" not in w] == []


def test_the_same_seed_is_the_same_episode_and_nobody_is_left_behind(found: dict[str, Any]) -> None:
    assert found["reset"]["same_drive"]  # an empty town, to the last bit
    assert found["reset"]["same_start"] < 0.05  # with traffic: a detail of somebody's looks may differ
    assert found["reset"]["other_start"] > 0.2
    assert len(set(found["reset"]["actors"])) == 1


def test_driving_forward_pays(found: dict[str, Any]) -> None:
    forward = found["forward"]
    assert forward["rewards"][0] < forward["rewards"][-1] <= 1.0
    assert forward["rewards"][-1] == pytest.approx(forward["info"]["reward/progress"])
    assert forward["info"]["along_m"] > 3.0
    assert found["picture"][0] == 128
    assert found["picture"][1] > 256


def test_leaving_the_road_ends_a_training_episode(found: dict[str, Any]) -> None:
    off = found["off"]
    assert off["terminated"]
    assert off["info"]["ended"] in ("off_line", "off_road", "crash")
    assert off["rewards"][-1] < 0


def test_a_nan_action_is_refused(found: dict[str, Any]) -> None:
    assert "not three finite numbers" in found["nan"]


def test_a_killed_server_truncates_and_the_next_reset_starts_another(found: dict[str, Any]) -> None:
    ended, truncated, info = found["killed"]
    assert (ended, truncated, info["ended"]) == (False, True, "error")
    assert found["after_kill"]


def test_an_evaluation_goes_on_after_infractions(found: dict[str, Any]) -> None:
    evaluation = found["evaluate"]
    assert evaluation["steps"] == 250
    assert evaluation["info"]["rescues"] >= 1
    assert {"off_line", "off_road"} <= set(evaluation["kinds"])


def test_importing_the_package_stays_cheap() -> None:
    code = "import sys, roadworthy.agent; print([m for m in ('torch', 'carla', 'stable_baselines3') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


class Blind:
    latent_shape = None

    def __call__(self, frames: np.ndarray) -> Segmentation:
        raise AssertionError(frames.shape)


class Sighted(Blind):
    latent_shape = (2, 8, 8)


@pytest.mark.parametrize(
    ("segmenter", "options", "message"),
    [
        (Blind(), {}, "gives no latent"),
        (Sighted(), {"mode": "drive"}, "mode is 'drive'"),
        (Sighted(), {"reward": "speed"}, "progress, paper"),
        (Sighted(), {"vehicles": (5, 2)}, r"vehicles is \(5, 2\)"),
        (Sighted(), {"vehicles": 5}, r"vehicles is 5, expected a range of two whole numbers"),
        (Sighted(), {"walkers": (0.5, 2)}, r"walkers is \(0.5, 2\)"),
        (Sighted(), {"tasks": ("straight", "fly")}, "unknown task 'fly'; known: straight, one-turn, navigation"),
        (Sighted(), {"weathers": ("Hail",)}, "weather 'Hail' is unknown, expected one of: .*ClearNoon"),
        (Sighted(), {"max_steps": 0}, "max_steps is 0, expected 1 or more"),
        (Sighted(), {"timeout_mps": 0.0}, "timeout_mps is 0.0, expected a speed above 0"),
        (
            Sighted(),
            {"weights": RewardWeights(reference_speed_mps=0.0)},
            "reference_speed_mps is 0.0, expected a speed above 0",
        ),
        (Sighted(), {"colour": 1}, "colour"),
        (Sighted(), {"render_mode": "human"}, "rgb_array"),
        (Path("missing.onnx"), {}, "missing.onnx"),
    ],
)
def test_wrong_options_are_refused(segmenter: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        DriveEnv(segmenter, DriveConfig(), **options)


def test_a_step_before_reset_is_refused() -> None:
    with pytest.raises(BadInput, match="reset"):
        DriveEnv(Sighted()).step(np.zeros(3, np.float32))


def test_actions_become_controls() -> None:
    assert controls(np.array([0.5, 0.25, -1.0])) == (0.5, 0.25, 0.0)
    assert controls(np.array([-2.0, -0.5, 3.0])) == (-1.0, 0.0, 1.0)
    assert controls(np.zeros(3)) == (0.0, 0.0, 0.0)
    with pytest.raises(BadInput, match="three finite numbers"):
        controls(np.zeros(2))


@pytest.mark.parametrize(
    ("shape", "pooled"), [((8, 16, 32), (8, 16, 32)), ((4, 45, 60), (4, 15, 30)), ((2, 8, 100), (2, 8, 25))]
)
def test_large_latents_are_averaged_over_whole_cells(shape: tuple[int, int, int], pooled: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(1, *shape)).astype(np.float32)
    small = pool_latent(latent)
    assert small.shape[1:] == pooled == pooled_shape(shape)
    rows, columns = -(-shape[1] // pooled[1]), -(-shape[2] // pooled[2])
    np.testing.assert_allclose(small[0, 1, 0, 0], latent[0, 1, :rows, :columns].mean(), atol=2e-3)
    np.testing.assert_allclose(small[0, 1, -1, -1], latent[0, 1, -rows:, -columns:].mean(), atol=2e-3)


def test_latents_are_stacked_oldest_first() -> None:
    stack = LatentStack()
    first, second = (np.full((1, 2, 2), value, np.float16) for value in (1, 2))
    assert stack.push(first)[:, 0, 0, 0].tolist() == [1, 1]
    assert stack.push(second)[:, 0, 0, 0].tolist() == [1, 2]
    stack.clear()
    assert stack.push(second)[:, 0, 0, 0].tolist() == [2, 2]


def test_measurements_are_in_their_ranges() -> None:
    space = observation_space((1, 8, 8))["measurements"]
    for values in ((7.0, 120.0, 0.5, 3), (-1.0, 1e9, 1e9, 6)):
        assert space.contains(measurement_vector(*values))
    assert measurement_vector(7.0, 120.0, 0.5, 1).tolist() == [7, 120, 0.5, 1, 0, 0, 0, 0, 0]
    with pytest.raises(BadInput, match="RoadOption"):
        measurement_vector(0.0, 0.0, 0.0, 0)

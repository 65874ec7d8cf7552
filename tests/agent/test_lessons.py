"""Imitation on label map and depth, on a made-up world in which the right action can be read from both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from roadworthy.agent.demonstrations import Demonstrations
from roadworthy.agent.imitation import CloneConfig, clone
from roadworthy.agent.lessons import SegDepthLesson
from roadworthy.agent.observation import measurement_vector
from roadworthy.agent.policy import build_policy, load_policy, save_policy
from roadworthy.agent.segdepth import MAX_DEPTH_M, VOID, segdepth_space
from roadworthy.agent.segdepth_policy import maps
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import TOWN

COUNT = 600
ROAD, WALL, CAR = TOWN.index("road"), TOWN.index("wall"), TOWN.index("car")


def world(seed: int) -> Demonstrations:
    """The road is a strip somewhere: steer there; a car fills the picture's middle: brake when it is near."""
    rng = np.random.default_rng(seed)
    strip, near_m = rng.integers(0, 8, COUNT), rng.choice([5.0, 60.0], COUNT)
    segmentation = np.full((COUNT, 16, 32), WALL, np.uint8)
    depth = np.full((COUNT, 16, 32), 80.0, np.float16)
    for i in range(COUNT):
        segmentation[i, 8:, 4 * strip[i] : 4 * strip[i] + 4] = ROAD
        segmentation[i, :8, 8:24] = CAR
        depth[i, :8, 8:24] = near_m[i]
    steer, brake = (strip - 3.5) / 12, (near_m < 10).astype(float)
    return Demonstrations(
        frames=np.zeros((COUNT, 4, 4, 3), np.uint8),
        measurements=np.stack([measurement_vector(5.0, 50.0, 0.0, 4)] * COUNT),
        actions=np.stack([steer, 0.5 * (1 - brake), brake], axis=1).astype(np.float32),
        episode=np.repeat(np.arange(COUNT // 20), 20),
        follows=np.arange(COUNT) % 20 > 0,
        segmentation=segmentation,
        depth=depth,
    )


def test_a_clone_reads_classes_and_depth() -> None:
    config = CloneConfig(steps=250, batch_size=32, learning_rate=1e-3, hidden_share=0.0)
    policy = clone(SegDepthLesson(world(0)), world(0), config).policy
    new = world(1)
    assert new.segmentation is not None
    assert new.depth is not None
    seen = [
        {"segmentation": new.segmentation[i], "depth": new.depth[i], "measurements": new.measurements[i]} for i in range(40)
    ]
    acted = np.stack([policy.act(each) for each in seen])
    assert np.abs(acted[:, 0] - new.actions[:40, 0]).mean() < 0.06  # the expert's own spread is 0.17
    assert ((acted[:, 2] > 0.5) == (new.actions[:40, 2] > 0.5)).mean() > 0.95


def test_hidden_blocks_are_void_and_far_away() -> None:
    lesson = SegDepthLesson(world(0))
    seen = lesson.seen(np.arange(64))
    before = seen["segmentation"].clone()
    lesson.hide(seen, 0.5, np.random.default_rng(0))
    hidden = seen["segmentation"] == VOID
    assert 0.3 < hidden.float().mean() < 0.7
    assert (seen["depth"][hidden] == MAX_DEPTH_M).all()
    assert seen["segmentation"][~hidden].equal(before[~hidden])


def test_the_network_sees_one_plane_per_class_and_nearness() -> None:
    planes = maps(torch.tensor([[[ROAD, VOID]]]), torch.tensor([[[0.0, 10.0]]]))
    assert planes.shape == (1, len(TOWN) + 1, 1, 2)
    assert planes[0, ROAD].tolist() == [[1.0, 0.0]]
    assert planes[0, : len(TOWN), 0, 1].sum() == 0.0  # void is no class
    assert planes[0, -1].tolist() == [[1.0, 0.5]]


def test_a_policy_on_maps_is_saved_and_loaded(tmp_path: Path) -> None:
    folder, space = tmp_path, segdepth_space(128, 256)
    policy = build_policy(space, seed=1)
    save_policy(policy, folder, {})
    loaded, facts = load_policy(folder)
    assert facts["sees"]["part"] == "segmentation"
    assert loaded.observation_space == space
    space.seed(0)
    seen = space.sample()
    np.testing.assert_array_equal(policy.act(seen), loaded.act(seen))


def test_demonstrations_of_earlier_versions_are_refused() -> None:
    with pytest.raises(BadInput, match="record them again"):
        SegDepthLesson(replace(world(0), segmentation=None))

"""Poses of attached actors against the client library's own geometry."""

import numpy as np
import pytest

from roadworthy.agent.town.attachments import mount, to_local, to_world

carla = pytest.importorskip("carla", reason="needs the carla client: pip install 'roadworthy[drive]'")


def test_mounted_poses_agree_with_carla() -> None:
    dice = np.random.default_rng(0)
    for _ in range(100):
        parent, relative = (
            np.concatenate([dice.uniform(-50, 50, 3), dice.uniform(-80, 80, 1), dice.uniform(-180, 180, 2)]) for _ in "ab"
        )
        out = np.zeros(6)
        mount(parent, relative, out)
        frames = [
            np.array(carla.Transform(carla.Location(*p[:3]), carla.Rotation(*p[3:])).get_matrix())
            for p in (parent, relative, out)
        ]
        assert frames[2] == pytest.approx(frames[0] @ frames[1], abs=2e-4)


def test_vectors_go_there_and_back() -> None:
    pose = np.array([1.0, 2.0, 3.0, 10.0, 70.0, -20.0])
    matrix = np.array(carla.Transform(carla.Location(), carla.Rotation(*pose[3:])).get_matrix())[:3, :3]
    assert to_world(pose, 1.0, -2.0, 0.5) == pytest.approx(matrix @ (1.0, -2.0, 0.5), abs=1e-5)
    assert to_local(pose, *to_world(pose, 1.0, -2.0, 0.5)) == pytest.approx((1.0, -2.0, 0.5))

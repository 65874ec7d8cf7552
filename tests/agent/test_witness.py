"""Which frames of a drive are kept, and that they are the right ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from roadworthy.agent.witness import MOST, QUIET_STEPS, Look, Sight, Witness, sights, sights_folder


def frame(step: int) -> np.ndarray:
    return np.full((8, 16, 3), step % 256, np.uint8)


def tags(step: int) -> np.ndarray:
    return np.full((8, 16), step % 256, np.uint8)


def watch(folder: Path, steps: int, infractions_at: list[int], *, truth: bool = True) -> None:
    witness = Witness(folder)
    for step in range(1, steps + 1):
        look = Look(frame(step), tags(step) if truth else None, 4, step / 10)
        witness.see(step, look, sum(at <= step for at in infractions_at))


def of_infractions(folder: Path) -> list[Sight]:
    return [sight for sight in sights(folder) if sight.infraction is not None]


def test_frames_before_at_and_after(tmp_path: Path) -> None:
    watch(tmp_path, 60, [30, 40])
    found = of_infractions(tmp_path)
    assert [(s.infraction, s.offset_s) for s in found] == [(i, t) for i in (0, 1) for t in (-2.0, -1.0, -0.5, 0.0, 0.5)]
    for sight in found:
        picture, truth = sight.read()
        step = (30, 40)[sight.infraction] + round(10 * sight.offset_s)
        assert abs(int(picture.mean()) - step) <= 2  # JPEG
        assert truth is not None
        assert (truth == step).all()
        assert (sight.command, sight.speed_mps) == (4, step / 10)


def test_quiet_frames_are_far_from_infractions(tmp_path: Path) -> None:
    at = [100, 230]
    watch(tmp_path, 400, at)
    steps = [int(sight.frame.stem.split("_")[1]) for sight in sights(tmp_path) if sight.infraction is None]
    assert len(steps) >= 4
    assert all(abs(step - event) >= QUIET_STEPS for step in steps for event in at)
    assert all(step + QUIET_STEPS <= 400 for step in steps)
    assert all(abs(a - b) >= 50 for a, b in pairwise(steps))


def test_an_excursion_is_no_quiet_stretch_however_long_it_lasts(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    for step in range(1, 401):
        witness.see(step, Look(frame(step), tags(step), 4, 5.0), int(step >= 30), ongoing=30 <= step < 300)
    steps = [int(sight.frame.stem.split("_")[1]) for sight in sights(tmp_path) if sight.infraction is None]
    assert steps
    assert all(step >= 300 + QUIET_STEPS - 1 for step in steps)


def test_an_early_infraction_has_fewer_frames_and_a_last_one_none_after(tmp_path: Path) -> None:
    watch(tmp_path, 62, [7, 61], truth=False)
    found = of_infractions(tmp_path)
    assert [s.offset_s for s in found if s.infraction == 0] == [-0.5, 0.0, 0.5]
    assert [s.offset_s for s in found if s.infraction == 1] == [-2.0, -1.0, -0.5, 0.0]
    assert all(s.tags is None for s in found)


def test_two_in_one_step_and_too_many(tmp_path: Path) -> None:
    watch(tmp_path, 40, [30, 30] + [35] * 40)
    assert {s.infraction for s in of_infractions(tmp_path)} == set(range(MOST))


def test_a_second_drive_replaces_the_first(tmp_path: Path) -> None:
    watch(tmp_path / "x", 40, [20, 30])
    watch(tmp_path / "x", 40, [25])
    assert {s.infraction for s in of_infractions(tmp_path / "x")} == {0}


@pytest.mark.parametrize("name", ["a/0/quick/Grid01/3/100", "../../etc/passwd", "<b>&"])
def test_folders_stay_beside_the_episodes(tmp_path: Path, name: str) -> None:
    folder = sights_folder(tmp_path / "episodes.jsonl", name)
    assert folder.parent == tmp_path / "episodes.frames"
    assert folder.resolve().parent == (tmp_path / "episodes.frames").resolve()

"""The recorder, from its plan to a recording of the town through the real client, also when that dies half-way."""

import json
import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from roadworthy.agent.camera import CameraRig
from roadworthy.agent.recorder import FrameChoice, RecordConfig, plan_episodes, record
from roadworthy.agent.weather import HELD_OUT_WEATHERS, TRAINING_WEATHERS
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import read_ids, read_rgb

SMALL = RecordConfig(
    towns=("Grid01",), episodes=2, frames=6, vehicles=4, walkers=4, seed=3, rig=CameraRig(width_px=64, height_px=32)
)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "meta.jsonl").read_text().splitlines()]


def test_episodes_are_spread_over_towns_and_weathers() -> None:
    config = RecordConfig(episodes=14)
    plan = plan_episodes(config)
    assert plan == plan_episodes(config)
    for town in config.towns:
        assert {e.weather for e in plan if e.town == town} == set(TRAINING_WEATHERS)
    assert len({e.seed for e in plan}) == 14
    assert not {e.weather for e in plan} & set(HELD_OUT_WEATHERS)
    assert [e.weather for e in plan] != [e.weather for e in plan_episodes(RecordConfig(episodes=14, seed=1))]


def test_frames_are_apart_in_space_and_few_at_a_red_light() -> None:
    choice = FrameChoice(spacing_m=2.0, max_standing=2)
    moving = [choice.wants(0.5 * k, 0.0, 5.0) for k in range(40)]
    assert np.diff(np.flatnonzero(moving)).tolist() == [4] * 9
    standing = [choice.wants(19.6, 0.0, 0.0) for _ in range(600)]
    assert sum(standing) == 2
    assert choice.wants(22.0, 0.0, 1.0)
    again = [choice.wants(22.0, 0.0, 0.0) for _ in range(600)]
    assert sum(again) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("episodes", 0),
        ("frames", -1),
        ("walkers", -1),
        ("towns", ()),
        ("spacing_m", float("nan")),
        ("image_format", "bmp"),
        ("weathers", ("Hail",)),
    ],
)
def test_unusable_configurations_are_refused_before_anything_is_written(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(BadInput):
        record(RecordConfig(**{field: value}), tmp_path / "new")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_unknown_town_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Grid01"):
        record(RecordConfig(towns=("Atlantis",)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "small"
    texts: list[str] = []
    fractions: list[float] = []
    result = record(SMALL, folder, lambda text, fraction: (texts.append(text), fractions.append(fraction))[0])
    # On a busy machine the client library now and then aborts; then a worker is replaced, and the recording is the same.
    assert (result.frames, result.new_frames) == (12, 12)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("episode 2 of 2" in text for text in texts)
    return folder


def test_a_recording_of_the_town(recorded: Path) -> None:
    lines = lines_of(recorded)
    assert [line["name"] for line in lines] == [f"{e:04d}_{k:05d}" for e in range(2) for k in range(6)]
    for line in lines:
        rgb, tags = read_rgb(recorded / line["rgb"]), read_ids(recorded / line["semantic"])
        assert rgb.shape == (32, 64, 3)
        assert tags.shape == (32, 64)
        assert 1 in tags[20:], "no road (tag 1) in the lower part of the view"
        assert set(np.unique(tags)) <= set(range(29))
        assert rgb.std() > 5
        assert line["town"] == "Grid01"
        assert 1 <= line["command"] <= 6
    moved = [np.hypot(b["pose"]["x"] - a["pose"]["x"], b["pose"]["y"] - a["pose"]["y"]) for a, b in pairwise(lines[:6])]
    assert min(moved) >= SMALL.spacing_m or min(line["speed_mps"] for line in lines) < 0.3
    assert len({line["seed"] for line in lines}) == 2
    images = {(recorded / line["rgb"]).read_bytes() for line in lines}
    assert len(images) == 12


def test_recording_again_changes_nothing_and_another_configuration_is_refused(recorded: Path) -> None:
    before = (recorded / "meta.jsonl").read_bytes()
    assert record(SMALL, recorded).new_frames == 0
    assert (recorded / "meta.jsonl").read_bytes() == before
    with pytest.raises(BadInput, match="another recording"):
        record(RecordConfig(seed=4), recorded)


def test_a_killed_client_is_replaced_and_the_frames_are_the_same(recorded: Path, tmp_path: Path) -> None:
    killed = threading.Event()

    def kill_once(_text: str, fraction: float) -> None:
        if fraction > 0.5 and not killed.is_set():  # in the second episode
            killed.set()
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    os.kill(child.pid, signal.SIGSEGV)

    result = record(SMALL, tmp_path / "again", kill_once, workers=1)
    assert killed.is_set()
    assert result.restarts == 1
    assert result.frames == 12
    # An episode depends on its seed alone, not on what was recorded before it or on a restart.
    for line, first in zip(lines_of(tmp_path / "again"), lines_of(recorded), strict=True):
        assert line["pose"] == first["pose"]
        np.testing.assert_array_equal(
            read_ids(tmp_path / "again" / line["semantic"]), read_ids(recorded / first["semantic"]), err_msg=line["name"]
        )
    deadline = time.monotonic() + 10
    while towns() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not towns(), "a town outlived its client"


def towns() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children(recursive=True) if "roadworthy.agent.town" in " ".join(child.cmdline())
    ]

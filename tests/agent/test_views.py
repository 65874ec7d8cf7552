"""Fixed cameras: the plan's file, where a camera stands, and a real recording of a small scene."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadworthy.agent.carla_client import carla
from roadworthy.agent.views import Scene, View, ViewsPlan, load_views, random_weather, record_views, standing, view_names
from roadworthy.runtime.errors import BadInput
from roadworthy.train.data import open_dataset
from roadworthy.train.data.folding import fold_classes

SHIPPED = Path(__file__).parents[2] / "docs" / "scenes.yaml"


def test_the_shipped_scenes_are_the_default_ones() -> None:
    assert load_views(SHIPPED) == ViewsPlan()
    assert view_names(ViewsPlan()) == ["A1", "B1", "A2", "B2", "A3", "B3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scenes: [{spawn_point: 1}]", "scene 1: expected spawn_point, a number, and views"),
        ("scenes: [{spawn_point: 1, views: {A: {z: high}}}]", "scene 1, view A: z is 'high', expected a number"),
        ("scenes: [{spawn_point: 1, views: {A: {tilt: 3}}}]", "unknown field 'tilt'; known: x, y, z, pitch"),
        ("scenes: [{spawn_point: 1, views: {a/b: {}}}]", "view 'a/b' of scene 1: expected letters"),
        ("scenes: []", "at least one scene"),
        ("frames: 0", "frames is 0, expected 1 or more"),
        ("frames: 1.5", "frames is 1.5, expected a number"),
        ("speed: 3", "unknown field 'speed'"),
        ("[1]", "expected fields: town"),
        ("{", "not a YAML file"),
    ],
)
def test_a_plan_that_will_not_do_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "scenes.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        load_views(path)
    assert str(path) in str(caught.value)


def test_a_camera_stands_relative_to_its_scene() -> None:
    place = carla.Transform(carla.Location(x=10, y=20, z=1), carla.Rotation(yaw=90))
    stand = standing(place, View(x=-4, y=3, z=5, pitch=-12, yaw=15, roll=2))
    # Facing +y: four metres behind is y - 4, three to the right (CARLA's axes are left-handed) is x - 3.
    assert (stand.location.x, stand.location.y, stand.location.z) == pytest.approx((7, 16, 6), abs=1e-3)
    assert (stand.rotation.pitch, stand.rotation.yaw, stand.rotation.roll) == pytest.approx((-12, 105, 2))


def test_times_and_weathers_differ_between_episodes_and_repeat_with_the_seed() -> None:
    drawn = [random_weather(np.random.default_rng(seed)) for seed in range(30)]
    assert len({name for name, _ in drawn}) >= 5
    days = [weather.sun_altitude_angle for _, weather in drawn if weather.sun_altitude_angle > 0]
    assert max(days) - min(days) > 40
    assert random_weather(np.random.default_rng(3))[1] == drawn[3][1]


def test_a_scene_is_recorded_from_both_views_and_goes_on(tmp_path: Path) -> None:
    views = {"A": View(x=-4, y=3, z=4.5, pitch=-12), "B": View(x=-7, y=-3, z=8, pitch=-24, yaw=16, roll=4)}
    plan = ViewsPlan(episodes=1, frames=2, vehicles=4, walkers=4, width=96, height=72, scenes=(Scene(11, views),))
    result = record_views(plan, tmp_path / "out", workers=1)
    assert (result.frames, result.new_frames) == (4, 4)
    lines = {
        name: [json.loads(line) for line in (tmp_path / "out" / name / "meta.jsonl").read_text().splitlines()]
        for name in ("A1", "B1")
    }
    times = [line["time_s"] for line in lines["A1"]]
    assert times[1] - times[0] == pytest.approx(1.0, abs=1e-6)
    assert [line["frame"] for line in lines["A1"]] == [line["frame"] for line in lines["B1"]]  # the same moments
    assert lines["A1"][0]["pose"]["z"] < lines["B1"][0]["pose"]["z"]
    seen = []
    for name in ("A1", "B1"):
        sample = fold_classes(open_dataset(f"recording:{tmp_path / 'out' / name}"), "carla13")[0]
        assert sample.image.shape == (72, 96, 3)
        assert len(np.unique(sample.labels)) >= 5
        assert sample.image.std() > 5
        seen.append(sample.labels)
    assert (seen[0] != seen[1]).mean() > 0.1  # two points of view
    assert record_views(plan, tmp_path / "out").new_frames == 0
    with pytest.raises(BadInput, match="another recording"):
        record_views(dataclasses.replace(plan, seed=1), tmp_path / "out")
    assert Image.open(tmp_path / "out" / "A1" / "semantic" / "0000_00000.png").mode == "L"

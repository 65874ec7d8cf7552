"""Leaderboard scores of hand-made episodes, worked out by hand from the published rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from roadworthy.agent.episodes import Episode
from roadworthy.agent.infractions import Infraction
from roadworthy.eval.leaderboard import LABELS, leaderboard, penalty, score, write_leaderboard
from roadworthy.runtime.errors import BadInput


def event(kind: str) -> Infraction:
    return Infraction(kind, 10, 1.0, 5.0, (1.0, 2.0), 100.0, "vehicle.tesla.model3")


def episode(*kinds: str, **changes: object) -> Episode:
    made = Episode(
        id="a/0/s/Grid01/0/1", segmenter="a", policy_seed=0, suite="s", town="Grid01", held_out=False, weather="ClearNoon",
        task="straight", route=0, seed=1, traffic={"vehicles": 0, "walkers": 0}, steps=100, duration_s=10.0, distance_m=100.0,
        route_length_m=100.0, route_completion=1.0, ended="goal", infractions=tuple(map(event, kinds)), mean_speed_mps=10.0,
        reward_sum=1.0,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_penalties_by_hand() -> None:
    crash = episode("collision_person", "collision_car", "collision_car", "collision_static", "off_line", outside_m=20.0)
    assert penalty(crash, "1.0") == pytest.approx(0.5 * 0.6 * 0.6 * 0.65 * 0.8)
    assert penalty(crash, "2.0") == penalty(crash, "1.0")
    assert penalty(crash, "2.1") == pytest.approx(0.8 / (1 + 1.0 + 0.7 + 0.7 + 0.6))
    assert penalty(episode(), "2.1") == 1.0
    with pytest.raises(BadInput, match=r"known: 1\.0, 2\.0, 2\.1"):
        penalty(crash, "3.0")  # type: ignore[arg-type]


def test_infractions_per_kilometre_count_the_whole_drive_after_a_rescue() -> None:
    for rescues in (0, 1, 3):
        result = leaderboard([episode("collision_car", route_length_m=1000.0, rescues=rescues)])
        assert result["_checkpoint"]["global_record"]["infractions"]["collisions_vehicle"] == 1.0


def test_two_drivers_of_one_name_are_refused() -> None:
    one, two = (episode(again={"policy_sha256": digest, "policy": f"drivers/{digest}"}) for digest in ("a", "b"))
    with pytest.raises(BadInput, match=r"2 drivers \(a with drivers/a; a with drivers/b\)"):
        leaderboard([one, two])


def test_scores_of_a_route() -> None:
    found = score(episode("collision_static", route_completion=0.5, ended="timeout"), "1.0")
    assert found == pytest.approx((50 * 0.65, 50.0, 0.65))
    assert score(episode(rescues=1), "2.0").route == 50.0


def test_the_result_file(tmp_path: Path) -> None:
    drives = [
        episode(),
        episode("collision_car", id="1", outside_m=10.0),
        episode(id="2", ended="blocked", route_completion=0.5, distance_m=50.0),
        episode(id="3", ended="error"),
    ]
    result = write_leaderboard(drives, tmp_path / "result.json", "2.0")
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(result))
    checkpoint = result["_checkpoint"]
    assert [record["status"] for record in checkpoint["records"]] == ["Perfect", "Completed", "Failed - Agent got blocked"]
    assert checkpoint["progress"] == [3, 3]
    assert checkpoint["global_record"]["status"] == "Failed"
    assert checkpoint["global_record"]["scores_mean"]["score_composed"] == pytest.approx((100 + 54 + 50) / 3)
    assert checkpoint["global_record"]["infractions"]["collisions_vehicle"] == pytest.approx(1 / 0.25)
    assert checkpoint["global_record"]["infractions"]["outside_route_lanes"] == pytest.approx(0.010)
    assert len(result["labels"]) == len(result["values"]) == 3 + len(LABELS)
    assert "red_light" in checkpoint["global_record"]["meta"]["not_measured"]
    assert checkpoint["global_record"]["meta"]["rules"] == "2.0"


def test_what_is_refused() -> None:
    with pytest.raises(BadInput, match="no usable episodes"):
        leaderboard([episode(ended="error")])
    with pytest.raises(BadInput, match="2 drivers"):
        leaderboard([episode(), episode(segmenter="b", id="b")])

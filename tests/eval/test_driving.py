"""Driving metrics on episodes made by hand, with answers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from roadworthy.agent.episodes import Episode
from roadworthy.agent.infractions import INFRACTION_KINDS, Infraction
from roadworthy.eval import driving
from roadworthy.runtime.errors import BadInput


def infraction(kind: str, time_s: float = 1.0) -> Infraction:
    return Infraction(kind, step=int(time_s * 10), time_s=time_s, distance_m=time_s * 5, location=(1.0, 2.0))


def episode(
    route: int = 0,
    *,
    segmenter: str = "a",
    policy_seed: int = 0,
    distance_m: float = 500.0,
    completion: float = 1.0,
    ended: str = "goal",
    infractions: Sequence[Infraction] = (),
    held_out: bool = False,
    rescues: int = 0,
) -> Episode:
    town = "Crooked01" if held_out else "Grid01"
    return Episode(
        id=f"{segmenter}/{policy_seed}/{town}/{route}", segmenter=segmenter, policy_seed=policy_seed, suite="s", town=town,
        held_out=held_out, weather="ClearNoon", task="one-turn", route=route, seed=route, traffic={"vehicles": 0, "walkers": 0},
        steps=1000, duration_s=100.0, distance_m=distance_m, route_length_m=500.0, route_completion=completion, ended=ended,
        infractions=tuple(infractions), mean_speed_mps=5.0, reward_sum=0.0, rescues=rescues,
    )  # fmt: skip


def test_kilometres_between_infractions_by_hand() -> None:
    drives = [
        episode(0, infractions=[infraction("collision_car"), infraction("off_line", 4), infraction("off_line", 9)]),
        episode(1, distance_m=1000.0, infractions=[infraction("off_line")]),
    ]
    lines = driving.km_between(drives, "off_line")
    assert (lines.events, lines.km) == (3, 1.5)
    assert lines.between_km == pytest.approx(0.5)
    assert lines.words() == "0.50"
    assert lines.low_km < 0.5 < lines.high_km
    assert driving.km_between(drives, "collision_car").between_km == pytest.approx(1.5)


def test_nothing_happened_is_more_than_what_was_driven() -> None:
    person = driving.km_between([episode(0), episode(1)], "collision_person")
    assert person.words() == "more than 1.00"
    assert math.isinf(person.between_km)
    assert math.isinf(person.high_km)
    assert person.low_km == pytest.approx(1.0 / -math.log(0.025))  # one in 0.27 km cannot be excluded
    assert person.to_dict()["between_km"] is None


def test_a_car_that_never_moved_has_no_rate() -> None:
    parked = driving.km_between([episode(0, distance_m=0.0, completion=0.0)], "off_road")
    assert math.isnan(parked.between_km)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(BadInput, match="collision_person"):
        driving.km_between([episode()], "collision_ufo")


def test_summary_counts_success_and_completion() -> None:
    drives = [episode(0), episode(1, completion=0.5, ended="timeout"), episode(2, completion=0.0, ended="blocked")]
    summary = driving.drive_summary(drives)
    assert summary.success.value == pytest.approx(1 / 3)
    assert summary.completion.value == pytest.approx(0.5)
    assert summary.completion.low <= 0.5 <= summary.completion.high
    assert summary.km == pytest.approx(1.5)
    assert set(summary.between) == set(INFRACTION_KINDS)
    with pytest.raises(BadInput, match="no episodes"):
        driving.drive_summary([])


def test_clustered_infractions_widen_the_interval() -> None:
    spread = [episode(r, infractions=[infraction("off_line", t) for t in (5, 50)]) for r in range(10)]
    clustered = [
        episode(r, infractions=[infraction("off_line", 3.0 * t) for t in range(20)] if r == 0 else []) for r in range(10)
    ]
    even, odd = (driving.drive_summary(d).between["off_line"] for d in (spread, clustered))
    assert even.events == odd.events == 20
    assert odd.high_km - odd.low_km > 3 * (even.high_km - even.low_km)


def test_recount_merges_frames_of_one_event() -> None:
    raw = [infraction("off_line", t) for t in (1.0, 1.1, 2.9, 3.0, 5.1)] + [infraction("off_road", 1.2)]
    merged = driving.recount(episode(infractions=raw))
    # The off-line window is 2 s after the last one that counted: 1.0, 3.0 and 5.1 count.
    assert [(event.kind, event.time_s) for event in merged] == [
        ("off_line", 1.0), ("off_road", 1.2), ("off_line", 3.0), ("off_line", 5.1),
    ]  # fmt: skip


def test_kilometres_between_infractions_count_with_the_windows_of_corl() -> None:
    hits = [infraction("collision_person", t) for t in (1.0, 3.5, 6.0, 12.0)]  # three people within 10 s, then one more
    drives = [episode(0, infractions=hits), episode(1)]
    assert driving.km_between(drives, "collision_person").events == 2
    assert driving.drive_summary(drives).infractions_per_km.value == pytest.approx(2.0)
    assert driving.route_following(drives).km_per_collision == pytest.approx(1 / 4)  # rl-carla counts every event


def test_infractions_of_one_route_widen_their_rate() -> None:
    clustered = [
        episode(r, infractions=[infraction("off_line", 3.0 * t) for t in range(20)] if r == 0 else []) for r in range(10)
    ]
    rate = driving.drive_summary(clustered).infractions_per_km
    assert (rate.value, rate.low) == (4.0, 0.0)
    assert rate.high > 2 * driving.poisson_interval(20, 5.0).high


def test_drives_of_one_name_by_two_drivers_are_all_kept() -> None:
    one, two = (replace(episode(0), again={"model_sha256": digest}) for digest in ("a", "b"))
    assert driving.usable([one, two, one]) == [one, two]


def test_errors_of_the_simulator_and_repeats_are_left_out() -> None:
    failed = episode(0, ended="error", completion=0.0)
    assert driving.usable([failed, episode(0), episode(1), episode(1, completion=0.7)]) == [
        episode(0), episode(1, completion=0.7),
    ]  # fmt: skip


def test_who_cannot_finish_judges_nobody() -> None:
    lost = episode(1, completion=0.9, ended="timeout")
    assert driving.fit_to_judge([episode(0), lost])
    assert not driving.fit_to_judge([episode(0), lost, episode(2, ended="blocked")])
    assert not driving.fit_to_judge([])


def test_being_carried_to_the_goal_is_not_finishing() -> None:
    carried = episode(0, rescues=3)
    assert not driving.finished(carried)
    assert driving.unaided_completion(carried) == pytest.approx(1 / 4)
    assert not driving.fit_to_judge([carried, carried])
    summary = driving.drive_summary([carried, episode(1)])
    assert (summary.rescues, summary.success.value) == (3, 0.5)
    assert summary.completion.value == pytest.approx(0.625)


def test_paired_comparison_uses_the_journeys_that_all_drove() -> None:
    good = [episode(r, segmenter="good") for r in range(8)]
    bad = [episode(r, segmenter="bad", completion=0.2 + 0.02 * r, ended="blocked") for r in range(8)]
    extra = [*bad, episode(99, segmenter="bad", completion=1.0)]  # nobody else drove this route
    found = driving.compare_drives({"good": good, "bad": extra})
    (completion,) = found["completion"]
    assert completion.estimate.value == pytest.approx(1 - 0.27)
    assert completion.distinguishable
    (rate,) = found["infractions_per_km"]
    assert rate.estimate.value == 0
    assert not rate.distinguishable


def test_no_shared_journeys_no_comparison() -> None:
    found = driving.compare_drives({"a": [episode(0)], "b": [episode(1, segmenter="b")]})
    assert found == {"completion": [], "infractions_per_km": []}


def test_the_table_of_route_following_by_hand() -> None:
    drives = [
        episode(0, infractions=[infraction("off_line"), infraction("collision_car", 3)]),
        episode(1, distance_m=250.0, completion=0.5, ended="timeout"),
    ]
    found = driving.route_following(drives)
    assert (found.drive_percent, found.km) == (pytest.approx(75.0), pytest.approx(0.75))
    assert found.km_per_h == pytest.approx(0.75 / (200 / 3600))
    assert (found.km_per_out_of_lane, found.km_per_collision) == (pytest.approx(0.75), pytest.approx(0.75))
    assert math.isinf(driving.route_following([episode(0)]).km_per_collision)
    with pytest.raises(BadInput, match="no episodes"):
        driving.route_following([])


def test_one_road_under_two_weathers_is_one_cluster() -> None:
    drives = [replace(episode(0, completion=c, ended="timeout"), weather=w) for c, w in ((0.2, "ClearNoon"), (0.9, "WetNoon"))]
    assert math.isnan(driving.drive_summary(drives).completion.low)  # one road says nothing about other roads

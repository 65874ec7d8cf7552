"""Severity by consequence: planted confusions are found, chance is not, and matching keeps to its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadworthy.agent.consequence import Case, _case, _Seen, predicted_path, read_cases, weigh
from roadworthy.agent.episodes import Episode, append_episode
from roadworthy.agent.infractions import Infraction
from roadworthy.agent.witness import Look, Witness, sights, sights_folder
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import TOWN
from roadworthy.train.ground import severity

PERSON, ROAD, CAR = (TOWN.index(name) for name in ("person", "road", "car"))


def table(person_to_road: float) -> np.ndarray:
    shares = np.full((20, 20), np.nan)
    shares[PERSON] = 0.0
    shares[PERSON, ROAD], shares[PERSON, PERSON] = person_to_road, 1 - person_to_road
    return shares


def cases(before: float, quiet: float, count: int, seed: int = 0, of_a_drive: int = 1) -> list[Case]:
    """Make cases, `of_a_drive` successive ones with the scene of one drive (whose mean differs from the others')."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        if index % of_a_drive == 0:
            scene = rng.normal(0, 0.15 if of_a_drive > 1 else 0.0)
        one, other = (float(np.clip(rng.normal(mean, 0.05), 0, 1)) for mean in (before + scene, quiet))
        controls = {PERSON: frozenset(range(6 * index, 6 * index + 6))}
        found.append(Case("collision_person", f"drive {index // of_a_drive}", table(one), table(other), controls))
    return found


def test_a_planted_confusion_is_found_and_scaled() -> None:
    found = weigh(cases(0.9, 0.1, 12), 20)
    assert found.supported[PERSON, ROAD]
    n, a, c = 12, 12 * 0.9, 12 * 0.1
    expected = np.log((a + 0.5) / (n - a + 0.5)) - np.log((c + 0.5) / (n - c + 0.5))
    assert found.log_odds[PERSON, ROAD] == pytest.approx(expected, abs=0.4)
    matrix = found.matrix(severity(TOWN))
    assert matrix.cost[PERSON, ROAD] == 1.0
    assert matrix.cost[ROAD, PERSON] == severity(TOWN).cost[ROAD, PERSON]  # no evidence: as predefined; not symmetric
    facts = found.to_dict()
    assert facts["supported_pairs"] == 1
    assert facts["log_odds"][CAR][ROAD] is None


def test_chance_and_few_cases_support_nothing() -> None:
    assert sum(weigh(cases(0.3, 0.3, 30, seed), 20).supported.any() for seed in range(40)) <= 4  # 2.5 % are expected
    few = weigh(cases(0.95, 0.05, 4), 20)
    assert not few.supported.any()
    np.testing.assert_array_equal(few.matrix(severity(TOWN)).cost, severity(TOWN).scaled().cost)
    with pytest.raises(BadInput, match="drive more"):
        weigh([], 20)


def test_infractions_of_one_drive_are_not_so_many_witnesses() -> None:
    found = [weigh(cases(0.3, 0.3, 160, seed, of_a_drive=20), 20) for seed in range(60)]
    assert sum(each.supported.any() for each in found) <= 4  # infractions drawn one by one: 19
    assert (found[0].cases[PERSON, ROAD], found[0].drives[PERSON, ROAD]) == (160, 8)
    assert not weigh(cases(0.95, 0.05, 40, of_a_drive=10), 20).supported.any()  # four drives are too few


def test_many_drives_held_against_a_handful_of_frames_say_nothing() -> None:
    few = [replace(case, controls={PERSON: frozenset(range(6))}) for case in cases(0.9, 0.1, 12)]
    assert not weigh(few, 20).supported.any()
    assert weigh(few, 20).controls[PERSON] == 6


def test_the_same_seed_gives_the_same_intervals() -> None:
    one, two = (weigh(cases(0.8, 0.2, 9), 20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.low, two.low)


def drive(file: Path, route: int, weather: str, *, confused: bool, command: int = 4) -> None:
    """Write an episode that hits a person at step 150; before it the person was taken for road, or was not."""
    episode = Episode(
        id=f"net/0/s/Grid01/{route}/1", segmenter="net", policy_seed=0, suite="s", town="Grid01", held_out=False,
        weather=weather, task="straight", route=route, seed=route, traffic={}, steps=200, duration_s=20.0, distance_m=60.0,
        route_length_m=100.0, route_completion=0.6, ended="timeout", mean_speed_mps=3.0, reward_sum=0.0,
        infractions=(Infraction("collision_person", 150, 15.0, 45.0, (0.0, 0.0), 500.0, "walker.pedestrian.0001"),),
    )  # fmt: skip
    append_episode(file, episode)
    folder = sights_folder(file, episode.id)
    witness = Witness(folder)
    tags = np.full((16, 32), 1, np.uint8)
    tags[4:10, 8:12] = 12  # a pedestrian of 24 pixels
    for step in range(1, 201):
        witness.see(step, Look(np.zeros((16, 32, 3), np.uint8), tags, command, 5.0), int(step >= 150))
    truth = TOWN.fold(tags)
    for sight in sights(folder):
        wrong = confused and sight.infraction is not None
        Image.fromarray(np.where(truth == PERSON, ROAD, truth).astype(np.uint8) if wrong else truth).save(predicted_path(sight))


def test_cases_are_read_from_drives_and_matched(tmp_path: Path) -> None:
    file = tmp_path / "episodes.jsonl"
    for route in range(6):
        drive(file, route, "ClearNoon", confused=True)
    drive(file, 6, "WetNoon", confused=True, command=1)
    found, unmatched = read_cases([file])
    assert (len(found), unmatched) == (7, 0)
    result = weigh(found, 20, unmatched=unmatched)
    assert result.supported[PERSON, ROAD]
    assert result.cases[PERSON, ROAD] == 7
    assert np.isnan(result.log_odds[CAR, ROAD])
    # Quiet frames of another weather or command are no match.
    lonely = tmp_path / "lonely" / "episodes.jsonl"
    drive(lonely, 0, "ClearNoon", confused=True)
    folder = next((lonely.parent / "episodes.frames").iterdir())
    lines = [line.replace('"command": 4', '"command": 2') if "quiet" in line else line
             for line in (folder / "sights.jsonl").read_text().splitlines()]  # fmt: skip
    (folder / "sights.jsonl").write_text("\n".join(lines) + "\n")
    assert read_cases([lonely]) == ([], 1)


def test_controls_have_the_class_in_view_and_ties_are_broken_by_chance() -> None:
    def seen(shares: np.ndarray, speed: float) -> _Seen:
        return _Seen(shares, 4, "ClearNoon", speed)

    rider = np.full((20, 20), np.nan)
    rider[TOWN.index("rider")] = 0.0
    quiet = [seen(rider, 5.0) for _ in range(6)] + [seen(table(0.1), 5.3) for _ in range(20)]
    rng = np.random.default_rng(0)
    case = _case("collision_person", "drive", [seen(table(0.9), 5.0)], quiet, rng)
    assert case is not None  # the nearest six show only a rider, and say nothing of persons
    assert (case.before[PERSON, ROAD], case.quiet[PERSON, ROAD]) == pytest.approx((0.9, 0.1))
    assert _case("collision_person", "drive", [seen(table(0.9), 5.0)], quiet[:6], rng) is None
    both = np.where(np.isfinite(rider), rider, table(0.9))
    part = _case("collision_person", "drive", [seen(both, 5.0)], quiet[6:], rng)
    assert part is not None
    assert weigh([part], 20).unmatched_rows[[PERSON, TOWN.index("rider")]].tolist() == [0, 1]
    equal = [seen(table(share), 5.0) for share in np.linspace(0, 1, 30)]
    found = {_case("collision_person", "d", [seen(table(0.9), 5.0)], equal, rng).quiet[PERSON, ROAD] for _ in range(5)}  # type: ignore[union-attr]
    assert len(found) == 5


def test_a_right_segmenter_gives_no_evidence(tmp_path: Path) -> None:
    file = tmp_path / "episodes.jsonl"
    for route in range(6):
        drive(file, route, "ClearNoon", confused=False)
    found, _ = read_cases([file])
    result = weigh(found, 20)
    assert not result.supported[PERSON, ROAD]
    assert replace(result, infractions=9).to_dict()["infractions"] == 9

"""The driving proof's table, its sentences, its curves, and the marks in a page of docs: made-up drives, clearly test data."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from roadworthy.agent.episodes import Episode
from roadworthy.agent.infractions import Infraction
from roadworthy.eval.curves import learning_curves, smoothed
from roadworthy.eval.proof import Standing, standing, table, verdicts
from roadworthy.runtime.errors import BadInput
from roadworthy.scripts.stages import Stages, write_between


def episode(task: str, route: int, *, rescues: int = 0, ended: str = "goal", faults: int = 0) -> Episode:
    event = Infraction("off_line", step=5, time_s=0.5, distance_m=2.0, location=(0.0, 0.0))
    return Episode(
        id=f"{task}/{route}", segmenter="x", policy_seed=0, suite="s", town="Grid01", held_out=False, weather="ClearNoon",
        task=task, route=route, seed=route, traffic={}, steps=100, duration_s=10.0, distance_m=250.0, route_length_m=250.0,
        route_completion=1.0, ended=ended, infractions=(event,) * faults, mean_speed_mps=5.0, reward_sum=10.0, rescues=rescues,
    )  # fmt: skip


def test_a_standing_counts_what_was_finished_alone() -> None:
    drives = [episode("straight", i) for i in range(3)] + [episode("straight", 3, rescues=1, faults=3)]
    drives += [episode("one-turn", 0, ended="timeout"), episode("one-turn", 1, faults=1)]
    found = standing("driver", drives)
    assert found.finished == {"straight": (3, 4), "one-turn": (1, 2)}
    assert found.completion == pytest.approx((5 + 0.5) / 6)
    assert (found.km, found.infractions, found.km_per_infraction) == (1.5, 4, pytest.approx(0.375))
    assert found.share("straight") == 0.75
    assert found.share("navigation") == 0.0
    with pytest.raises(BadInput, match="no episodes"):
        standing("driver", [episode("straight", 0, ended="error")])


GOOD = Standing("trained", {"straight": (6, 10), "one-turn": (3, 10)}, 0.9, 80.0, 2.0, 4)
BRAKE = Standing("brake", {"straight": (0, 10), "one-turn": (0, 10)}, 0.0, 0.0, 0.0, 0)


def test_the_sentences_say_what_was_and_was_not_reached() -> None:
    said = verdicts([GOOD], [BRAKE], "trained")
    assert "6 of 10 straight routes; 60 % were asked for: reached" in said[0]
    assert "3 of 10 one-turn routes; 40 % were asked for: **not reached**" in said[1]
    assert said[2:] == [
        f"trained beats every baseline in {what}." for what in ("reward", "route completion", "kilometres per infraction")
    ]
    lucky = replace(BRAKE, name="lucky", reward=80.0)
    assert "does **not** beat lucky (80) in reward" in verdicts([GOOD], [BRAKE, lucky], "trained")[2]


def test_standing_still_is_no_distance_between_infractions() -> None:
    assert BRAKE.km_per_infraction == 0.0  # "more than 0 km": no merit
    row = table([GOOD, BRAKE]).splitlines()[-1]
    assert row.startswith("| brake | 0/10 (0–31 %)")
    assert row.endswith("| 0.00 | 0 | more than 0.000 |")


def test_a_curve_is_a_drawing_that_any_viewer_reads() -> None:
    drawing = learning_curves(
        {"A2C <x>": [(10, -5.0), (20, 3.0), (30, 8.0)], "PPO": [(15, 1.0)], "none": []}, "steps", "return"
    )
    root = ElementTree.fromstring(drawing)
    paths = [node for node in root.iter() if node.tag.endswith("path")]
    assert len(paths) == 4  # raw and smoothed, of the two that have episodes
    words = {node.text for node in root.iter() if node.tag.endswith("text")}
    assert {"A2C <x>", "PPO", "steps", "return"} <= words
    ElementTree.fromstring(learning_curves({}, "steps", "return"))


def test_smoothing_is_the_mean_of_what_there_is() -> None:
    assert smoothed([4.0, 2.0, 0.0, 6.0], 2) == [4.0, 3.0, 1.0, 3.0]


def test_figures_go_between_their_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n<!-- b: begin -->\nkept\n<!-- b: end -->\n")
    write_between(page, "a", ["new", "lines"])
    expected = "before\n<!-- a: begin -->\nnew\nlines\n<!-- a: end -->\nafter\n<!-- b: begin -->\nkept\n<!-- b: end -->\n"
    assert page.read_text() == expected
    write_between(tmp_path / "fresh.md", "a", ["x"])
    assert (tmp_path / "fresh.md").read_text() == "<!-- a: begin -->\nx\n<!-- a: end -->\n"


def test_stages_go_on_and_belong_to_one_plan(tmp_path: Path) -> None:
    done: list[str] = []

    def fail(_: object) -> None:
        done.append("tried")
        raise KeyboardInterrupt

    stages = Stages(tmp_path / "work", {"steps": 5})
    stages.do("first", lambda _: done.append("first"))
    with pytest.raises(KeyboardInterrupt):
        stages.do("second", fail)
    again = Stages(tmp_path / "work", {"steps": 5})
    again.do("first", lambda _: done.append("first again"))
    again.do("second", lambda _: done.append("second"))
    assert done == ["first", "tried", "second"]
    assert {name: stage["done"] for name, stage in again.times().items()} == {"first": True, "second": True}
    with pytest.raises(BadInput, match=r"another learning \(different: steps\)"):
        Stages(tmp_path / "work", {"steps": 6})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(BadInput, match="holds something else"):
        Stages(tmp_path / "full", {})

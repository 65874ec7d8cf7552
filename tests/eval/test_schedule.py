"""The plan fills the cores, keeps the needs, and estimates what is left."""

from __future__ import annotations

import pytest

from roadworthy.eval.schedule import Job, order, startable, time_left
from roadworthy.runtime.errors import RoadworthyError


def job(name: str, seconds: float = 1.0, needs: tuple[str, ...] = (), cores: int = 1) -> Job:
    return Job(name, "stage", name, {}, needs, cores=cores, seconds=seconds)


def test_the_longest_chain_goes_first() -> None:
    plan = order([job("short", 1), job("a", 1), job("b", 9, needs=("a",))])
    assert [one.name for one in plan.jobs] == ["a", "b", "short"]
    assert [one.name for one in startable(plan, {}, {}, 1, 1)] == ["a"]
    assert [one.name for one in startable(plan, {"a"}, {}, 2, 2)] == ["b", "short"]


def test_a_job_for_all_cores_is_not_overtaken() -> None:
    plan = order([job("wide", 10, cores=2), job("narrow", 1)])
    assert startable(plan, {}, {"other"}, 1, 2) == []
    assert [one.name for one in startable(plan, {}, {}, 2, 2)] == ["wide"]
    assert [one.name for one in startable(plan, {}, {}, 1, 1)] == ["wide"]  # a smaller machine gives all it has


def test_time_left_plays_the_plan_through() -> None:
    jobs = [job("record", 60), *(job(f"tune{i}", 100, needs=("record",)) for i in range(3)),
            job("measure", 20, needs=("tune0", "tune1", "tune2"), cores=2)]  # fmt: skip
    plan = order(jobs)
    assert time_left(plan, {}, {}, 2) == 60 + 200 + 20
    assert time_left(plan, {}, {}, 4) == 60 + 100 + 20
    assert time_left(plan, {"record"}, {"tune0": 0.5, "tune1": 0.5}, 2) == 50 + 100 + 20
    assert time_left(plan, {one.name for one in jobs}, {}, 2) == 0


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(RoadworthyError, match="needs b, which"):
        order([job("a", needs=("b",))])
    with pytest.raises(RoadworthyError, match="by way of others"):
        order([job("a", needs=("b",)), job("b", needs=("a",))])
    with pytest.raises(RoadworthyError, match="one name"):
        order([job("a"), job("a")])

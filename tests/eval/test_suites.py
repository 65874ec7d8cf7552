"""Benchmarks as data: the published counts, any map, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from roadworthy.agent.drive import suite_drives
from roadworthy.agent.lanegraph import LaneGraph
from roadworthy.eval.suites import load_benchmark, shipped
from roadworthy.runtime.errors import BadInput


def test_published_counts() -> None:
    corl = load_benchmark("corl2017").suites("Town01", "Town02")
    assert sum(suite.drives for suite in corl) == 4 * 25 * (4 + 4 + 2 + 2)
    dynamic = [suite for suite in corl if suite.name.endswith("dynamic-navigation")]
    assert {(suite.town, suite.vehicles, suite.walkers) for suite in dynamic} == {("Town01", 20, 50), ("Town02", 15, 50)}
    nocrash = load_benchmark("nocrash").suites("Town01", "Town02")
    dense = {(s.town, s.vehicles, s.walkers) for s in nocrash if s.name.endswith("dense")}
    assert dense == {("Town01", 100, 250), ("Town02", 70, 150)}
    assert {suite.held_out for suite in nocrash if suite.town == "Town02"} == {True}
    assert len({suite.name for suite in corl + nocrash}) == len(corl) + len(nocrash)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_suite_can_be_driven_on_the_shipped_towns(name: str, town_maps: dict[str, LaneGraph]) -> None:
    for suite in load_benchmark(name).suites("Grid01", "Crooked01", routes=3):
        drives = suite_drives(suite, town_maps[suite.town])
        assert len(drives) == suite.drives
        assert drives[0][2].length_m > 20
        if suite.every_weather:
            assert {weather for _, number, _, weather in drives if number == 0} == set(suite.weathers)


@pytest.fixture(scope="module")
def town_maps() -> dict[str, LaneGraph]:
    from roadworthy.agent.carla_client import carla
    from roadworthy.agent.town import maps

    return {name: LaneGraph(carla.Map(name, maps.load(name))) for name in ("Grid01", "Crooked01")}


def good() -> dict[str, object]:
    return {
        "name": "mine",
        "conditions": [{"name": "a", "new_town": False, "weathers": ["ClearNoon"]}],
        "tasks": [{"name": "t", "kind": "straight", "routes": 2, "vehicles": [0, 0], "walkers": [0, 0]}],
    }


def write(tmp_path: Path, data: object) -> str:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_a_users_own_suite(tmp_path: Path) -> None:
    suites = load_benchmark(write(tmp_path, good())).suites("Grid01", "Crooked01")
    assert [(suite.name, suite.drives) for suite in suites] == [("mine.a.t", 2)]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("conditions",), [], "at least one entry"),
        (("conditions", 0, "weathers"), ["Sunny"], "Sunny"),
        (("conditions", 0, "new_town"), "no", "expected true or false"),
        (("tasks", 0, "kind"), "race", "expected one of straight"),
        (("tasks", 0, "routes"), 0, "at least 1"),
        (("tasks", 0, "vehicles"), 20, "in the training town"),
        (("tasks", 0, "longest_m"), -1, "above 0"),
        (("tasks", 0, "colour"), 1, "unknown key colour"),
        (("name",), "a/b", "without a slash"),
    ],
)
def test_what_is_refused(tmp_path: Path, path: tuple[object, ...], value: object, message: str) -> None:
    data = good()
    place: object = data
    for key in path[:-1]:
        place = place[key]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    with pytest.raises(BadInput, match=message):
        load_benchmark(write(tmp_path, data))


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such suite; shipped: corl2017, nocrash, quick"):
        load_benchmark("corl2018")
    with pytest.raises(BadInput, match="expected the keys"):
        load_benchmark(write(tmp_path, ["a"]))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(BadInput, match="not readable as YAML"):
        load_benchmark(str(tmp_path / "bad.yaml"))


KEYS = st.sampled_from(["name", "conditions", "tasks", "weathers", "kind", "routes"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=60, deadline=None)
@given(ANYTHING)
def test_anything_else_is_bad_input(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    with pytest.raises(BadInput):
        load_benchmark(write(tmp_path_factory.mktemp("suite"), data))

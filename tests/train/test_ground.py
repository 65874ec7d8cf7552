"""Ground matrices: their facts, their file, and everything that a file can have wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID, CITYSCAPES, TAXONOMIES, TOWN, Taxonomy
from roadworthy.train.ground import (
    GroundMatrix,
    MetricKind,
    ground_metric,
    importance,
    importance_weights,
    load_ground,
    open_ground,
    severity,
)


@pytest.mark.parametrize("taxonomy", TAXONOMIES.values(), ids=TAXONOMIES.keys())
def test_severity_keeps_the_contract_of_a_ground_matrix(taxonomy: Taxonomy) -> None:
    matrix = severity(taxonomy)
    assert matrix.classes == taxonomy.classes
    assert matrix.cost.max() == 1.0
    assert (np.diagonal(matrix.cost) == 0).all()
    assert (matrix.cost[~np.eye(len(taxonomy), dtype=bool)] > 0).all()
    assert not np.array_equal(matrix.cost, matrix.cost.T)


def test_a_person_taken_for_road_is_worse_than_road_taken_for_a_person() -> None:
    for taxonomy, person in ((CITYSCAPES, "person"), (TOWN, "person"), (CAMVID, "pedestrian")):
        cost, p, road = severity(taxonomy).cost, taxonomy.index(person), taxonomy.index("road")
        assert cost[p, road] > cost[road, p]
        assert cost[p, road] == 1.0


def test_a_car_taken_for_road_is_worse_than_for_a_bus() -> None:
    cost = severity(CITYSCAPES).cost
    car = CITYSCAPES.index("car")
    assert cost[car, CITYSCAPES.index("road")] > cost[car, CITYSCAPES.index("bus")]


def test_importance_depends_on_the_truth_alone() -> None:
    matrix = importance(CITYSCAPES)
    person, sky, road = (CITYSCAPES.index(name) for name in ("person", "sky", "road"))
    assert set(np.delete(matrix.cost[person], person)) == {1.0}
    assert set(np.delete(matrix.cost[sky], sky)) == {0.25}
    assert importance_weights(CITYSCAPES)[road] == 3.0


@pytest.mark.parametrize("taxonomy", TAXONOMIES.values(), ids=TAXONOMIES.keys())
def test_a_file_brings_back_the_same_matrix(tmp_path: Path, taxonomy: Taxonomy) -> None:
    matrix = severity(taxonomy).with_metric("power", rho=1.7)  # entries without a short decimal form
    matrix.save(tmp_path / "ground.yaml")
    loaded = load_ground(tmp_path / "ground.yaml", taxonomy)
    assert (loaded.name, loaded.taxonomy, loaded.classes) == (matrix.name, matrix.taxonomy, matrix.classes)
    np.testing.assert_array_equal(loaded.cost, matrix.cost)


def test_a_file_for_another_taxonomy_is_refused_by_name(tmp_path: Path) -> None:
    severity(CITYSCAPES).save(tmp_path / "ground.yaml")
    with pytest.raises(BadInput, match=r"ground\.yaml.*'cityscapes', not 'camvid'.*class 0 is 'road', expected 'sky'"):
        load_ground(tmp_path / "ground.yaml", CAMVID)
    with pytest.raises(BadInput, match="class 19 is '19 classes', expected '20 classes'"):
        load_ground(tmp_path / "ground.yaml", TOWN)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("cost"), "expected the keys"),
        (lambda d: d["cost"].pop("car"), "differ.*car"),
        (lambda d: d["cost"].update(train=[0.0] * 11), "differ.*train"),
        (lambda d: d["cost"]["car"].pop(), "row 'car' is not 11 numbers"),
        (lambda d: d["cost"]["car"].__setitem__(0, "much"), "row 'car' is not 11 numbers"),
        (lambda d: d["cost"]["car"].__setitem__(8, 0.5), r"cost\[car, car\] is 0.5, expected 0"),
        (lambda d: d["cost"]["car"].__setitem__(0, -1.0), r"cost\[car, sky\] is -1.0"),
        (lambda d: d["cost"]["car"].__setitem__(0, float("nan")), r"cost\[car, sky\] is nan"),
        (lambda d: d["classes"].__setitem__(0, "road"), "twice"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "ground.yaml"
    severity(CAMVID).save(path)
    document = yaml.safe_load(path.read_text())
    damage(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(BadInput, match=message) as caught:
        load_ground(path, CAMVID)
    assert str(path) in str(caught.value)


def test_a_missing_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such"):
        load_ground(tmp_path / "none.yaml", CAMVID)
    (tmp_path / "broken.yaml").write_text("classes: [a, b")
    with pytest.raises(BadInput, match="not a YAML file"):
        load_ground(tmp_path / "broken.yaml", CAMVID)


def test_a_matrix_of_the_wrong_shape_or_of_zeros_is_refused() -> None:
    with pytest.raises(BadInput, match="expected 2x2"):
        GroundMatrix("m", "t", ("a", "b"), np.zeros((2, 3)))
    with pytest.raises(BadInput, match="zero everywhere"):
        GroundMatrix("m", "t", ("a", "b"), np.zeros((2, 2)))


def test_ground_metrics_are_the_papers_functions() -> None:
    d = np.array([[0.0, 0.2], [0.7, 0.0]])
    np.testing.assert_array_equal(ground_metric(d, "linear"), d)
    np.testing.assert_allclose(ground_metric(d, "power", rho=3), [[0, 0.008], [0.343, 0]])
    np.testing.assert_allclose(ground_metric(d, "huber", tau=0.5), [[0, 0.04], [0.5 * (1.4 - 0.5), 0]])
    np.testing.assert_array_equal(ground_metric(d, "step"), [[0, 1], [1, 0]])


def test_the_huber_metric_is_smooth_at_its_threshold() -> None:
    near = ground_metric(np.array([0.3 - 1e-7, 0.3, 0.3 + 1e-7]), "huber", tau=0.3)
    assert np.diff(near) == pytest.approx(0.6e-7, rel=1e-3)


@pytest.mark.parametrize("options", [{"kind": "cubic"}, {"kind": "power", "rho": 0.0}, {"kind": "huber", "tau": -1.0}])
def test_unknown_metrics_and_parameters_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        ground_metric(np.eye(2), **options)  # type: ignore[arg-type]


def test_a_user_names_a_matrix_or_a_file(tmp_path: Path) -> None:
    np.testing.assert_array_equal(open_ground("severity", CAMVID).cost, severity(CAMVID).cost)
    np.testing.assert_array_equal(open_ground("importance", CITYSCAPES).cost, importance(CITYSCAPES).cost)
    path = tmp_path / "learnt.yaml"
    severity(TOWN).with_metric("power").save(path)
    np.testing.assert_array_equal(open_ground(str(path), TOWN).cost, load_ground(path, TOWN).cost)
    with pytest.raises(BadInput, match="'serverity' is neither a file nor one of: severity, importance"):
        open_ground("serverity", TOWN)


@pytest.mark.parametrize(
    ("taxonomy", "most", "least"),
    [
        (CITYSCAPES, {"person", "rider", "car", "truck", "bus", "motorcycle", "bicycle"}, {"sky"}),
        (CAMVID, {"car", "pedestrian", "bicyclist"}, {"sky"}),
    ],
    ids=["cityscapes", "camvid"],
)
def test_importance_groups_are_the_papers(taxonomy: Taxonomy, most: set[str], least: set[str]) -> None:
    third = {"road", "sidewalk", "train", "traffic light", "traffic sign", "pavement", "sign"}
    for name, weight in zip(taxonomy.classes, importance_weights(taxonomy), strict=True):
        assert weight == (4 if name in most else 1 if name in least else 3 if name in third else 2), name


@pytest.mark.parametrize("kind", ["linear", "power", "huber", "step"])
def test_the_scale_of_a_file_does_not_change_the_metric(kind: MetricKind) -> None:
    matrix = severity(CAMVID)
    coarse = GroundMatrix("coarse", matrix.taxonomy, matrix.classes, 250 * matrix.cost)
    np.testing.assert_allclose(coarse.with_metric(kind, tau=0.3).cost, matrix.with_metric(kind, tau=0.3).cost, rtol=1e-12)

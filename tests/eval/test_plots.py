"""The Pareto front on hand-made models, and drawings that stay valid whatever the names."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from roadworthy.eval.plots import Trade, pareto_front, reliability_chart, trade_off


def trade(label: str, x: float, y: float) -> Trade:
    return Trade(label, 0, x, y)


def test_front_of_accuracy() -> None:
    models = [trade("slow good", 9, 0.8), trade("fast poor", 1, 0.4), trade("slow poor", 8, 0.4), trade("middle", 5, 0.7)]
    assert [t.label for t in pareto_front(models, larger_is_better=True)] == ["fast poor", "middle", "slow good"]


def test_front_of_infractions() -> None:
    models = [trade("a", 1, 3.0), trade("b", 2, 4.0), trade("c", 3, 0.5)]
    assert [t.label for t in pareto_front(models, larger_is_better=False)] == ["a", "c"]


def test_equal_cost_leaves_the_best() -> None:
    models = [trade("a", 1, 0.3), trade("b", 1, 0.5), trade("c", 1, 0.5)]
    assert [t.label for t in pareto_front(models, larger_is_better=True)] == ["b"]


@pytest.mark.parametrize("count", [1, 3])
def test_drawings_are_well_formed(count: int) -> None:
    hostile = '<script>&"'
    models = [Trade(hostile, i, 2.0 + i, 0.5, (1.5 + i, 2.5 + i), (0.4, 0.6)) for i in range(count)]
    tree = ElementTree.fromstring(str(trade_off(models, "ms", "mIoU", larger_is_better=True)))
    assert sum("series" in element.get("class", "") for element in tree.iter()) == count
    assert sum(element.get("class") == "front" for element in tree.iter()) == 1
    curve = reliability_chart({hostile: [(0.3, 0.2, 0.5), (0.9, 0.8, 0.5)]}, "reliability")
    assert hostile in "".join(ElementTree.fromstring(str(curve)).itertext())


def test_nothing_to_draw() -> None:
    assert "no data" in trade_off([], "ms", "mIoU", larger_is_better=True)

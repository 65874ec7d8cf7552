"""The table of ground matrices: what is measured counts, what is only predefined is put in brackets."""

from __future__ import annotations

import numpy as np

from roadworthy.runtime.taxonomy import TOWN
from roadworthy.scripts.make_ground_figures import pairs_of, table
from roadworthy.train.ground import GroundMatrix, severity


def matrix(**costs: float) -> GroundMatrix:
    cost = severity(TOWN).cost.copy()
    for pair, value in costs.items():
        truth, taken = (TOWN.index(name) for name in pair.split("_"))
        cost[truth, taken] = value
    return GroundMatrix("made", "town", TOWN.classes, cost)


def cells(lines: list[str], row: int) -> list[str]:
    return [cell.strip() for cell in lines[row + 2].strip("|").split("|")]


def test_only_measured_costs_decide() -> None:
    every = pairs_of(TOWN.classes)
    no_bus = pairs_of([name for name in TOWN.classes if name != "bus"])
    matrices = {
        "severity": severity(TOWN),
        "learnt": matrix(truck_bus=0.3),
        "plain": matrix(truck_bus=0.95),
        "random": matrix(),
    }
    lines = table(matrices, {"learnt": every, "plain": every, "random": no_bus})
    assert cells(lines, 0)[1:7] == ["1.00", "1.00", "0.90", "0.10", "yes", "1.00"]
    assert cells(lines, 1)[4:6] == ["0.30", "yes"]
    assert cells(lines, 2)[4:6] == ["0.95", "**no**"]  # car to road costs 0.90
    assert cells(lines, 3)[1:6] == ["1.00", "1.00", "0.90", "(0.10)", "not measured"]
    assert cells(lines, 1)[7] == "1.00"  # the learnt one is like itself


def test_how_alike_two_matrices_are() -> None:
    rng = np.random.default_rng(0)
    other = GroundMatrix("made", "town", TOWN.classes, rng.uniform(0, 1, (20, 20)) * (1 - np.eye(20)))
    every = pairs_of(TOWN.classes)
    lines = table({"severity": severity(TOWN), "learnt": other}, {"learnt": every})
    assert cells(lines, 0)[6] == cells(lines, 1)[7] == "1.00"
    assert cells(lines, 0)[7] == cells(lines, 1)[6]
    assert abs(float(cells(lines, 1)[6])) < 0.3

"""Ground matrices: what it costs to predict class p where the truth is t, and the file that holds one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import yaml

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.train.severity import ROLES, SEVERITY, WITHIN

MetricKind = Literal["linear", "power", "huber", "step"]


@dataclass(frozen=True, eq=False)
class GroundMatrix:
    """`cost[t, p]`: the severity of predicting class p where the truth is t (truth first), `float64 [N, N]`.

    Zero diagonal, finite, non-negative, not symmetric; by convention the largest entry is 1.
    Raises `BadInput` naming the offending entry when it is not so.
    """

    name: str
    taxonomy: str
    classes: tuple[str, ...]
    cost: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check shape and entries, and make the matrix read-only."""
        cost = np.array(self.cost, np.float64)
        count = len(self.classes)
        if cost.shape != (count, count):
            raise BadInput(f"ground matrix {self.name!r} has shape {cost.shape}, expected {count}x{count}: one row per class")
        for truth, predicted in np.argwhere(~np.isfinite(cost) | (cost < 0)):
            raise BadInput(
                f"ground matrix {self.name!r}: cost[{self.classes[truth]}, {self.classes[predicted]}] is "
                f"{cost[truth, predicted]}, expected a finite number of at least 0"
            )
        for index in np.flatnonzero(np.diagonal(cost)):
            raise BadInput(
                f"ground matrix {self.name!r}: cost[{self.classes[index]}, {self.classes[index]}] is {cost[index, index]}, "
                "expected 0: a right answer costs nothing"
            )
        if not cost.any():
            raise BadInput(f"ground matrix {self.name!r} is zero everywhere, expected some mistake to cost something")
        cost.flags.writeable = False
        object.__setattr__(self, "cost", cost)

    def check(self, taxonomy: Taxonomy) -> GroundMatrix:
        """Return this matrix if it is for `taxonomy`; raises `BadInput` naming the first class that differs."""
        if self.classes != taxonomy.classes:
            pairs = zip(self.classes, taxonomy.classes, strict=False)
            place, found, expected = next(
                ((i, a, b) for i, (a, b) in enumerate(pairs) if a != b),
                (min(len(self.classes), len(taxonomy)), f"{len(self.classes)} classes", f"{len(taxonomy)} classes"),
            )
            raise BadInput(
                f"ground matrix {self.name!r} is for taxonomy {self.taxonomy!r}, not {taxonomy.name!r}: "
                f"class {place} is {found!r}, expected {expected!r}; choose a matrix made for this taxonomy"
            )
        return self

    def scaled(self) -> GroundMatrix:
        """Return the matrix divided by its largest entry, so that the worst mistake costs 1."""
        return GroundMatrix(self.name, self.taxonomy, self.classes, self.cost / self.cost.max())

    def with_metric(self, kind: MetricKind, rho: float = 2.0, tau: float = 0.5) -> GroundMatrix:
        """Return the matrix with `ground_metric` applied to its entries, scaled to a largest entry of 1 before and after.

        So `tau` is a share of the worst mistake, whatever the scale of the file that the matrix came from.
        """
        cost = ground_metric(self.scaled().cost, kind, rho, tau)
        return GroundMatrix(f"{self.name}-{kind}", self.taxonomy, self.classes, cost).scaled()

    def save(self, path: Path) -> None:
        """Write the matrix as YAML: name, taxonomy, classes, and one row of costs per true class. Atomic."""
        rows = "\n".join(f"  {_quoted(name)}: [{', '.join(map(repr, row.tolist()))}]" for name, row in self._rows())
        text = (
            "# Ground matrix: row = truth, column = prediction, in the order of `classes`; 0 = right, 1 = the worst mistake.\n"
            f"name: {_quoted(self.name)}\ntaxonomy: {_quoted(self.taxonomy)}\n"
            f"classes: [{', '.join(map(_quoted, self.classes))}]\ncost:\n{rows}\n"
        )
        write_text(path, text)

    def _rows(self) -> list[tuple[str, npt.NDArray[np.float64]]]:
        return list(zip(self.classes, self.cost, strict=True))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def load_ground(path: Path, taxonomy: Taxonomy) -> GroundMatrix:
    """Read a `ground.yaml` and check it against `taxonomy`. Raises `BadInput` saying what is wrong and where."""
    if not path.is_file():
        raise BadInput(f"{path}: no such ground matrix file")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a YAML file ({error})") from error
    if not isinstance(document, Mapping) or not {"taxonomy", "classes", "cost"} <= document.keys():
        raise BadInput(f"{path}: expected the keys taxonomy, classes and cost, as a saved ground matrix has them")
    names, table = document["classes"], document["cost"]
    if not isinstance(names, list) or not isinstance(table, Mapping) or not all(isinstance(n, str) for n in names):
        raise BadInput(f"{path}: expected classes to be a list of names and cost a row of numbers for each name")
    if len(set(names)) != len(names):
        raise BadInput(f"{path}: classes names a class twice, expected each once")
    if list(table) != names:
        missing = [name for name in names if name not in table] or [name for name in table if name not in names]
        raise BadInput(f"{path}: the rows of cost and classes differ ({', '.join(map(str, missing)) or 'in their order'})")
    for name, row in table.items():
        numbers = isinstance(row, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in row)
        if not numbers or len(row) != len(names):
            raise BadInput(f"{path}: row {name!r} is not {len(names)} numbers, one per class")
    cost = np.array([table[name] for name in names], np.float64)
    try:
        matrix = GroundMatrix(str(document.get("name", path.stem)), str(document["taxonomy"]), tuple(names), cost)
        return matrix.check(taxonomy)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def ground_metric(
    distance: npt.NDArray[np.float64], kind: MetricKind = "linear", rho: float = 2.0, tau: float = 0.5
) -> npt.NDArray[np.float64]:
    """Return an increasing function of a distance matrix (arXiv 2008.04751, section III-B), elementwise.

    "linear": d; "power": d^rho (eq. 3); "huber": d² up to `tau`, then tau·(2d − tau) (eq. 4); "step": 1 where d > 0 (eq. 5).
    """
    if kind == "linear":
        return np.array(distance, np.float64)
    if kind == "power":
        if not (math.isfinite(rho) and rho > 0):
            raise BadInput(f"rho is {rho}, expected a power above 0")
        return np.asarray(distance, np.float64) ** rho
    if kind == "huber":
        if not (math.isfinite(tau) and tau > 0):
            raise BadInput(f"tau is {tau}, expected a threshold above 0")
        return np.where(distance <= tau, distance**2, tau * (2 * distance - tau))
    if kind == "step":
        return (np.asarray(distance) > 0).astype(np.float64)
    raise BadInput(f"unknown ground metric {kind!r}; known: linear, power, huber, step")


def importance(taxonomy: Taxonomy) -> GroundMatrix:
    """Return the importance-aware special case: `cost[t, p]` = importance group of t / 4 for every p ≠ t (figure 2, right)."""
    weights = np.array(importance_weights(taxonomy)) / max(taxonomy.groups)
    cost = np.repeat(weights[:, None], len(taxonomy), 1) * (1 - np.eye(len(taxonomy)))
    return GroundMatrix("importance", taxonomy.name, taxonomy.classes, cost)


def importance_weights(taxonomy: Taxonomy) -> tuple[float, ...]:
    """Return the number of each class's importance group (4 most, 1 least important), in class order."""
    group_of = {name: group for group, names in taxonomy.groups.items() for name in names}
    return tuple(float(group_of[name]) for name in taxonomy.classes)


def load_groups(path: Path, taxonomy: Taxonomy) -> tuple[float, ...]:
    """Read importance weights from a YAML file, `weight: [class, ...]` per group; returns one weight per class, in order.

    Raises `BadInput` unless every class of `taxonomy` is in exactly one group, whose weight is a number above 0.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected importance groups, a line `weight: [class, class]` for each")
    try:
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a YAML file ({error})") from error
    if not isinstance(groups, Mapping) or not groups or not all(isinstance(names, list) for names in groups.values()):
        raise BadInput(f"{path}: expected importance groups, a line `weight: [class, class]` for each")
    weights: dict[str, float] = {}
    for weight, names in groups.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise BadInput(f"{path}: the weight of a group is {weight!r}, expected a number above 0")
        for name in names:
            if name not in taxonomy.classes:
                known = ", ".join(taxonomy.classes)
                raise BadInput(f"{path}: class {name!r} is not in taxonomy {taxonomy.name!r}; it has: {known}")
            if name in weights:
                raise BadInput(f"{path}: class {name!r} is named twice, expected each class in one group")
            weights[name] = float(weight)
    missing = [name for name in taxonomy.classes if name not in weights]
    if missing:
        raise BadInput(f"{path}: no group for {', '.join(missing)} of taxonomy {taxonomy.name!r}; name every class once")
    return tuple(weights[name] for name in taxonomy.classes)


def open_ground(name: str, taxonomy: Taxonomy) -> GroundMatrix:
    """Return the ground matrix that a user calls `name`: severity, importance, or the path of a ground.yaml.

    A learnt matrix is such a file too. Raises `BadInput` saying what is wrong.
    """
    if name in NAMED:
        return NAMED[name](taxonomy)
    if not Path(name).is_file():
        raise BadInput(f"ground matrix {name!r} is neither a file nor one of: {', '.join(NAMED)}")
    return load_ground(Path(name), taxonomy)


def severity(taxonomy: Taxonomy) -> GroundMatrix:
    """Return the shipped severity matrix for `taxonomy`, its largest entry 1. Raises `BadInput` for a class without a role."""
    role_of = {name: role for role, names in ROLES.items() for name in names}
    unknown = [name for name in taxonomy.classes if name not in role_of]
    if unknown:
        raise BadInput(
            f"no severity is known for {', '.join(unknown)} of taxonomy {taxonomy.name!r}; "
            f"write a ground matrix file for it, or use class names among: {', '.join(role_of)}"
        )
    roles = [role_of[name] for name in taxonomy.classes]
    cost = np.array([[WITHIN[t] if t == p else SEVERITY[t][p] for p in roles] for t in roles])
    np.fill_diagonal(cost, 0.0)
    return GroundMatrix("severity", taxonomy.name, taxonomy.classes, cost).scaled()


NAMED: Mapping[str, Callable[[Taxonomy], GroundMatrix]] = {"severity": severity, "importance": importance}

"""Driving benchmarks as data: YAML files of conditions and tasks, made into routes for any pair of towns with a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from roadworthy.runtime.errors import BadInput

if TYPE_CHECKING:
    from roadworthy.agent.drive import Suite


@dataclass(frozen=True)
class Condition:
    """Where a benchmark drives: the training town or the new one, under which weathers."""

    name: str
    new_town: bool
    weathers: tuple[str, ...]


@dataclass(frozen=True)
class BenchmarkTask:
    """What a benchmark drives."""

    name: str
    kind: str  # "straight", "one-turn" or "navigation"
    routes: int
    vehicles: tuple[int, int]  # in the training town, in the new town
    walkers: tuple[int, int]
    longest_m: float | None = None  # [m] longest route; None = the kind's own limit


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as its file describes it; `suites` makes it drivable."""

    name: str
    every_weather: bool  # each route under each weather; else the weathers are taken in turn
    conditions: tuple[Condition, ...]
    tasks: tuple[BenchmarkTask, ...]

    def suites(
        self, train_town: str, new_town: str, *, seed: int = 100, carla: str | None = None, routes: int | None = None
    ) -> list[Suite]:
        """Make one suite of routes per condition and task.

        Args:
            train_town: map (name or OpenDRIVE file) that the driver was trained in.
            new_town: map that nothing was trained in.
            seed: of routes, traffic and weather.
            carla: HOST:PORT of a server; None starts the embedded town.
            routes: at most this many routes per task, for a shorter run of the same benchmark; None = all.
        """
        from roadworthy.agent.drive import Suite

        return [
            Suite(
                name=f"{self.name}.{condition.name}.{task.name}",
                town=new_town if condition.new_town else train_town,
                held_out=condition.new_town,
                tasks=((task.kind, task.routes if routes is None else min(routes, task.routes)),),  # type: ignore[arg-type]
                max_length_m=task.longest_m,
                weathers=condition.weathers,
                every_weather=self.every_weather,
                vehicles=task.vehicles[condition.new_town],
                walkers=task.walkers[condition.new_town],
                seed=seed,
                carla=carla,
            )
            for condition in self.conditions
            for task in self.tasks
        ]


def shipped() -> tuple[str, ...]:
    """Return the names of the benchmarks that come with the package."""
    return tuple(sorted(entry.name[:-5] for entry in resources.files(__name__).iterdir() if entry.name.endswith(".yaml")))


def load_benchmark(name: str) -> Benchmark:
    """Read a shipped benchmark by name, or a YAML file by path. Raises `BadInput` for anything that cannot be driven."""
    if name in shipped():
        text, source = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"), name
    else:
        path = Path(name)
        if not path.is_file():
            raise BadInput(f"{name}: no such suite; shipped: {', '.join(shipped())}, or give a YAML file")
        try:
            text, source = path.read_text(encoding="utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: not a text file ({error})") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{source}: not readable as YAML ({error})") from error
    return _benchmark(data, source)


def _benchmark(data: object, source: str) -> Benchmark:
    fields = _mapping(data, source, required=("name", "conditions", "tasks"), optional=("every_weather",))
    every = fields.get("every_weather", False)
    if not isinstance(every, bool):
        raise BadInput(f"{source}: every_weather is {every!r}, expected true or false")
    conditions = tuple(
        _condition(item, f"{source}, conditions[{i}]") for i, item in enumerate(_list(fields, "conditions", source))
    )
    tasks = tuple(_task(item, f"{source}, tasks[{i}]") for i, item in enumerate(_list(fields, "tasks", source)))
    for what, names in (("condition", [c.name for c in conditions]), ("task", [t.name for t in tasks])):
        if len(set(names)) != len(names):
            raise BadInput(f"{source}: two {what}s have one name; expected {', '.join(names)} to differ")
    return Benchmark(_word(fields, "name", source), every, conditions, tasks)


def _condition(item: object, where: str) -> Condition:
    from roadworthy.agent.weather import get_weather

    fields = _mapping(item, where, required=("name", "new_town", "weathers"))
    if not isinstance(fields["new_town"], bool):
        raise BadInput(f"{where}: new_town is {fields['new_town']!r}, expected true or false")
    weathers = _list(fields, "weathers", where)
    for weather in weathers:
        get_weather(str(weather))
    return Condition(_word(fields, "name", where), fields["new_town"], tuple(map(str, weathers)))


def _task(item: object, where: str) -> BenchmarkTask:
    from roadworthy.agent.routes import Task

    fields = _mapping(item, where, required=("name", "kind", "routes", "vehicles", "walkers"), optional=("longest_m",))
    if fields["kind"] not in get_args(Task):
        raise BadInput(f"{where}: kind is {fields['kind']!r}, expected one of {', '.join(get_args(Task))}")
    longest = fields.get("longest_m")
    if longest is not None and not (isinstance(longest, int | float) and not isinstance(longest, bool) and longest > 0):
        raise BadInput(f"{where}: longest_m is {longest!r}, expected metres above 0")
    return BenchmarkTask(
        _word(fields, "name", where),
        fields["kind"],
        _count(fields["routes"], 1, f"{where}: routes"),
        _pair(fields, "vehicles", where),
        _pair(fields, "walkers", where),
        None if longest is None else float(longest),
    )


def _mapping(item: object, where: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise BadInput(f"{where}: found {item!r}, expected the keys {', '.join(required)}")
    missing = [key for key in required if key not in item]
    unknown = [str(key) for key in item if key not in (*required, *optional)]
    if missing or unknown:
        problem = f"{', '.join(missing)} is missing" if missing else f"unknown key {', '.join(unknown)}"
        raise BadInput(f"{where}: {problem}; expected {', '.join((*required, *optional))}")
    return item


def _list(fields: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = fields[key]
    if not isinstance(found, list) or not found:
        raise BadInput(f"{where}: {key} is {found!r}, expected a list with at least one entry")
    return found


def _word(fields: Mapping[str, Any], key: str, where: str) -> str:
    found = fields[key]
    if not isinstance(found, str) or not found or "/" in found:
        raise BadInput(f"{where}: {key} is {found!r}, expected a name without a slash")
    return found


def _pair(fields: Mapping[str, Any], key: str, where: str) -> tuple[int, int]:
    found = fields[key]
    if not isinstance(found, list) or len(found) != 2:
        raise BadInput(f"{where}: {key} is {found!r}, expected [in the training town, in the new town]")
    return _count(found[0], 0, f"{where}: {key}"), _count(found[1], 0, f"{where}: {key}")


def _count(found: object, least: int, where: str) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise BadInput(f"{where} is {found!r}, expected a whole number of at least {least}")
    return found

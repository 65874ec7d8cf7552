"""Episodes as one JSON object per line: appended whole, read back whole, resumable after any kill."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from roadworthy.agent.infractions import Infraction
from roadworthy.runtime.errors import BadInput

ENDED = ("goal", "timeout", "blocked", "error")


@dataclass(frozen=True)
class Episode:
    """One closed-loop drive along one route: what was driven, in which world, and what went wrong."""

    id: str  # unique in a file: segmenter/policy seed/suite/town/task/route/seed
    segmenter: str
    policy_seed: int
    suite: str
    town: str
    held_out: bool  # the town was seen by neither the segmenter nor the policy in training
    weather: str
    task: str  # "straight", "one-turn", "navigation"
    route: int  # index of the route within the suite
    seed: int  # seed of traffic and world
    traffic: Mapping[str, int]  # {"vehicles": ..., "walkers": ...}
    steps: int  # of 0.1 s
    duration_s: float
    distance_m: float  # driven
    route_length_m: float
    route_completion: float  # 0..1
    ended: str  # one of ENDED
    infractions: tuple[Infraction, ...]
    mean_speed_mps: float
    # The sum of the default reward; "return" in the file, a word that Python keeps for itself.
    reward_sum: float
    versions: Mapping[str, str] = field(default_factory=dict)
    rescues: int = 0  # times the ego was put back on its route
    outside_m: float = 0.0  # [m] driven with more than half of the car outside its lane: its centre is outside
    trajectory: tuple[tuple[float, float], ...] = ()  # x, y [m] once a second
    # What driving it again takes: suite, index of the drive, and model and policy (paths seen from the file, SHA-256).
    again: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of this episode (`reward_sum` is called `return` there)."""
        record = asdict(self)
        record["return"] = record.pop("reward_sum")
        record["trajectory"] = [list(place) for place in self.trajectory]
        record["infractions"] = [infraction.to_dict() for infraction in self.infractions]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], source: str) -> Episode:
        """Build an episode from its JSON object; raises `BadInput` naming `source` and the key that is missing or wrong."""
        values = dict(record)
        if "return" in values:
            values["reward_sum"] = values.pop("return")
        required = {f.name for f in fields(cls)} - {"versions", "rescues", "outside_m", "trajectory", "again"}
        missing = sorted(required - set(values))
        if missing:
            raise BadInput(f"{source}: an episode lacks {', '.join(missing)}; was this file written by `roadworthy drive`?")
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise BadInput(f"{source}: unknown keys {', '.join(unknown)} in an episode; a newer version may have written it")
        if values["ended"] not in ENDED:
            raise BadInput(f"{source}: ended is {values['ended']!r}, expected one of {', '.join(ENDED)}")
        for f in fields(cls):
            if f.type in ("int", "float") and not _is_number(values.get(f.name, 0)):
                raise BadInput(f"{source}: {f.name} is {values[f.name]!r}, expected a finite number")
        values["trajectory"] = _points(values.get("trajectory", ()), source)
        values["infractions"] = tuple(Infraction.from_dict(item, source) for item in values["infractions"])
        return cls(**values)


def _points(found: object, source: str) -> tuple[tuple[float, float], ...]:
    """Read a list of places [x, y]; raises `BadInput` naming `source` for anything else."""
    places: list[tuple[float, float]] = []
    for item in found if isinstance(found, list | tuple) else [found]:
        if not (isinstance(item, list | tuple) and len(item) == 2 and all(map(_is_number, item))):
            raise BadInput(f"{source}: trajectory holds {item!r}, expected places [x, y] in metres; was this file edited?")
        places.append((float(item[0]), float(item[1])))
    return tuple(places)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def append_episode(path: Path, episode: Episode) -> None:
    """Append one line to `path`, whole or not at all, also when several processes write to the same file.

    A last line that a kill cut short is dropped first: its episode was never reported as done and is driven again.
    """
    line = (json.dumps(episode.to_dict(), allow_nan=False, separators=(",", ":")) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by a kill
        _mend_last_line(file.fileno())
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _mend_last_line(descriptor: int) -> None:
    """End the file behind `descriptor` with a newline: complete a whole last line that lacks it, drop one that was cut."""
    size = os.fstat(descriptor).st_size
    start = size
    while start > 0:  # find the last newline, from the end
        block = max(0, start - 4096)
        newline = os.pread(descriptor, start - block, block).rfind(b"\n")
        if newline >= 0:
            start = block + newline + 1
            break
        start = block
    if start == size:
        return
    try:
        json.loads(os.pread(descriptor, size - start, start))
    except ValueError:
        os.ftruncate(descriptor, start)
    else:
        os.write(descriptor, b"\n")  # the file is open for appending


def read_episodes(path: Path) -> list[Episode]:
    """Read all whole episodes of `path`; an absent file has none.

    A damaged last line is what a kill leaves behind and is skipped. Damage anywhere else is `BadInput`: the file was edited.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise BadInput(f"{path}: expected a file of episodes, one JSON object per line; it is a folder")
    lines = path.read_bytes().split(b"\n")
    episodes: list[Episode] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # no newline after it: the writer was killed
                break
            raise BadInput(f"{source}: not a JSON object ({error}); remove or repair that line") from error
        if not isinstance(record, dict):
            raise BadInput(f"{source}: expected a JSON object, found {type(record).__name__}; remove or repair that line")
        episodes.append(Episode.from_dict(record, source))
    return episodes


def finished_ids(episodes: Iterable[Episode]) -> set[str]:
    """Return the ids that need no second drive: every episode that did not end in an error of the simulator."""
    return {episode.id for episode in episodes if episode.ended != "error"}

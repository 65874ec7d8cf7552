"""Long work in stages, in one folder: what is done is not done again, and a page of docs gets its figures between two marks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roadworthy.runtime.files import write_text
from roadworthy.scripts.terminal import console, progress_line

DOCS = Path(__file__).resolve().parent.parent / "docs"
Report = Callable[[str, float], None]


class Stages:
    """The folder of one long piece of work: its files, and how long each stage took."""

    def __init__(self, root: Path, plan: Mapping[str, Any]) -> None:
        """Take up the work in `root`; raises `BadInput` when it was begun with another plan."""
        from roadworthy.agent.claim import claim

        claim(root, plan)
        self.root = root

    def path(self, name: str) -> Path:
        """Return the file or folder `name` of this work."""
        return self.root / name

    def do(self, name: str, work: Callable[[Report], object]) -> None:
        """Do a stage unless it is done; the seconds of interrupted attempts count too."""
        known = self.times()
        if known.get(name, {}).get("done"):
            return
        began, before = time.monotonic(), float(known.get(name, {}).get("seconds", 0.0))
        done = False
        try:
            with progress_line(name) as report:
                work(report)
            done = True
        finally:
            spent = round(before + time.monotonic() - began, 1)
            write_text(self.path("times.json"), json.dumps({**known, name: {"seconds": spent, "done": done}}, indent=1))
        console.print(f"{name}: {spent:.0f} s")

    def times(self) -> dict[str, dict[str, Any]]:
        """Return what each stage took so far."""
        path = self.path("times.json")
        found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def spent(self) -> str:
        """Say in words what the stages took."""
        minutes = {name: stage["seconds"] / 60 for name, stage in self.times().items()}
        return (
            f"{sum(minutes.values()):.0f} minutes in all ({', '.join(f'{name} {each:.1f}' for name, each in minutes.items())})"
        )


def write_between(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Replace what stands between the marks `<!-- MARK: begin -->` and `end` of `page`; a page that is not there is made."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if begin not in text:
        text += f"{begin}\n{end}\n"
    head, rest = text.split(begin, 1)
    write_text(page, f"{head}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.split(end, 1)[1]}")

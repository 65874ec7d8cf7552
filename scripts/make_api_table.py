"""The table of CARLA's API in docs/town_api.md, from what the conformance suite has used.

Each check in `tests/agent/town/client` runs against a town of its own process and notes the members of the `carla` package that
it uses. `--from FOLDER` takes the notes of an earlier run (the test suite's) instead. `--check` writes nothing and fails when
the file is not up to date.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from roadworthy.agent.town.process import TownProcess
from roadworthy.runtime.errors import RoadworthyError
from roadworthy.runtime.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / "tests" / "agent" / "town" / "client" / "run.py"
DOCUMENT = ROOT / "docs" / "town_api.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
NOT_SERVED = {  # data of sensors that the town does not have
    "CAMEvent", "CAMMessage", "CustomV2XData", "CustomV2XEvent", "DVSEvent", "DVSEventArray", "OpticalFlowImage",
}  # fmt: skip


def gather(folder: Path) -> tuple[set[str], dict[str, str]]:
    """The members used, and how the town treats a member where it does not simply do it, from the notes in `folder`."""
    used: set[str] = set()
    remarks: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        notes = json.loads(path.read_text())
        used |= set(notes["used"])
        remarks |= notes["remarks"]
    return used, remarks


def listed() -> dict[str, Any]:
    """Names of all checks, and all members of the client by class."""
    result = subprocess.run([sys.executable, str(RUNNER), "--list"], capture_output=True, text=True, check=True)
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def table(members: dict[str, list[str]], used: set[str], remarks: dict[str, str]) -> str:
    """One row per class of the client's: what the suite uses, what is refused or without effect, what no check uses."""
    lines = [
        "| class | used by a check | accepted, no effect | refused | used by no check |",
        "| --- | --- | --- | --- | --- |",
    ]
    works = total = 0
    for name, names in members.items():
        if name in NOT_SERVED:
            continue
        cells: dict[str, list[str]] = {"used": [], "accepted": [], "refused": [], "unused": []}
        for member in names:
            title = f"{name}.{member}"
            remark = remarks.get(title, "used" if title in used else "unused")
            cells[remark.split(",")[0]].append(f"`{member}`" + (" (in the town's log only)" if "log" in remark else ""))
        lines.append("| " + " | ".join([f"`{name}`", *(", ".join(cell) for cell in cells.values())]) + " |")
        works, total = works + len(cells["used"]), total + len(names)
    absent = ", ".join(f"`{name}`" for name in sorted(NOT_SERVED))
    said = f"{works} of {total} methods, properties and batch commands are used by a check and work."
    return f"{said} Sensors whose data the town does not make (their blueprints are missing): {absent}.\n\n" + "\n".join(lines)


def run_all(folder: Path) -> None:
    """Run every check against one town; its notes go to `folder`. Raises `RoadworthyError` when one fails."""
    with TownProcess("Grid01", seed=1) as town:
        for name in listed()["checks"]:
            notes = folder / f"{name}.json"
            command = [sys.executable, str(RUNNER), str(town.port), name, str(notes)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if not notes.exists():
                raise RoadworthyError(f"check {name!r} failed, so the table cannot be made:\n{done.stderr[-2000:]}")


def with_table(document: str, rows: str) -> str:
    """The document with its table replaced."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{rows}\n{END}{after}"


@click.command()
@click.option(
    "--from", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Notes of an earlier run."
)
@click.option("--check", is_flag=True, help="Write nothing; fail when the file is not up to date.")
def main(folder: Path | None, check: bool) -> None:
    """Write the table of supported API into docs/town_api.md."""
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            folder = Path(temporary)
            run_all(folder)
        wanted = with_table(DOCUMENT.read_text(), table(listed()["members"], *gather(folder)))
    if check and wanted != DOCUMENT.read_text():
        raise click.ClickException("docs/town_api.md is not up to date: run python -m roadworthy.scripts.make_api_table")
    if not check:
        write_text(DOCUMENT, wanted)


if __name__ == "__main__":
    main()

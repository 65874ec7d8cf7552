"""The real, unmodified CARLA client against the town: every function of `client_checks.py`, each in its own process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadworthy.agent.town.process import TownProcess

pytest.importorskip("carla", reason="needs the carla client: pip install 'roadworthy[drive]'")

CHECKS_FILE = Path(__file__).with_name("client_checks.py")
NAMES = [
    node.name
    for node in ast.parse(CHECKS_FILE.read_text()).body
    if isinstance(node, ast.FunctionDef) and any(getattr(mark, "id", "") == "check" for mark in node.decorator_list)
]


@pytest.fixture(scope="module")
def town() -> Iterator[TownProcess]:
    with TownProcess("Grid01", seed=1) as process:
        yield process


@pytest.mark.parametrize("name", NAMES)
def test_client(name: str, town: TownProcess, tmp_path: Path) -> None:
    done = tmp_path / "done"  # written at the end of a check: the client may still abort while its process exits
    command = [sys.executable, str(CHECKS_FILE), str(town.port), name, str(done)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert town.alive(), town.said()
    assert done.exists(), f"{result.stdout}\n{result.stderr}\ntown: {town.said()}"

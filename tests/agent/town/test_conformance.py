"""The real, unmodified CARLA client against the town: every check in `client/`, each in its own process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from roadworthy.agent.town.process import TownProcess
from roadworthy.scripts import make_api_table

pytest.importorskip("carla", reason="needs the carla client: pip install 'roadworthy[drive]'")

CLIENT = Path(__file__).parent / "client"
NAMES = [
    node.name
    for path in sorted(CLIENT.glob("*_checks.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and any(getattr(mark, "id", "") == "check" for mark in node.decorator_list)
]


@pytest.fixture(scope="module")
def town() -> Iterator[TownProcess]:
    with TownProcess("Grid01", seed=1) as process:
        yield process


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.mark.parametrize("name", NAMES)
def test_client(name: str, town: TownProcess, records: Path) -> None:
    done = records / f"{name}.json"  # written at the end of a check: the client may still abort while its process exits
    command = [sys.executable, str(CLIENT / "run.py"), str(town.port), name, str(done)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert town.alive(), town.said()
    assert done.exists(), f"{result.stdout}\n{result.stderr}\ntown: {town.said()}"


def test_the_table_of_supported_api(records: Path) -> None:
    """docs/town_api.md says what the checks above have just shown."""
    if {path.stem for path in records.glob("*.json")} != set(NAMES):
        pytest.skip("needs every check of this file to have passed in this run")
    result = CliRunner().invoke(make_api_table.main, ["--check", "--from", str(records)])
    assert result.exit_code == 0, result.output

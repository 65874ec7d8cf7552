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


ATTEMPTS = 3  # the client library aborts now and then on a busy machine ("close: Bad file descriptor", "bad_weak_ptr")


class Towns:
    """The town that all checks share, until one of them leaves it in the middle of something."""

    def __init__(self) -> None:
        self.town = TownProcess("Grid01", seed=1)

    def begin_anew(self) -> None:
        self.town.close()
        self.town = TownProcess("Grid01", seed=1)


@pytest.fixture(scope="module")
def towns() -> Iterator[Towns]:
    shared = Towns()
    yield shared
    shared.town.close()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.mark.parametrize("name", NAMES)
def test_client(name: str, towns: Towns, records: Path) -> None:
    done = records / f"{name}.json"  # written at the end of a check: the client may still abort while its process exits
    for _ in range(ATTEMPTS):
        command = [sys.executable, str(CLIENT / "run.py"), str(towns.town.port), name, str(done)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert towns.town.alive(), towns.town.said()
        if result.returncode >= 0 or done.exists():  # a failed check is never repeated, only a client that a signal ended
            break
        towns.begin_anew()  # what the client left there, a strange map or cars, is not the next one's to meet
    assert done.exists(), f"{result.stdout}\n{result.stderr}\ntown: {towns.town.said()}"


def test_the_table_of_supported_api(records: Path) -> None:
    """docs/town_api.md says what the checks above have just shown."""
    if {path.stem for path in records.glob("*.json")} != set(NAMES):
        pytest.skip("needs every check of this file to have passed in this run")
    result = CliRunner().invoke(make_api_table.main, ["--check", "--from", str(records)])
    assert result.exit_code == 0, result.output

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from roadworthy.agent.parallel import Task, run_tasks
from roadworthy.runtime.errors import BadInput


@pytest.fixture
def tasks() -> Iterator[ModuleType]:
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("parallel_tasks")
    sys.path.remove(str(Path(__file__).parent))


def test_results_come_in_order_with_one_progress(tasks: ModuleType) -> None:
    seen: list[tuple[str, float]] = []
    work = [Task(f"task {n}", tasks.square, (n,)) for n in range(3)]
    assert run_tasks(work, progress=lambda text, fraction: seen.append((text, fraction))) == [0, 1, 4]
    assert {text for text, _ in seen} == {f"task {n}: squaring" for n in range(3)}
    assert all(0 < fraction < 1 for _, fraction in seen)


def test_one_error_ends_the_others(tasks: ModuleType, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput, match="no such route"):
        run_tasks([Task("endless", tasks.wait, (tmp_path / "marker",)), Task("picky", tasks.refuse)])
    assert time.monotonic() - began < 60  # it came back at all: the endless task was ended


def test_no_tasks_are_no_work() -> None:
    assert run_tasks([]) == []

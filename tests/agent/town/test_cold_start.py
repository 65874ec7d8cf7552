"""A start without compiled kernels: what the helper compiles is what the town needs, and nobody is left behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from roadworthy.agent.town import cold_start, collisions, maps, shading
from roadworthy.agent.town.loaded_map import LoadedMap
from roadworthy.agent.town.raster import CameraPose
from roadworthy.agent.town.settings import CLEAR_NOON

OWNER = "from roadworthy.agent.town.process import TownProcess; TownProcess()"


def test_the_helper_compiles_what_the_town_calls() -> None:
    """Other types than the town's would be compiled in vain, and the town's again."""
    cold_start.compile_shading()
    cold_start.compile_motion()
    town = LoadedMap.build("Grid01", maps.load("Grid01"), 0)
    town.renderer.render(CameraPose(0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 64, 32, 90.0), [], CLEAR_NOON, {})
    bodies = collisions.Bodies(1)
    bodies.model[bodies.take()] = 1.0
    collisions.advance(bodies, np.array([0], np.int64), 0.1, collisions.Grip(1.0, 1.0), town.static)
    assert len(shading.shade.signatures) == 1
    assert len(collisions._advance.signatures) == 1


def helpers_of_this_process() -> list[psutil.Process]:
    """List running helpers; other tests' towns are children of this process too."""
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if "roadworthy.agent.town.cold_start" in child.cmdline()]


def test_only_a_first_start_has_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_start, "FOLDER", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with cold_start.Helper():
        assert len(helpers_of_this_process()) == 1
    assert not helpers_of_this_process()
    cold_start.note_complete()
    with cold_start.Helper() as helper:
        helper.wait()
        assert not helpers_of_this_process()


@pytest.mark.parametrize("moment", ["at once", "while it compiles"])
def test_a_starting_town_ends_with_its_owner(moment: str, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}) as owner:
        deadline = time.monotonic() + 60.0
        while not (towns := psutil.Process(owner.pid).children()) or (
            moment != "at once" and not list(tmp_path.rglob("*.nbc"))
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        family = [*towns, *(child for town in towns for child in town.children(recursive=True))]
        owner.kill()
        _, left = psutil.wait_procs(family, timeout=20.0)
        for process in left:
            process.kill()
    assert not left


def test_a_town_without_an_owner_stays(tmp_path: Path) -> None:
    """Started by a shell that ends, as with nohup."""
    ready = tmp_path / "ready"
    command = f"{sys.executable} -m roadworthy.agent.town --port 0 > {ready} & echo $!"
    pid = int(subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=True).stdout)
    try:
        while not ready.read_text():
            assert psutil.pid_exists(pid)
            time.sleep(0.1)
        assert json.loads(ready.read_text())["map"] == "Grid01"
        time.sleep(2.0)
        assert psutil.pid_exists(pid)
    finally:
        psutil.Process(pid).terminate()

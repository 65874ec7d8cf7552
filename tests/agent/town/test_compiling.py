"""Where machine code is kept: apart for every state of the sources, together for all processes, and nowhere in the way."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import pytest

from roadworthy.agent.town import compiling
from roadworthy.agent.town.compiling import KEPT_DAYS, cache_folder, digest

HYPOT = """
import sys
import numba
from roadworthy.agent.town.compiling import FOLDER
from roadworthy.agent.town.attachments import to_local
import numpy as np

print(to_local(np.zeros(6), 1.0, 2.0, 3.0), file=sys.stderr)
print(FOLDER, sum(to_local.stats.cache_hits.values()), repr(numba.config.CACHE_DIR))
"""


def in_new_process(**environment: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", HYPOT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "(1.0, 2.0, 3.0)" in result.stderr
    return result.stdout.split()


def test_another_callee_is_another_folder(tmp_path: Path) -> None:
    """numba itself would look at the caller's file alone."""
    (tmp_path / "caller.py").write_text("from callee import G\n")
    callee = tmp_path / "callee.py"
    callee.write_text("G = 9.81\n")
    before = digest(tmp_path)
    assert digest(tmp_path) == before
    callee.write_text("G = 9.82\n")
    assert digest(tmp_path) != before
    callee.write_text("G = 9.81\n")
    assert digest(tmp_path) == before
    callee.rename(tmp_path / "other.py")
    assert digest(tmp_path) != before


def test_processes_share_the_users_own_folder(tmp_path: Path) -> None:
    folder, hits, own = in_new_process(NUMBA_CACHE_DIR=str(tmp_path))
    assert Path(folder).parent.parent == tmp_path
    assert hits == "0"
    assert own == repr(str(tmp_path)), "other code of the process keeps numba's setting"
    assert in_new_process(NUMBA_CACHE_DIR=str(tmp_path)) == [folder, "1", own]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    no_folder = tmp_path / "file"
    no_folder.write_text("not a folder")
    instead = tmp_path / "temporary"
    instead.mkdir()
    places = {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": str(no_folder / "cache"), "TMPDIR": str(instead)}
    folder, _, own = in_new_process(**places)
    assert Path(folder).parent.parent == instead
    assert own == "''"


def test_no_place_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_folder = tmp_path / "file"
    no_folder.write_text("not a folder")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(no_folder / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_folder / "b"))
    monkeypatch.setattr(tempfile, "tempdir", str(no_folder / "c"))
    assert cache_folder("0" * 24) is None
    monkeypatch.setattr(compiling, "FOLDER", None)
    double = compiling.kernel(lambda x: 2 * x)
    assert double(21) == 42


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions as on POSIX systems")
def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "open"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    name = "0" * 24
    folder = tmp_path / "open" / "roadworthy-kernels" / name
    assert cache_folder(name) == folder
    folder.chmod(0o777)
    assert cache_folder(name) == tmp_path / "own" / "roadworthy" / "kernels" / name


def test_only_long_unused_folders_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    old, recent, used = ("a" * 24, "b" * 24, "c" * 24)
    folders = [cache_folder(name) for name in (old, recent, used)]
    place = tmp_path / "roadworthy-kernels"
    (place / "somebody's").mkdir()
    long_ago = time.time() - (KEPT_DAYS + 1) * 86400
    for folder in (folders[0], folders[2], place / "somebody's"):
        assert folder
        os.utime(folder, (long_ago, long_ago))
    assert cache_folder(used) == folders[2]
    assert sorted(path.name for path in place.iterdir()) == sorted([recent, used, "somebody's"])

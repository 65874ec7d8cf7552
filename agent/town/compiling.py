"""How kernels are compiled by numba, and where their machine code is kept.

numba's own cache looks at the file of a kernel, but not at the files of the kernels that it calls nor at the constants that
it imports: after an update it would go on with old machine code. Here every state of the sources has a folder of its own,
named by a digest of them, of what compiles them and of the processor. It lies in numba's cache folder where the user has set
one (`NUMBA_CACHE_DIR`), else in the user's cache folder, else in the folder for temporary files. Processes share it; folders
that nobody has used for `KEPT_DAYS` are removed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]  # what most kernels work on
Ints = npt.NDArray[np.int32]

KEPT_DAYS = 14.0  # a process that runs longer only compiles again what it has not used yet
_DIGITS = 24  # of a folder's name
_SOURCES = Path(__file__).parent
_SETTINGS: Any = numba.config
_NJIT: Any = numba.njit


def digest(sources: Path = _SOURCES) -> str:
    """Name of the folder for the Python sources in `sources`, this numba, numpy, LLVM and Python, and this processor."""
    key = hashlib.sha256()
    python = sys.version_info[:3]
    for part in (numba.__version__, np.__version__, llvmlite.__version__, python, llvmlite.binding.get_host_cpu_name()):
        key.update(f"{part}\n".encode())
    for path in sorted(sources.glob("*.py")):
        data = path.read_bytes()
        key.update(f"{path.name} {len(data)}\n".encode())
        key.update(data)
    return key.hexdigest()[:_DIGITS]


def cache_folder(name: str) -> Path | None:
    """Make the folder `name` for machine code in the first place where that works; None where none does."""
    for place in _places():
        folder = place / name
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            if not _trusted(folder):
                continue
            os.utime(folder)  # in use
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder
            continue
        _prune(place, folder)
        return folder
    return None


def _places() -> Iterator[Path]:
    if _SETTINGS.CACHE_DIR:
        yield Path(_SETTINGS.CACHE_DIR) / "roadworthy-kernels"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    yield (Path(cache) if Path(cache).is_absolute() else Path("~/.cache").expanduser()) / "roadworthy" / "kernels"
    user = os.getuid() if hasattr(os, "getuid") else 0
    yield Path(tempfile.gettempdir()) / f"roadworthy-kernels-{user}"


def _trusted(folder: Path) -> bool:
    """Whether nobody else could have put machine code there: everyone may write to the folder for temporary files."""
    if not hasattr(os, "getuid"):
        return True
    return all(place.stat().st_uid == os.getuid() and not place.stat().st_mode & 0o022 for place in (folder, folder.parent))


def _prune(place: Path, used: Path) -> None:
    """Remove the folders of other sources that nobody has used for long."""
    oldest = time.time() - KEPT_DAYS * 86400.0
    for folder in place.iterdir():
        try:
            if folder != used and re.fullmatch(f"[0-9a-f]{{{_DIGITS}}}", folder.name) and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # another process was faster
            continue


FOLDER = cache_folder(digest())


def _compiled(**options: bool) -> Callable[[Callable[..., Any]], Any]:
    def decorate(function: Callable[..., Any]) -> Any:
        users = _SETTINGS.CACHE_DIR
        _SETTINGS.CACHE_DIR = str(FOLDER or "")  # numba reads it when it meets a function: only ours go there
        try:
            return _NJIT(cache=FOLDER is not None, nogil=True, error_model="numpy", boundscheck=False, **options)(function)
        finally:
            _SETTINGS.CACHE_DIR = users

    return decorate


# No fast-math: the same input gives the same bytes. Divisions by zero give infinities, as in numpy.
kernel = _compiled()
# For kernels that only other kernels call: without the way in from Python they compile in half the time.
inner_kernel = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True)

"""Which code made a model: the version of the package and the git revision it runs from."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from roadworthy.runtime.metadata import UNKNOWN


def roadworthy_version() -> str:
    """Return the installed version, or `unknown` when it is run without being installed."""
    try:
        return version("roadworthy")
    except PackageNotFoundError:
        return UNKNOWN


def source_revision() -> str:
    """Return the git revision of a source checkout (`+local` when files differ), or `unknown` for an installed wheel."""
    folder = Path(__file__).resolve().parent
    try:
        # Ask for a file of ours: an installed package may lie inside somebody else's repository.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name], cwd=folder, capture_output=True, check=True, timeout=10
        )
        describe = ["git", "describe", "--always", "--abbrev=40", "--match=", "--dirty=+local"]
        return subprocess.run(describe, cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN

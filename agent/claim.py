"""One folder, one piece of work: what was asked for is written into it, and nothing else may go on there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text

CLAIM_FILE = "learning.json"


def claim(folder: Path, asked_for: Mapping[str, Any]) -> None:
    """Mark `folder` as the place of the learning that `asked_for` (JSON-able) describes; an interrupted one may go on there.

    Raises `BadInput` when it belongs to another learning or holds something else.
    """
    path = folder / CLAIM_FILE
    wanted = json.loads(json.dumps(asked_for))
    if path.is_file():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise BadInput(f"{path}: damaged ({error}); choose another folder, or delete this one") from error
        different = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        if different:
            raise BadInput(f"{folder} holds another learning (different: {', '.join(different)}): choose another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists and holds something else: choose an empty or new folder")
    write_text(path, json.dumps(wanted, indent=1) + "\n")

"""Run one check against a town: `python run.py PORT NAME DONE`. `test_conformance.py` runs them all.

`python run.py --list` prints all checks, and all members of the client that can be noted.

Each has a process of its own: the client can abort it. The file DONE is written when the check has passed; it lists the members
of the `carla` package that the check has used, and those that it has found refused.
"""

import importlib
import json
import sys
from pathlib import Path

import recording
from session import CHECKS, another_client

FILES = sorted(path.stem for path in Path(__file__).parent.glob("*_checks.py"))


def main() -> None:
    catalogue = recording.catalogue()
    recording.start()
    for name in FILES:
        importlib.import_module(name)
    if sys.argv[1:] == ["--list"]:
        sys.stdout.write(json.dumps({"checks": list(CHECKS), "members": catalogue}))
        return
    CHECKS[sys.argv[2]](another_client())
    done = Path(sys.argv[3])
    part = done.with_suffix(".part")
    part.write_text(json.dumps({"used": sorted(recording.used), "remarks": recording.remarks}))
    part.replace(done)


if __name__ == "__main__":
    main()

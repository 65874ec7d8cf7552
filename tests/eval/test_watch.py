"""The state of a running study over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from roadworthy.eval.folder import StudyFolder
from roadworthy.eval.runner import Progress
from roadworthy.eval.schedule import Job
from roadworthy.eval.watch import Watch
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text

JOBS = [Job("a", "count", "counting <a>", {}), Job("b", "count", "counting b", {}, needs=("a",))]


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_study_is_watched_and_then_read(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with Watch(folder, "A <study>", JOBS) as watch:
        assert watch.address.startswith("http://127.0.0.1:")
        assert json.loads(get(watch.address + "status.json"))["jobs"][0]["seconds"] is None
        write_text(folder.stage("a"), json.dumps({"fingerprint": "x", "seconds": 12.0, "result": {}}))
        watch.update(Progress("counting b", 0.5, 60.0, 120.0, 1, 2))
        page = get(watch.address)
        for words in (
            "A &lt;study&gt;",
            "counting &lt;a&gt;",
            "12 s",
            "50%",
            "1.0 minutes gone, about 2.0 left",
            'http-equiv="refresh"',
        ):
            assert words in page
        state = json.loads(get(watch.address + "status.json"))
        assert (state["fraction"], state["finished"]) == (0.5, False)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(watch.address + "../../etc/passwd")
        write_text(folder.report, "<p>the report")
        watch.finish()
        assert get(watch.address) == "<p>the report"


def test_a_taken_port_is_named_and_a_closed_one_is_free(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with Watch(folder, "one", JOBS) as watch:
        port = int(watch.address.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(BadInput, match=f"port {port} cannot be used"):
            Watch(folder, "two", JOBS, port)
    with Watch(folder, "three", JOBS, port) as again:
        assert get(again.address)

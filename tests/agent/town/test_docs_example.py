"""The CARLA script in docs/town.md runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from roadworthy.agent.town.process import TownProcess

END = "\nprint('at the end', flush=True)\n"
PAGE = Path(__file__).parents[3] / "docs" / "town.md"


def test_the_script_of_the_page_runs(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    script = found[1]
    assert len(script.strip().splitlines()) < 30
    with TownProcess("Ring01") as town:
        here = script.replace('"127.0.0.1", 2000', f'"127.0.0.1", {town.port}')
        assert here != script
        done = subprocess.run(
            [sys.executable, "-c", here + END], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
    said, ended, _ = done.stdout.partition("at the end")
    assert ended, done.stderr[-2000:]  # by the exit status it is not told: the client library may abort while its process exits
    speed = re.fullmatch(r"(\d+) km/h, 800x600", said.strip())
    assert speed, done.stdout
    assert 10 < int(speed[1]) < 60
    assert Image.open(tmp_path / "last.png").size == (800, 600)

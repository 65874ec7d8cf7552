"""Maps for the town's tests."""

import os
from pathlib import Path

import pytest

from roadworthy.agent.town import maps

DATA = Path(os.environ.get("ROADWORTHY_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(params=["Grid01", "Grid02", "Crooked01", "Ring01", "Town01", "Town02"])
def town_map(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Name and OpenDRIVE text of a shipped town, or of one of CARLA's."""
    if request.param in maps.names():
        return request.param, maps.load(request.param)
    path = DATA / "towns" / f"{request.param}.xodr"
    if not path.is_file():
        pytest.skip(f"needs {path}; set ROADWORTHY_DATA to the folder with towns/")
    return request.param, path.read_text()

"""Maps for the town's tests."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("ROADWORTHY_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(params=["Town01", "Town02"])
def town_map(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Name and OpenDRIVE text of one of CARLA's towns."""
    path = DATA / "towns" / f"{request.param}.xodr"
    if not path.is_file():
        pytest.skip(f"needs {path}; set ROADWORTHY_DATA to the folder with towns/")
    return request.param, path.read_text()

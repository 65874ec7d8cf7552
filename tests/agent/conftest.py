"""Maps for the agent's tests."""

import os
from pathlib import Path

import pytest

from roadworthy.agent.carla_client import carla
from roadworthy.agent.town import maps

DATA = Path(os.environ.get("ROADWORTHY_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(params=["Grid01", "Grid02", "Crooked01", "Town01"])
def carla_map(request: pytest.FixtureRequest) -> carla.Map:
    """A map of the town's, or CARLA's own Town01."""
    if request.param.startswith("Town"):
        path = DATA / "towns" / f"{request.param}.xodr"
        if not path.is_file():
            pytest.skip(f"needs {path}; set ROADWORTHY_DATA to the folder with towns/")
        return carla.Map(request.param, path.read_text())
    return carla.Map(request.param, maps.load(request.param))

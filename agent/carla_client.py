"""The unmodified `carla` client package, imported in one place: `from roadworthy.agent.carla_client import carla`."""

import os
import tempfile

from roadworthy.runtime.errors import MissingExtra

os.environ.setdefault("HOME", tempfile.gettempdir())  # without HOME the client library crashes the process on import

try:
    import carla
except ModuleNotFoundError as error:
    raise MissingExtra("carla", "drive", "talking to a CARLA simulator") from error

__all__ = ["carla"]

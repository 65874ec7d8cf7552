"""The town's own errors: a refused call, an unusable map, a port in use."""

from __future__ import annotations


class TownError(Exception):
    """Something the town's user can act on; the message says what was expected, what came, and the fix."""


class CallRefused(TownError):
    """A client's call that the town answers with an error; the text reaches Python as the RuntimeError's message."""


class MapRefused(CallRefused):
    """An OpenDRIVE text that the town will not load."""


class PortInUse(TownError):
    """One of the two ports (RPC and streaming) is taken."""


class TownDied(TownError):
    """The town's process ended before it was ready, or while it was needed."""

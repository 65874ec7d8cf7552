"""The town as a child process: started on a free port, gone when its owner is."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import IO

from roadworthy.agent.town.errors import PortInUse, TownDied

START_LIMIT_S = 120.0  # a first start compiles the kernels


class TownProcess:
    """A running town. Use it as a context manager, or call `close`; it also ends by itself when this process does.

    `map` is a shipped map's name or the path of an .xodr file; `port` 0 takes a free pair of ports.
    Raises `PortInUse` or `TownDied` (with what the town said).
    """

    def __init__(self, map: str = "Grid01", seed: int = 0, port: int = 0) -> None:
        options = ["--map", map, "--seed", str(seed), "--port", str(port), "--owner", str(os.getpid())]
        command = [sys.executable, "-m", "roadworthy.agent.town", *options]
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said)
        try:
            ready = json.loads(self._first_line())
        except BaseException:
            self.close()
            raise
        self.port: int = ready["port"]
        self.map: str = ready["map"]

    def _first_line(self) -> bytes:
        output = self._process.stdout
        assert output is not None
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if select.select([output], [], [], 0.5)[0]:
                line = output.readline()
                if line:
                    return line
                self._process.wait()
                said = self.said()
                if "choose another with --port" in said:
                    raise PortInUse(said)
                raise TownDied(f"the town did not start (exit {self._process.returncode}): {said or 'it said nothing'}")
        raise TownDied(f"the town was not ready within {START_LIMIT_S:.0f} s: {self.said() or 'it said nothing'}")

    def said(self) -> str:
        """The last lines of what the town wrote to its error output."""
        self._said.seek(0)
        lines = self._said.read()[-8000:].decode("utf-8", "replace").splitlines()
        own = [line.removeprefix("town: ") for line in lines if line.startswith("town: ")]
        return "\n".join(own[-10:] or lines[-1:])

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the town still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the town and wait for it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        if not self._said.closed:
            self._said.close()

    def __enter__(self) -> TownProcess:
        """Return the running town."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it."""
        self.close()

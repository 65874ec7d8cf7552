"""What test_faults.py runs in a worker process: a spawned process imports this module by name."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import roadworthy.agent.traffic as traffic_module
from roadworthy.agent.env import DriveConfig, DriveEnv
from roadworthy.agent.session import Session, free_port
from roadworthy.agent.traffic import Traffic
from roadworthy.runtime.errors import BadInput

COAST = np.zeros(3, np.float32)
PATIENCE_S = 2.0  # instead of the session's 20


def faults(report: Callable[[Any], None], model: Path) -> dict[str, Any]:
    """A Traffic Manager whose port is taken, a map that a server lacks, and a server that hangs; all on one town."""
    found: dict[str, Any] = {}
    env = DriveEnv(model, DriveConfig(vehicles=(0, 0), walkers=(0, 0), threads=1))
    try:
        env.reset(seed=1)
        session = env.session
        assert session is not None
        assert session.town is not None
        report("driving")
        found["traffic"] = _taken_port(session)
        report("traffic with a port that was taken")
        for wanted in ("Atlantis", "no/such/file.xodr"):
            try:
                Session.open(session.address, map=wanted).close()
            except BadInput as error:
                found[wanted] = str(error)
        report("asked for maps that are not there")
        found["before"] = env.step(COAST)[4].get("ended")
        session.timeout_s = PATIENCE_S
        session.client.set_timeout(PATIENCE_S)
        os.kill(session.town.pid, signal.SIGSTOP)
        began = time.monotonic()
        found["hanging"] = env.step(COAST)[2:]
        found["waited_s"] = time.monotonic() - began
        found["town_left"] = session.town.alive()
        report("met a hanging server")
        env.config = replace(env.config, vehicles=(1, 1))
        env.reset()
        found["after"] = env.step(COAST)[4].get("ended")
    finally:
        env.close()
    return found


def _taken_port(session: Session) -> dict[str, Any]:
    """Let the first port that is offered to the Traffic Manager belong to someone else."""
    ports: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def offer() -> int:
            ports.append(free_port() if ports else int(taken.getsockname()[1]))
            return ports[-1]

        traffic_module.free_port = offer  # type: ignore[assignment]
        try:
            traffic = Traffic(session, vehicles=2, seed=1)
        finally:
            traffic_module.free_port = free_port
        cars = len(traffic.vehicles)
        own = int(traffic.manager.get_port())
        traffic.destroy()
    return {"cars": cars, "offered": len(ports), "moved_on": own == ports[-1] != ports[0]}

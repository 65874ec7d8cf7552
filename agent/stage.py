"""The simulator with the egos in it: started when first needed, and started again after it was lost.

A client whose Traffic Manager has lost its server cannot go on: it aborts, or the next tick of any world, on any server, waits
for that manager for ever (both seen with client 0.9.16). Such a process is spoilt; whoever watches it starts another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from roadworthy.agent.ego import Ego, cameras_for
from roadworthy.agent.rules import DriveConfig
from roadworthy.agent.session import Session, SimulatorLost
from roadworthy.agent.world import World

START_ATTEMPTS = 3  # simulators that may die one after the other

Result = TypeVar("Result")


class Stage:
    """One server, one client, one world, and its egos, who stay the same for as long as the server lives."""

    spoilt = False  # of this process

    def __init__(self, config: DriveConfig, cameras: Sequence[Sequence[str]]) -> None:
        """Prepare for one ego for each of `cameras`, the kinds of camera that it needs beside the colour camera."""
        self._config = config
        self._cameras = [cameras_for(needed, truth=config.truth) for needed in cameras]
        self._town = config.towns[0] if config.towns else config.town
        self.session: Session | None = None
        self.egos: list[Ego] = []

    def ready(self, town: str | None = None) -> World:
        """Return the world of `town` (None: whichever is loaded) with its egos; starts the simulator if it does not run.

        Raises `SimulatorLost` when it cannot.
        """
        if Stage.spoilt:
            raise SimulatorLost("a server was lost with traffic in it, and its client with it: go on in another process")
        if not self.egos:
            self._town = town or self._town
            self.session = Session.open(carla=self._config.carla, map=self._town)
            self._enter(self.session)
        elif town is not None and town != self._town:
            self._load(town)
        return self.egos[0].world

    def attempt(self, work: Callable[[World], Result], town: str | None = None) -> Result:
        """Return `work(world)` in `town`, repeated in a new simulator when it is lost; raises `SimulatorLost` after some."""
        for _ in range(START_ATTEMPTS - 1):
            try:
                return work(self.ready(town))
            except SimulatorLost:
                self.lose()
        return work(self.ready(town))

    def start_afresh(self) -> None:
        """Reload an embedded town, so that the same seed gives the same frames; a real server would leak actors and memory."""
        try:
            self.ready()
            assert self.session is not None
            if self.session.town is not None:
                self._load(None)
        except SimulatorLost:
            self.lose()

    @property
    def town(self) -> str:
        """The town that is loaded, or will be first."""
        return self._town

    def lose(self) -> None:
        """Give up a simulator that was lost."""
        Stage.spoilt |= any(ego.world.crowded for ego in self.egos)
        session, self.egos, self.session = self.session, [], None
        if session is not None:
            session.close()

    def drop(self) -> None:
        """End the traffic, the session and an embedded town."""
        egos, session, self.egos, self.session = self.egos, self.session, [], None
        try:
            if egos and session is not None and (session.town is None or session.town.alive()):
                egos[0].world.clear()
        finally:
            Stage.spoilt |= any(ego.world.crowded for ego in egos)
            if session is not None:
                session.close()

    def _load(self, town: str | None) -> None:
        """Load `town`, or the loaded one afresh."""
        assert self.session is not None
        self.egos[0].world.clear()
        if town is None:
            self.session.reload()
        else:
            self.session.load_map(town)
            self._town = town
        self._enter(self.session)

    def _enter(self, session: Session) -> None:
        config, world = self._config, World(session)
        self.egos = [
            Ego(session, config.rig, lights_yield=config.lights_yield, cameras=cameras, world=world)
            for cameras in self._cameras
        ]

"""One simulated world: a map with its weather and traffic, and the tick that every ego in it shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from roadworthy.agent.carla_client import carla
from roadworthy.agent.lanegraph import LaneGraph
from roadworthy.agent.session import Session
from roadworthy.agent.traffic import Traffic
from roadworthy.agent.weather import get_weather, vary

if TYPE_CHECKING:
    from roadworthy.agent.ego import Assignment, Ego, Moment

SETTLE_TICKS = 5  # until a placed car stands still and its frames are its own


class World:
    """What the egos on one map have in common. Each assignment makes the traffic anew, the same one the same traffic."""

    def __init__(self, session: Session) -> None:
        """Take the map that `session` has loaded."""
        self.session = session
        self.lanes = LaneGraph(session.map)
        self.egos: list[Ego] = []
        self.standing: list[carla.Actor] = []  # cars that nobody drives, put in the egos' way
        self.extents: dict[int, tuple[float, float]] = {}  # half length, half width [m] by actor id
        # Whether a Traffic Manager of this world's may be in this process, which then does not survive a dying server.
        self.crowded = False
        self._traffic: Traffic | None = None
        self._lights_given: dict[int, Ego] = {}  # who has the green of a junction, by the least id of its lights

    def begin(self, starts: Sequence[tuple[Ego, Assignment]]) -> list[Moment]:
        """Set weather, lights and traffic up as the first assignment says, put every ego on its start; the first moments.

        The traffic gathers where a lone ego drives; between several egos it starts anywhere.
        """
        self.clear()
        session, assignment = self.session, starts[0][1]
        rng = np.random.default_rng(assignment.seed)
        session.world.set_weather(vary(get_weather(assignment.weather), rng))
        session.world.reset_all_traffic_lights()
        self._lights_given.clear()
        for ego, own in starts:
            ego.take(own)
            ego.place(0.0)
        session.tick()
        if assignment.vehicles or assignment.walkers:  # without a Traffic Manager the client survives a dying server
            middle = assignment.route.transform_at(assignment.route.length_m / 2).location
            self.crowded = True  # before the first car: a server that dies meanwhile leaves the Traffic Manager behind
            self._traffic = Traffic(
                session,
                vehicles=assignment.vehicles,
                walkers=assignment.walkers,
                seed=assignment.seed,
                clear=assignment.route.start.location,
                near=middle if len(starts) == 1 else None,
            )
        everybody = [*self._crowd(), *(ego.car for ego in self.egos)]
        self.extents = {actor.id: (actor.bounding_box.extent.x, actor.bounding_box.extent.y) for actor in everybody}
        return self.settle([ego for ego, _ in starts])

    def settle(self, egos: Sequence[Ego]) -> list[Moment]:
        """Tick until `egos`, just placed, stand still; return their moments. What they touched meanwhile does not count."""
        for _ in range(SETTLE_TICKS - 1):
            self.session.tick()
        for ego in egos:
            ego.drain_contacts()
        frame = self.session.tick()
        moments = [ego.measure(frame) for ego in egos]
        for ego in egos:
            ego.drain_contacts()
        return moments

    def others(self, ego: Ego) -> Sequence[carla.Actor]:
        """Return everybody on the road but `ego`: traffic and the other egos."""
        return [*self._crowd(), *(other.car for other in self.egos if other is not ego)]

    def may_clear(self, junction: int, ego: Ego) -> bool:
        """Whether `ego` may turn the lights of a junction for itself: the first to come has them until it lets go."""
        return self._lights_given.setdefault(junction, ego) is ego

    def let_go(self, ego: Ego) -> None:
        """Give the lights back that `ego` had turned for itself."""
        self._lights_given = {junction: holder for junction, holder in self._lights_given.items() if holder is not ego}

    def clear(self) -> None:
        """Take the traffic away."""
        if self._traffic is not None:
            self.crowded = not self._traffic.destroy()
            self._traffic = None

    def _crowd(self) -> Sequence[carla.Actor]:
        traffic = [] if self._traffic is None else [*self._traffic.vehicles, *self._traffic.walkers]
        return [*traffic, *self.standing]

"""Cars that stand at a light whose green has ended, told so in a way that CARLA's Traffic Manager hears.

The Traffic Manager never lets a green end for a car that has seen it: as long as the car is at the light it stays green, so
that nobody stops who is past the line already (`SimulationState::UpdateTrafficLightState` in LibCarla). A car that something
held up before the line, a stranded car or a full junction, would later drive on against the red. So when such a car stands,
it is at no light for one tick; then it is at the light again, and the manager sees red.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STANDING_MPS = 0.1

Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


class HeldGreen:
    """Which cars the Traffic Manager believes to have green."""

    def __init__(self) -> None:
        self._seen: Bools = np.zeros(0, np.bool_)  # by slot

    def let_go(self, slots: Numbers, at_light: Bools, green: Bools, speed: npt.NDArray[np.float64]) -> Bools:
        """Who is to be at no light in this tick `[V]`.

        Args:
            slots: of the vehicles `[V]`.
            at_light: whether each is at a light.
            green: whether that light is green.
            speed: of each [m/s].
        """
        if len(slots) and slots.max() >= len(self._seen):
            self._seen = np.concatenate([self._seen, np.zeros(int(slots.max()) + 1, np.bool_)])
        seen = at_light & (green | self._seen[slots])
        stand = seen & ~green & (speed < STANDING_MPS)
        self._seen[slots] = seen & ~stand
        return stand

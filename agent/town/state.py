"""The episode state: every actor's record, as clients read it from each snapshot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from roadworthy.agent.town.bodies import GEAR, HALF_LENGTH, HAND_BRAKE, MANUAL, REVERSE, YAW, Kind
from roadworthy.agent.town.held_green import HeldGreen
from roadworthy.agent.town.lights import DEFAULT_LIMIT_KMH, TrafficLights
from roadworthy.agent.town.protocol import RECORD, LightState
from roadworthy.agent.town.roster import Roster

GEAR_MPS = 5.5  # the automatic gearbox shows one gear more every so many m/s (shown, not felt)
ACTIVE = 1  # actor state


class EpisodeState:
    """Packs the actor records. What stays the same between births and deaths is written once."""

    def __init__(self) -> None:
        self._live: npt.NDArray[np.int64] | None = None
        self._records = np.zeros(0, RECORD)
        self._vehicles = self._walkers = self._lights = np.zeros(0, np.int64)  # places in the list, not rows
        self._limit_kmh: dict[int, float] = {}  # actor id -> the speed limit of the last sign it passed
        self._held_green = HeldGreen()

    def pack(self, roster: Roster, lights: TrafficLights) -> bytes:
        """All records, 119 bytes each, in order of birth."""
        live = roster.live_slots()
        if live is not self._live:
            self._rebuild(roster, live)
        bodies, records = roster.bodies, self._records
        records["pose"] = bodies.pose[live]
        records["velocity"] = bodies.velocity[live]
        records["angular_velocity"] = bodies.spin[live]
        records["acceleration"] = bodies.acceleration[live]
        if len(self._vehicles):
            self._fill_vehicles(roster, live[self._vehicles], lights)
        if len(self._walkers):
            records["walk"][self._walkers] = bodies.control[live[self._walkers], :4]
        if len(self._lights):
            members = lights.lights
            records["light_state"][self._lights] = [light.state for light in members]
            records["elapsed"][self._lights] = [light.elapsed for light in members]
            records["frozen"][self._lights] = lights.frozen
            records["green"][self._lights] = [light.green for light in members]
            records["yellow"][self._lights] = [light.yellow for light in members]
            records["red"][self._lights] = [light.red for light in members]
        return records.tobytes()

    def _rebuild(self, roster: Roster, live: npt.NDArray[np.int64]) -> None:
        actors = list(roster)
        kinds = roster.bodies.kind[live]
        self._live = live
        self._records = np.zeros(len(live), RECORD)
        self._records["id"] = [actor.id for actor in actors]
        self._records["state"] = ACTIVE
        self._vehicles = np.flatnonzero(kinds == Kind.VEHICLE)
        self._walkers = np.flatnonzero(kinds == Kind.WALKER)
        self._lights = np.array([i for i, actor in enumerate(actors) if actor.light], np.int64)
        for i, actor in enumerate(actors):
            if actor.sign_id:
                self._records[i]["sign_id"] = actor.sign_id.encode("utf-8", "replace")[:31]
        ids = {actor.id for actor in actors}
        self._limit_kmh = {key: value for key, value in self._limit_kmh.items() if key in ids}

    def _fill_vehicles(self, roster: Roster, slots: npt.NDArray[np.int64], lights: TrafficLights) -> None:
        bodies, records, places = roster.bodies, self._records, self._vehicles
        control = bodies.control[slots]
        records["control"][places] = control[:, :3]
        records["hand_brake"][places] = control[:, HAND_BRAKE]
        records["reverse"][places] = control[:, REVERSE]
        records["manual_gear"][places] = control[:, MANUAL]
        pose = bodies.pose[slots]
        speed = np.hypot(bodies.velocity[slots, 0], bodies.velocity[slots, 1])
        shown = np.where(control[:, REVERSE] > 0, -1, 1 + np.minimum(speed // GEAR_MPS, 5))
        records["gear"][places] = np.where(control[:, MANUAL] > 0, control[:, GEAR], shown)
        yaw = np.radians(pose[:, YAW])
        heading = np.stack([np.cos(yaw), np.sin(yaw)], 1)  # [V, 2]
        fronts = pose[:, :2] + heading * bodies.shape[slots, HALF_LENGTH, None]
        at = lights.at_light(fronts, yaw)
        states = np.array([light.state for light in lights.lights] + [LightState.GREEN])  # -1, at no light, reads green
        at[self._held_green.let_go(slots, at >= 0, states[at] == LightState.GREEN, speed)] = -1
        ids = np.append(self._records["id"][self._lights], 0)
        records["at_light"][places] = at >= 0
        records["light"][places] = np.where((at < 0) & lights.at_sign(fronts, yaw), LightState.RED, states[at])
        records["light_id"][places] = ids[at]
        passed = lights.limits(fronts, yaw)
        for place, limit in zip(places[~np.isnan(passed)], passed[~np.isnan(passed)], strict=True):
            self._limit_kmh[int(records["id"][place])] = float(limit)
        limits = self._limit_kmh
        records["speed_limit"][places] = [limits.get(int(id_), DEFAULT_LIMIT_KMH) for id_ in records["id"][places]]

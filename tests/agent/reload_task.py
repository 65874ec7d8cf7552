"""Drawn in a process of its own: the CARLA client can abort the one it lives in."""

from __future__ import annotations

import hashlib

from roadworthy.agent.camera import CameraFeed, CameraRig, rgb_of
from roadworthy.agent.session import Session
from roadworthy.agent.supervisor import Report


def first_pictures(report: Report, episodes: int) -> list[str]:
    """Return digests of the first picture of each episode: of the opened town, and of every reload."""
    found = []
    with Session.open(map="Grid01") as session:
        for episode in range(episodes):
            if episode:
                for _ in range(episode):  # some more ticks in the episode before
                    session.tick()
                session.reload()
            blueprint = session.world.get_blueprint_library().find("vehicle.tesla.model3")
            car = session.spawn(blueprint, session.map.get_spawn_points()[0])
            camera = CameraFeed(session, car, CameraRig(), ("rgb",))
            frame = session.tick()
            found.append(hashlib.sha256(rgb_of(camera.read(frame)["rgb"]).tobytes()).hexdigest())
            report(f"episode {episode}")
    return found

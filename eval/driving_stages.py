"""The stages of a study that drive: each a function that a worker process runs, see `stages`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from roadworthy.eval.folder import JUDGE, TRUTH, StudyFolder
from roadworthy.runtime.files import write_text

Config = Mapping[str, Any]
Progress = Callable[[str, float], None]
Facts = dict[str, Any]

ROAD_STEP_M = 4.0  # [m] between the points of a drawn road


def demonstrate(root: Path, config: Config, progress: Progress) -> Facts:
    """Record what the expert does on routes, once for all segmenters."""
    from roadworthy.agent.camera import CameraRig
    from roadworthy.agent.demonstrations import DemonstrationConfig
    from roadworthy.agent.demonstrations import demonstrate as record_demonstrations

    plan = DemonstrationConfig(
        towns=tuple(config["towns"]),
        steps=config["steps"],
        workers=config["workers"],
        vehicles=config["vehicles"],
        walkers=config["walkers"],
        rig=CameraRig(width_px=config["width"], height_px=config["height"]),
        seed=config["seed"],
        carla=config["carla"],
    )
    shown = record_demonstrations(plan, StudyFolder(root).demonstrations, progress)
    return {"steps": len(shown)}


def learn(root: Path, config: Config, progress: Progress) -> Facts:
    """Train one driver on one segmenter's latents: imitation of the expert, then A2C in the town."""
    import torch

    from roadworthy.agent.demonstrations import Demonstrations
    from roadworthy.agent.imitation import CloneConfig, clone, demonstration_latents
    from roadworthy.agent.policy import save_policy
    from roadworthy.runtime import load

    torch.set_num_threads(1)
    folder, name, seed = StudyFolder(root), config["name"], config["policy_seed"]
    segmenter = load(folder.encoder(name), device="cpu", threads=1)
    shown = Demonstrations.load(folder.demonstrations)
    share = config["imitation_share"]  # of the progress bar

    def imitating(text: str, fraction: float) -> None:
        progress(f"{name}: {text}", share * (0.3 + 0.7 * fraction))

    latents = demonstration_latents(segmenter, shown, lambda text, done: progress(f"{name}: {text}", share * 0.3 * done))
    cloned = clone(latents, shown, CloneConfig(steps=config["imitation_steps"], seed=seed, threads=1), imitating)
    policy = cloned.policy
    facts: Facts = {"policy_seed": seed, "imitation": {"loss": cloned.train_loss, "validation": cloned.validation}}
    if config["reinforcement_steps"]:
        policy, facts["reinforcement"] = _reinforce(
            policy, config, folder, lambda text, done: progress(text, share + (1 - share) * done)
        )
    save_policy(policy, folder.driver(name, seed), facts, cloned.examples)
    return facts


def _reinforce(policy: Any, config: Config, folder: StudyFolder, progress: Progress) -> tuple[Any, Facts]:
    """Improve an imitated policy by driving; returns the better of the two policies and what came of it."""
    from roadworthy.agent.camera import CameraRig
    from roadworthy.agent.drivers import DriverConfig, fine_tune
    from roadworthy.agent.env import DriveConfig

    name = config["name"]
    world = DriveConfig(
        town=config["town"],
        carla=config["carla"],
        rig=CameraRig(width_px=config["width"], height_px=config["height"]),
        vehicles=(0, config["vehicles"]),
        walkers=(0, config["walkers"]),
    )
    plan = DriverConfig(world=world, a2c_steps=config["reinforcement_steps"], seed=config["policy_seed"])
    return fine_tune(policy, folder.encoder(name), plan, lambda text, done: progress(f"{name}: {text}", done))


def learn_judge(root: Path, config: Config, progress: Progress) -> Facts:
    """Train the driver that looks through every segmenter: imitation of the expert on true labels and depth."""
    import torch

    from roadworthy.agent.demonstrations import Demonstrations
    from roadworthy.agent.imitation import CloneConfig, clone
    from roadworthy.agent.lessons import SegDepthLesson
    from roadworthy.agent.policy import save_policy

    torch.set_num_threads(1)
    folder, seed = StudyFolder(root), config["policy_seed"]
    shown = Demonstrations.load(folder.demonstrations)
    cloned = clone(SegDepthLesson(shown), shown, CloneConfig(steps=config["imitation_steps"], seed=seed, threads=1), progress)
    facts: Facts = {"policy_seed": seed, "imitation": {"loss": cloned.train_loss, "validation": cloned.validation}}
    save_policy(cloned.policy, folder.driver(JUDGE, seed), facts, cloned.examples)
    return facts


def drive(root: Path, config: Config, progress: Progress) -> Facts:
    """Judge one driver on the routes of one town, and keep what its segmenter saw around each infraction."""
    from roadworthy.agent.drive import Driver, evaluate_policy
    from roadworthy.eval.sightings import predict_sights

    folder, name, seed = StudyFolder(root), config["name"], config["policy_seed"]
    if config["model"] is None:
        looks = Path(TRUTH)
    else:
        looks = folder.model(config["model"]) if config["driver"] == JUDGE else folder.encoder(name)
    driver = Driver(name, looks, folder.driver(config["driver"], seed), seed)
    file = folder.episodes(name, seed, config["town"], config["weathers"])
    episodes = evaluate_policy(driver, suite(config), file, lambda text, done: progress(text, 0.97 * done))
    frames = 0
    if config["model"] is not None:
        seen = folder.model(config["model"])
        frames = predict_sights(file, seen, lambda text, done: progress(text, 0.97 + 0.03 * done))
    goals = sum(episode.ended == "goal" for episode in episodes)
    return {"episodes": len(episodes), "goals": goals, "frames_of_infractions": frames}


def suite(config: Config) -> Any:
    """Make the suite of routes that a drive or sketch configuration describes."""
    from roadworthy.agent.drive import Suite

    tasks = (("straight", config["straight"]), ("one-turn", config["one_turn"]), ("navigation", config["navigation"]))
    return Suite(
        name=config["suite"],
        town=config["town"],
        held_out=config["held_out"],
        tasks=tuple((task, count) for task, count in tasks if count),  # type: ignore[misc]
        max_length_m=config["max_route_m"],
        weathers=named_weathers(config["weathers"]),
        vehicles=config["vehicles"],
        walkers=config["walkers"],
        seed=config["seed"],
        carla=config["carla"],
    )


def sketch(root: Path, config: Config, progress: Progress) -> Facts:
    """Write a town's road lines and the suite's routes, for the maps on the page."""
    from roadworthy.agent.drive import suite_routes
    from roadworthy.agent.lanegraph import LaneGraph

    progress(f"drawing {config['town']}", 0.0)
    lanes = LaneGraph(_map(config["town"], config["carla"]))
    roads = []
    for entry in lanes.entries.values():
        line = [entry, *entry.next_until_lane_end(ROAD_STEP_M)]
        roads.append([[round(point.transform.location.x, 1), round(point.transform.location.y, 1)] for point in line])
    routes = [route.points[::4, :2].round(1).tolist() for _, route in suite_routes(suite(config), lanes)]
    write_text(StudyFolder(root).sketch(config["town"]), json.dumps({"roads": roads, "routes": routes}))
    return {"roads": len(roads), "routes": len(routes)}


def _map(town: str, address: str | None) -> Any:
    """Load a shipped town's map without a server; any other comes from the server that has it."""
    from roadworthy.agent.carla_client import carla
    from roadworthy.agent.session import Session
    from roadworthy.agent.town import maps

    if address is None and town in maps.names():
        return carla.Map(town, maps.load(town))
    with Session.open(carla=address, map=town) as session:
        return session.map


def named_weathers(which: str) -> tuple[str, ...]:
    """Return the names of a group of weathers, "training" or "held-out"."""
    from roadworthy.agent.weather import HELD_OUT_WEATHERS, TRAINING_WEATHERS

    return HELD_OUT_WEATHERS if which == "held-out" else TRAINING_WEATHERS

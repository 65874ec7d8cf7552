"""The stages of a study, each one function that a worker process runs: (study folder, configuration, progress) -> JSON facts.

Configurations are plain JSON made by `plan`; each stage can be called again after a kill and then goes on in its own files.
Libraries are imported inside the functions, so that a worker loads only what its stage needs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadworthy.eval.folder import JUDGE, TRUTH, StudyFolder, artifact
from roadworthy.runtime.files import atomic_path, write_text

if TYPE_CHECKING:
    from roadworthy.export.parity import Parity
    from roadworthy.train.config import TrainConfig

Config = Mapping[str, Any]
Progress = Callable[[str, float], None]
Facts = dict[str, Any]

EXAMPLES = 5  # test images shown on the page
ROAD_STEP_M = 4.0  # [m] between the points of a drawn road


def record(root: Path, config: Config, progress: Progress) -> Facts:
    """Record a data set from a car on autopilot."""
    from roadworthy.agent.camera import CameraRig
    from roadworthy.agent.recorder import RecordConfig
    from roadworthy.agent.recorder import record as record_frames

    plan = RecordConfig(
        towns=tuple(config["towns"]),
        episodes=config["episodes"],
        frames=config["frames"],
        weathers=_weathers(config["weathers"]),
        vehicles=config["vehicles"],
        walkers=config["walkers"],
        seed=config["seed"],
        rig=CameraRig(width_px=config["width"], height_px=config["height"]),
        carla=config["carla"],
    )
    result = record_frames(plan, StudyFolder(root).recording(config["split"]), progress, workers=config["workers"])
    return {"frames": result.frames, "restarts": result.restarts}


def _data(root: Path, config: Config, split: str) -> str:
    """Return the data that a configuration names: an existing set, or what the study itself recorded as `split`."""
    return os.path.expandvars(config["data"]) if config["data"] else f"recording:{StudyFolder(root).recording(split)}"


def _test_split(config: Config) -> str | None:
    """Return the split of the test data: an existing set is tested on "val" unless told otherwise; a recording has one."""
    return None if config["data"] is None else config["split"] or "val"


def train(root: Path, config: Config, progress: Progress) -> Facts:
    """Train one segmenter, from random weights or from another run."""
    from roadworthy.train.fit import fit

    folder = StudyFolder(root)
    init = None if config["init"] is None else str(folder.run(config["init"]))
    result = fit(
        train_config(config, _data(root, config, "train"), init), folder.run(config["name"]), progress=progress, resume=True
    )
    return {
        "steps": result.steps,
        "iterations": result.iterations,
        "seconds": result.seconds,
        "steps_per_second": result.steps_per_second,
        "validation_miou": result.validation.mean_iou,
    }


def train_config(config: Config, data: str, init: str | None) -> TrainConfig:
    """Make a training's configuration of a job's. Raises `BadInput` for values that training refuses."""
    from roadworthy.train.config import TrainConfig
    from roadworthy.train.data.augment import Augmentation

    on_cpu = config["device"] == "cpu"
    return TrainConfig(
        data=data,
        model=config["model"],
        objective=config["objective"],
        init=init,
        steps=config["steps"],
        batch_size=config["batch_size"],
        size=(config["height"], config["width"]),
        crop=None if config["crop"] is None else tuple(config["crop"]),
        augmentation=Augmentation(scale_min=config["zoom"][0], scale_max=config["zoom"][1]),
        learning_rate=config["learning_rate"],
        weight_decay=config["weight_decay"],
        seed=config["seed"],
        device=config["device"],
        threads=config["threads"] if on_cpu else None,
    )


def floor(root: Path, config: Config, progress: Progress) -> Facts:
    """Stop the study where its pre-training has not learnt enough for a comparison to mean anything."""
    from roadworthy.runtime.errors import RoadworthyError
    from roadworthy.train.fit import load_result

    progress("checking the pre-training", 0.0)
    found = load_result(StudyFolder(root).run(config["name"])).validation.mean_iou
    if found < config["floor_miou"]:
        raise RoadworthyError(
            f"{config['name']} reached a mean IoU of {found:.3f} on the validation data, expected at least the study's floor "
            f"of {config['floor_miou']}: nothing is compared below it. Raise train.pretrain_steps"
        )
    return {"miou": found, "floor_miou": config["floor_miou"]}


def export(root: Path, config: Config, progress: Progress) -> Facts:
    """Export one run, frames to labels for the car, and cut out its encoder for the driver."""
    import torch

    from roadworthy.export.onnx import export_onnx

    torch.set_num_threads(1)
    folder, name = StudyFolder(root), config["name"]
    progress(f"exporting {name}", 0.0)
    whole = export_onnx(folder.run(name), folder.model(name))
    _cut_encoder(folder, config, name, progress)
    assert whole.parity is not None, "an fp32 export is compared with its network"
    return {"parity": _without_range(whole.parity), "file_bytes": whole.file_bytes}


def convert(root: Path, config: Config, progress: Progress) -> Facts:
    """Make one segmenter's model in another precision, checked against torch (a ready one: against its file)."""
    from roadworthy.export.convert import VERIFY_FRAMES
    from roadworthy.export.convert import convert as convert_model
    from roadworthy.export.frames import Frames, read_frames
    from roadworthy.export.int8 import CALIBRATION_FRAMES
    from roadworthy.export.wish import Wish
    from roadworthy.runtime.metadata import ModelMetadata
    from roadworthy.runtime.onnx_file import read_props

    folder, name, precision = StudyFolder(root), config["name"], config["precision"]
    source, output = folder.model(name), folder.model(artifact(name, precision))
    metadata = ModelMetadata.from_props(read_props(source), str(source))
    reference = None
    if config["trained"]:
        import torch

        from roadworthy.export.onnx import torch_reference
        from roadworthy.runtime.segmenter import OUTPUTS
        from roadworthy.train.checkpoint import load_run

        torch.set_num_threads(1)
        reference = torch_reference(load_run(folder.run(name))[0], OUTPUTS)

    def frames(count: int) -> Frames:
        # Of the training data also for the check: int8 chooses by it which layers to leave alone, the test data stay unseen.
        spec = _data(root, config, "train")
        return read_frames(spec, "train", metadata.height, metadata.width, count, metadata.lookup_taxonomy())

    report = convert_model(
        source,
        output,
        Wish(precision=precision),
        reference=reference,
        frames=lambda: frames(VERIFY_FRAMES),
        calibration=lambda: frames(CALIBRATION_FRAMES),
        progress=lambda text, done: progress(f"{name} in {precision}: {text}", 0.9 * done),
    )
    _cut_encoder(folder, config, artifact(name, precision), progress)
    assert report.parity is not None, "an ONNX file is compared with what it was made from"
    return {
        "parity": _without_range(report.parity),
        "file_bytes": report.file_bytes,
        "float_layers": list(report.float_layers),
    }


def take(root: Path, config: Config, progress: Progress) -> Facts:
    """Copy a ready model into the study, and cut out its encoder for the driver."""
    folder, name = StudyFolder(root), config["name"]
    source = Path(config["path"]).expanduser()
    progress(f"taking {source.name}", 0.0)
    with atomic_path(folder.model(name)) as temporary:
        shutil.copyfile(source, temporary)
    _cut_encoder(folder, config, name, progress)
    return {"path": str(source), "file_bytes": folder.model(name).stat().st_size}


def _cut_encoder(folder: StudyFolder, config: Config, model: str, progress: Progress) -> None:
    """Write the encoder that the segmenter's driver looks through, where it drives in this precision."""
    if config["encoder"]:
        from roadworthy.export.latent import cut_latent

        progress(f"cutting out the encoder of {model}", 0.9)
        cut_latent(folder.model(model), folder.encoder(config["name"]))


def _without_range(parity: Parity) -> Facts:
    return {key: value for key, value in asdict(parity).items() if key != "confidence_range"}


def evaluate(root: Path, config: Config, progress: Progress) -> Facts:
    """Measure one model on the test data."""
    from roadworthy.eval.evaluate import evaluate as evaluate_model

    folder, name = StudyFolder(root), config["name"]
    result = evaluate_model(
        folder.model(name),
        _data(root, config, "test"),
        folder.evaluation(name),
        split=_test_split(config),
        examples=config["examples"],
        device=config["device"],
        threads=1,
        seed=config["seed"],
        progress=progress,
    )
    return {"miou": result["metrics"]["miou"]["value"], "images": result["images"]}


def examples(root: Path, config: Config, progress: Progress) -> Facts:
    """Keep the test images of the page in the study: the report is written from its files alone."""
    from roadworthy.eval.evaluate import spread
    from roadworthy.eval.pictures import save_example
    from roadworthy.train.data import open_dataset

    dataset = open_dataset(_data(root, config, "test"), _test_split(config))
    folder = StudyFolder(root).examples
    folder.mkdir(parents=True, exist_ok=True)
    chosen = sorted(spread(config["count"], len(dataset)))
    for number, index in enumerate(chosen):
        progress("keeping example images", number / len(chosen))
        save_example(folder, index, dataset[index])
    return {"images": len(chosen)}


def bets(root: Path, config: Config, progress: Progress) -> Facts:
    """Draw where the gambler bets on the example images."""
    import torch

    from roadworthy.eval.bets import betting_maps
    from roadworthy.eval.pictures import CAMERA_SUFFIX, save_map
    from roadworthy.runtime.files import read_rgb

    torch.set_num_threads(1)
    folder, name = StudyFolder(root), config["name"]
    progress(f"betting maps of {name}", 0.0)
    paths = sorted(folder.examples.glob(f"*{CAMERA_SUFFIX}"))
    maps = betting_maps(folder.run(name), [read_rgb(path) for path in paths])
    for path, found in zip(paths, maps, strict=True):
        save_map(folder.bets(name) / path.name.replace(CAMERA_SUFFIX, ".png"), found)
    return {"maps": len(maps)}


def latency(root: Path, config: Config, progress: Progress) -> Facts:
    """Measure the latency of every graph, taking turns, on an otherwise idle machine."""
    from roadworthy.eval.latency import measure_latency

    folder = StudyFolder(root)
    result = measure_latency(
        {name: folder.model(name) for name in config["names"]},
        folder.latency,
        backends=tuple(config["backends"]),
        batches=tuple(config["batches"]),
        rounds=config["rounds"],
        warmup=config["warmup"],
        threads=config["threads"],
        device=config["device"],
        seed=config["seed"],
        progress=progress,
    )
    return {row["name"]: row["p50_ms"] for row in result["rows"]}


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
        weathers=_weathers(config["weathers"]),
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


def _weathers(which: str) -> tuple[str, ...]:
    from roadworthy.agent.weather import HELD_OUT_WEATHERS, TRAINING_WEATHERS

    return HELD_OUT_WEATHERS if which == "held-out" else TRAINING_WEATHERS

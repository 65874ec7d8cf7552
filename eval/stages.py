"""The stages of a study, each one function that a worker process runs: (study folder, configuration, progress) -> JSON facts.

Configurations are plain JSON made by `plan`; each stage can be called again after a kill and then goes on in its own files.
Libraries are imported inside the functions, so that a worker loads only what its stage needs.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from roadworthy.eval.driving_stages import (
    Config,
    Facts,
    Progress,
    demonstrate,
    drive,
    learn,
    learn_judge,
    named_weathers,
    sketch,
)
from roadworthy.eval.folder import StudyFolder, artifact
from roadworthy.runtime.files import atomic_path

if TYPE_CHECKING:
    from roadworthy.export.parity import Parity
    from roadworthy.train.config import TrainConfig

__all__ = [
    "EXAMPLES", "bets", "convert", "demonstrate", "drive", "evaluate", "examples", "export", "floor", "latency", "learn",
    "learn_judge", "record", "sketch", "take", "train",
]  # fmt: skip

EXAMPLES = 5  # test images shown on the page


def record(root: Path, config: Config, progress: Progress) -> Facts:
    """Record a data set from a car on autopilot."""
    from roadworthy.agent.camera import CameraRig
    from roadworthy.agent.recorder import RecordConfig
    from roadworthy.agent.recorder import record as record_frames

    plan = RecordConfig(
        towns=tuple(config["towns"]),
        episodes=config["episodes"],
        frames=config["frames"],
        weathers=named_weathers(config["weathers"]),
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
    """Stop the study where its pre-training, the mean over seeds, has not learnt enough for a comparison to mean anything."""
    from roadworthy.runtime.errors import RoadworthyError
    from roadworthy.train.fit import load_result

    progress("checking the pre-training", 0.0)
    of_seeds = [load_result(StudyFolder(root).run(name)).validation.mean_iou for name in config["names"]]
    found = sum(of_seeds) / len(of_seeds)
    if found < config["floor_miou"]:
        raise RoadworthyError(
            f"the pre-training reached a mean IoU of {found:.3f} on the validation data ({', '.join(config['names'])}: "
            f"{', '.join(f'{each:.3f}' for each in of_seeds)}), expected at least the study's floor of {config['floor_miou']}: "
            "nothing is compared below it. Raise train.pretrain_steps"
        )
    return {"miou": found, "miou_of_seeds": of_seeds, "floor_miou": config["floor_miou"]}


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

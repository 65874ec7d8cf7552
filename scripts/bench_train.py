"""What training costs: each objective's step beside cross-entropy's, the loader, another library's loop, memory. Prints JSON.

    python -m roadworthy.scripts.bench_train -o train.json
    python -m roadworthy.scripts.bench_train --part steps --rounds 40

The rivals take turns, one step each, and ratios are medians over the rounds, so that a busy machine disturbs both alike.
The part `peer` needs segmentation-models-pytorch; it is not a dependency of ours, for instance

    pip install --target /somewhere --no-deps segmentation-models-pytorch timm torchvision tqdm
    pip install --target /somewhere 'huggingface_hub<1'
    PYTHONPATH=/somewhere python -m roadworthy.scripts.bench_train --part peer
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from roadworthy.runtime.files import write_text
from roadworthy.runtime.machine import describe
from roadworthy.runtime.taxonomy import CAMVID, CITYSCAPES, IGNORE
from roadworthy.train.config import TrainConfig
from roadworthy.train.data import open_dataset
from roadworthy.train.data.augment import Augmentation, augment
from roadworthy.train.data.batches import Batches
from roadworthy.train.data.frames import Frames
from roadworthy.train.fit import fit
from roadworthy.train.ground import severity
from roadworthy.train.models import build_model
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives import Batch, Setting, build_objective, supervised_objectives

REFERENCE = "cross-entropy"
LIMIT = 1.02  # of a Wasserstein step beside a cross-entropy step
BATCH, HEIGHT, WIDTH = 4, 128, 256  # frames of a step [pixels]
SHORT_TURNS = {"gambling": "gambling(segmenter_steps=1, gambler_steps=2)"}  # as many turns as the default gives, sooner
PEER_MODEL, PEER_SIZE, PEER_BATCH = "deeplabv3plus-resnet18", (128, 256), 4  # the very network of both: equal parameters

LOOP_TURNS = 3  # of each whole loop

Step = Callable[[], object]


def bench_steps(rounds: int) -> dict[str, Any]:
    """Time a whole training step (forward, loss, backward, Adam) of ENet under every objective, by turns."""
    steps: dict[str, Step] = {}
    for name in supervised_objectives():
        segmenter, critic = _players(SHORT_TURNS.get(name, name))
        steps[name] = segmenter
        if critic is not None:
            steps[f"{name}, critic"] = critic
    clock, processor = _by_turns(steps, rounds)
    facts = {
        name: {
            "step_ms": round(statistics.median(clock[name]), 2),
            "ratio": _paired_ratio(clock[name], clock[REFERENCE]),
            "processor_ratio": _paired_ratio(processor[name], processor[REFERENCE]),
        }
        for name in steps
    }
    return {"network": "enet", "frames": [BATCH, HEIGHT, WIDTH], "steps": facts, "wasserstein_limit": LIMIT}


def _players(objective: str) -> tuple[Step, Step | None]:
    """Return a step of the segmenter and one of the critic, if there is one, each with its own network and optimiser."""
    torch.manual_seed(0)
    pixels = np.arange(1, len(CITYSCAPES) + 1)
    setting = Setting("enet", CITYSCAPES, pixels.astype(np.int64), severity(CITYSCAPES), 1000)
    model = build_model("enet", len(CITYSCAPES)).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    goal = build_objective(objective, setting)
    goal.attach(model, goal.critic)
    frames = torch.randn(BATCH, 3, HEIGHT, WIDTH).to(memory_format=torch.channels_last)
    batch = Batch(frames, torch.randint(0, len(CITYSCAPES), (BATCH, HEIGHT, WIDTH)))
    optimiser = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def learn() -> None:
        if goal.critic is not None:
            goal.critic.requires_grad_(False)
        torch.stack(list(goal.segmenter_loss(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    if goal.critic is None:
        return learn, None
    critic = goal.critic
    critics_optimiser = torch.optim.Adam(critic.parameters(), 1e-4, fused=True)

    def criticise() -> None:
        critic.requires_grad_(True)
        torch.stack(list(goal.critic_loss(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        critics_optimiser.step()
        critics_optimiser.zero_grad()

    return learn, criticise


def bench_loader(rounds: int) -> dict[str, Any]:
    """Compare the frames that the loader makes in a second, from disk and from memory, with those that ENet uses up."""
    facts: dict[str, Any] = {"file_pixels": [720, 960], "batch": BATCH}
    with tempfile.TemporaryDirectory() as folder:
        root = _write_camvid(Path(folder), frames=24, height=720, width=960)
        dataset = open_dataset(f"camvid:{root}", "train")
        for source, limit in (("memory", 2 << 30), ("disk", 0)):
            frames = Frames(dataset, (HEIGHT, WIDTH), memory_limit_bytes=limit)
            for workers in (1, 2):
                batches = Batches(frames, BATCH, 0, Augmentation(), workers=workers)
                begin, begin_processor = time.perf_counter(), time.process_time()
                count = sum(len(batch.frames) for batch in batches.run(0, rounds))
                facts[f"{source}, {workers} workers, frames_per_s"] = round(count / (time.perf_counter() - begin), 1)
            facts[f"{source}, processor_ms_per_frame"] = round(1000 * (time.process_time() - begin_processor) / count, 2)
        learn, _ = _players(REFERENCE)
        clock, processor = _by_turns({"enet": learn}, max(3, rounds // 4))
        used = BATCH * 1000 / statistics.median(clock["enet"])
        facts["enet, frames_per_s"] = round(used, 1)
        facts["enet, processor_ms_per_frame"] = round(statistics.median(processor["enet"]) / BATCH, 2)
        facts["network_is_the_bottleneck"] = facts["disk, 2 workers, frames_per_s"] > used
    return facts


def bench_peer(rounds: int) -> dict[str, Any]:
    """Train DeepLabV3+ with our networks and with segmentation_models.pytorch's: bare steps, and whole loops with their data.

    The bare steps repeat one batch. The whole loops train on the same files at the same size with the same augmentation: ours
    is `fit`, theirs what a user would write, a plain loop fed by torch's DataLoader with two worker processes.
    """
    peer = _import_peer()
    if peer is None:
        return {"skipped": "segmentation_models_pytorch cannot be imported; see the head of this script"}
    torch.manual_seed(0)
    ours = build_model(PEER_MODEL, len(CAMVID)).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    theirs = peer.DeepLabV3Plus("resnet18", encoder_weights=None, classes=len(CAMVID)).train()
    frames = torch.randn(PEER_BATCH, 3, *PEER_SIZE)
    target = torch.randint(0, len(CAMVID), (PEER_BATCH, *PEER_SIZE))

    def stepper(network: torch.nn.Module, read: Callable[[Any], torch.Tensor]) -> Callable[[torch.Tensor, torch.Tensor], float]:
        optimiser = torch.optim.Adam(network.parameters(), 1e-4)

        def step(frames: torch.Tensor, target: torch.Tensor) -> float:
            loss = F.cross_entropy(read(network(frames)), target, ignore_index=IGNORE)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            return loss.item()  # every loop looks at its loss

        return step

    our_step, their_step = stepper(ours, lambda prediction: prediction.logits), stepper(theirs, lambda logits: logits)
    bare = {"theirs": lambda: their_step(frames, target), "ours": lambda: our_step(frames, target)}
    clock, _ = _by_turns(bare, rounds)
    with tempfile.TemporaryDirectory() as folder:
        root = _write_camvid(Path(folder), frames=16, height=360, width=480)
        config = TrainConfig(
            data=f"camvid:{root}", model=PEER_MODEL, size=PEER_SIZE, batch_size=PEER_BATCH, learning_rate=1e-4,
            threads=torch.get_num_threads(), tensorboard=False, checkpoint_every=1_000_000, steps=rounds,
        )  # fmt: skip
        samples = Frames(open_dataset(f"camvid:{root}", "train"), PEER_SIZE)
        loops: dict[str, list[float]] = {"theirs": [], "ours": []}
        for turn in range(LOOP_TURNS):
            begin = time.perf_counter()
            for batch, labels in DataLoader(_Augmented(samples, rounds), PEER_BATCH, num_workers=2):
                their_step(batch, labels)
            loops["theirs"].append(1000 * (time.perf_counter() - begin) / rounds)
            loops["ours"].append(1000 * fit(config, Path(folder) / f"run{turn}").seconds / rounds)
    return {
        "network": PEER_MODEL,
        "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in (("ours", ours), ("theirs", theirs))},
        "frames": [PEER_BATCH, *PEER_SIZE],
        "bare_step_ms": {name: round(statistics.median(taken), 2) for name, taken in clock.items()},
        "whole_loop_step_ms": {name: round(statistics.median(taken), 2) for name, taken in loops.items()},
        "throughput_ours_over_theirs": {
            "bare step": round(1 / _paired_ratio(clock["ours"], clock["theirs"]), 3),
            "whole loop": round(1 / _paired_ratio(loops["ours"], loops["theirs"]), 3),
        },
    }


class _Augmented(TorchDataset[tuple[torch.Tensor, torch.Tensor]]):
    """The augmented samples of `steps` batches as torch's DataLoader wants them: `float32 [3, H, W]` and `int64 [H, W]`."""

    def __init__(self, frames: Frames, steps: int) -> None:
        self.frames, self.steps = frames, steps

    def __len__(self) -> int:
        return self.steps * PEER_BATCH

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        sample = augment(self.frames[place % len(self.frames)], Augmentation(), np.random.default_rng(place))
        image = torch.from_numpy(sample.image.copy())[None]  # [1, H, W, 3]
        return normalise(image)[0], torch.from_numpy(sample.labels.copy()).long()


def bench_memory(rounds: int) -> dict[str, Any]:
    """Watch the resident memory of a long training with everything on: averages, selection, checkpoints, pictures."""
    process, seen = psutil.Process(), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        root = _write_camvid(Path(folder), frames=16, height=90, width=120)
        config = TrainConfig(
            data=f"camvid:{root}", size=(64, 96), batch_size=2, steps=20 * rounds, ema=0.99, selection=0.25, select_every=50,
            checkpoint_every=50, objective="gambling(segmenter_steps=20, gambler_steps=10)", threads=torch.get_num_threads(),
        )  # fmt: skip
        fit(config, Path(folder) / "run", progress=lambda _text, _done: seen.append(process.memory_info().rss / 1e6))
    quarter = max(1, len(seen) // 4)
    half, last = statistics.median(seen[quarter : 2 * quarter]), statistics.median(seen[-quarter:])
    return {"updates": 20 * rounds, "second_quarter_mb": round(half, 1), "last_quarter_mb": round(last, 1),
            "growth_mb": round(last - half, 1)}  # fmt: skip


def _by_turns(steps: Mapping[str, Step], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return each step's milliseconds by the clock and of processor time, one list entry per round after one to warm up."""
    clock: dict[str, list[float]] = {name: [] for name in steps}
    processor: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):  # whoever follows a heavy step is not always the same
            begin, begin_processor = time.perf_counter(), time.process_time()
            steps[name]()
            if number:
                clock[name].append(1000 * (time.perf_counter() - begin))
                processor[name].append(1000 * (time.process_time() - begin_processor))
    return clock, processor


def _paired_ratio(taken: list[float], reference: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(taken, reference, strict=True)), 4)


def _write_camvid(folder: Path, frames: int, height: int, width: int) -> Path:
    """Write a data set in CamVid's layout with noise that compresses about as badly as photographs do."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in (split, f"{split}annot"):
            (folder / part).mkdir()
        for index in range(frames if split == "train" else 2):
            smooth = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)).resize((width, height))
            noisy = np.asarray(smooth, np.int16) + rng.integers(-6, 7, (height, width, 3))
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / split / f"{index}.png")
            ids = rng.integers(0, 12, (height // 30, width // 30), np.uint8)
            Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST).save(
                folder / f"{split}annot" / f"{index}.png"
            )
    return folder


def _import_peer() -> Any:
    """Import segmentation_models_pytorch, where it is there, also beside a torchvision that is made for another torch.

    Such a torchvision fails because its operators are not registered; naming them is enough for the networks, which use none.
    """
    library: Any = torch.library
    library = library.Library("torchvision", "FRAGMENT")
    while True:
        try:
            import segmentation_models_pytorch  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            return None
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            library.define(f"{missing[1]}() -> ()")
            for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "timm")]:
                del sys.modules[name]
        else:
            return segmentation_models_pytorch


PARTS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "steps": bench_steps,
    "loader": bench_loader,
    "peer": bench_peer,
    "memory": bench_memory,
}


@click.command()
@click.option("--part", "parts", type=click.Choice(list(PARTS)), multiple=True, help="What to measure.  [default: all]")
@click.option("--rounds", type=click.IntRange(2), default=20, show_default=True, help="Turns of each rival.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="CPU threads of torch.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the JSON there too.")
def main(parts: tuple[str, ...], rounds: int, threads: int, output: Path | None) -> None:
    """Measure what training costs."""
    torch.set_num_threads(threads)
    facts: dict[str, Any] = {name: PARTS[name](rounds) for name in parts or PARTS}
    facts |= {"rounds": rounds, "threads": threads, "torch": torch.__version__, "machine": dataclasses.asdict(describe())}
    text = json.dumps(facts, indent=2)
    click.echo(text)
    if output is not None:
        write_text(output, text + "\n")


if __name__ == "__main__":
    main()

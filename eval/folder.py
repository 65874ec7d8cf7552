"""Where a study keeps its files, and how its segmenters are named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def file_stem(text: str) -> str:
    """Turn a name into one that is safe in a file name and in a job name."""
    return re.sub(r"[^A-Za-z0-9_+.=-]+", "-", text).strip("-.") or "unnamed"


def objective_labels(objectives: Sequence[str]) -> list[str]:
    """Name the objectives for people: without their options where that still tells them apart."""
    bare = [" ".join(re.sub(r"\([^()]*\)", "", objective).split()) for objective in objectives]
    return [short if bare.count(short) == 1 else objective for short, objective in zip(bare, objectives, strict=True)]


def segmenter_name(label: str, seed: int) -> str:
    """Name a trained segmenter after its objective's label and its training seed."""
    return f"{file_stem(label)}-s{seed}"


def artifact(name: str, precision: str) -> str:
    """Name what was made of segmenter `name` in `precision`: its model file and its evaluation."""
    return name if precision == "fp32" else f"{name}-{precision}"


JUDGE = "judge"  # the driver that looks through every segmenter, in place of a segmenter's name
TRUTH = "truth"  # the simulator's own labels, in place of a segmenter's name


def place(town: str, weathers: str) -> str:
    """Name a town under a group of weathers in file names and job names."""
    return file_stem(town) if weathers == "training" else f"{file_stem(town)}-{weathers}"


@dataclass(frozen=True)
class StudyFolder:
    """Where a study keeps its files. Everything in it can be looked at; `report` reads nothing else."""

    root: Path

    def relative(self, *paths: Path) -> tuple[str, ...]:
        """Return where `paths` are, seen from the study's folder."""
        return tuple(str(path.relative_to(self.root)) for path in paths)

    @property
    def study(self) -> Path:
        """The resolved configuration."""
        return self.root / "study.yaml"

    def recording(self, split: str) -> Path:
        """The recorded data set `split`, "train" or "test"."""
        return self.root / "recordings" / split

    def run(self, name: str) -> Path:
        """The training run of segmenter `name`."""
        return self.root / "runs" / name

    def model(self, name: str) -> Path:
        """The exported model of segmenter `name`; of another precision than fp32: of its `artifact` name."""
        return self.root / "models" / f"{name}.onnx"

    def encoder(self, name: str) -> Path:
        """The latent-only model that the driver of segmenter `name` looks through."""
        return self.root / "models" / f"{name}.encoder.onnx"

    def evaluation(self, name: str) -> Path:
        """The segmentation metrics of segmenter `name`; of another precision than fp32: of its `artifact` name."""
        return self.root / "evaluation" / f"{name}.json"

    def frames(self, name: str) -> Path:
        """Example predictions of segmenter `name`: train ids as PNG, named by the index of the image in the test data."""
        return self.root / "evaluation" / f"{name}.frames"

    def bets(self, name: str) -> Path:
        """Where the gambler of segmenter `name` bets on the example images, as PNG named as those."""
        return self.root / "evaluation" / f"{name}.bets"

    @property
    def examples(self) -> Path:
        """The test images on the page: `<index>.camera.png` and `<index>.truth.png` (train ids)."""
        return self.root / "evaluation" / "examples"

    @property
    def latency(self) -> Path:
        """The latency of all models."""
        return self.root / "latency.json"

    @property
    def demonstrations(self) -> Path:
        """What the autopilot showed."""
        return self.root / "demonstrations"

    def driver(self, name: str, policy_seed: int) -> Path:
        """The policy of segmenter `name` trained with `policy_seed`."""
        return self.root / "drivers" / f"{name}-p{policy_seed}"

    def episodes(self, name: str, policy_seed: int, town: str, weathers: str = "training") -> Path:
        """The judged drives of one driver in one town, under the training weathers or the held-out ones."""
        return self.root / "episodes" / f"{name}-p{policy_seed}-{place(town, weathers)}.jsonl"

    def sketch(self, town: str) -> Path:
        """The road lines of a town, for the report's maps."""
        return self.root / "sketches" / f"{file_stem(town)}.json"

    def stage(self, job: str) -> Path:
        """The done-marker of a job: its fingerprint, seconds and result."""
        return self.root / "stages" / f"{job}.json"

    def started(self, job: str) -> Path:
        """The fingerprint of a job that has started; tells an interrupted job from one of another configuration."""
        return self.root / "stages" / f"{job}.started.json"

    def log(self, job: str) -> Path:
        """What a job wrote to its standard error."""
        return self.root / "logs" / f"{job}.log"

    @property
    def usage(self) -> Path:
        """How busy the study kept the cores."""
        return self.root / "usage.json"

    @property
    def results(self) -> Path:
        """All figures of the study, ready for other programs."""
        return self.root / "results.json"

    @property
    def report(self) -> Path:
        """The page to read."""
        return self.root / "report.html"

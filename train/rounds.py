"""Self-training in rounds: label the target domain with the last network, learn from what it is sure of, and again.

    OUTPUT/round-0/pseudo     pseudo-labels by the network that was given (see `train.data.pseudo`)
    OUTPUT/round-0/run        the network that learnt from them: a run folder
    OUTPUT/round-1/pseudo     by that network, with a larger portion of the pixels; and so on
    OUTPUT/rounds.json        what each round was worth

Each part is finished or done again, so an interrupted self-training goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import Taxonomy
from roadworthy.train.checkpoint import load_run
from roadworthy.train.config import TrainConfig
from roadworthy.train.data.dataset import Progress
from roadworthy.train.data.frames import Frames, read_checked
from roadworthy.train.data.pseudo import FACTS_FILE, KIND, PseudoFacts, load_facts, save_facts, write_pseudo_labels
from roadworthy.train.data.target import open_target
from roadworthy.train.fit import FitResult, fit
from roadworthy.train.losses import logit_entropy, one_hot
from roadworthy.train.models import Segmenter
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.objectives.spec import parse_spec
from roadworthy.train.selftraining import LRENT_ALPHA, class_thresholds, entropy_regularised_labels, hard_labels, portion

KINDS = ("cbst", "lrent", "mrkld")  # hard labels; labels softened by their entropy; hard labels for loss=divergence
MAX_THRESHOLD_PIXELS = 1 << 25  # more pixels than this are thinned out before the thresholds are taken
BATCH = 8  # frames labelled at a time
LABELLING_SHARE = 0.1  # of a round's part of the progress bar


@dataclass(frozen=True)
class RoundsPlan:
    """How a target domain is labelled, and how often."""

    kind: str = "lrent"  # one of KINDS
    rounds: int = 3  # the portion of labelled pixels grows with each: 20 %, 25 %, ... up to 50 %
    alpha: float = LRENT_ALPHA  # weight of the label entropy, for lrent

    def __post_init__(self) -> None:
        """Check the fields; raises `BadInput` naming the one that will not do."""
        if self.kind not in KINDS:
            raise BadInput(f"pseudo-labels of kind {self.kind!r} are unknown; known: {', '.join(KINDS)}")
        if self.rounds < 1:
            raise BadInput(f"rounds is {self.rounds}, expected at least 1")
        if not self.alpha > 0:
            raise BadInput(f"alpha is {self.alpha}, expected a number above 0")


def default_objective(kind: str) -> str:
    """Return the published objective of pseudo-labels of this kind."""
    return "cross-entropy + self-training" + ("(loss=divergence)" if kind == "mrkld" else "")


def self_train(
    config: TrainConfig, plan: RoundsPlan, output: Path, *, progress: Progress | None = None, resume: bool = False
) -> list[FitResult]:
    """Train in rounds from the run `config.init` into the folder `output`; returns the result of each round.

    `config.target` is the unlabelled domain, `config.steps` counts per round. Raises `BadInput` when there is no network to
    begin with, no target, or `output` holds something else, as pseudo-labels of another kind.
    """
    if config.init is None:
        raise BadInput(
            "self-training labels the target with a network: train one on the labelled data first and give it: --init"
        )
    if config.target is None:
        raise BadInput("self-training needs frames to adapt to: give --target KIND:PATH")
    if not any(term.name == "self-training" for term in parse_spec(config.objective)):
        raise BadInput(
            f"objective {config.objective!r} does not learn from pseudo-labels; expected for instance "
            f"{default_objective(plan.kind)!r}"
        )
    if output.exists() and not resume and any(output.iterdir()):
        raise BadInput(f"{output}: holds a run already; resume it, or choose another folder")
    say = progress or (lambda text, fraction: None)
    teacher, results = Path(config.init), list[FitResult]()
    for index in range(plan.rounds):
        folder = output / f"round-{index}"

        def report(text: str, fraction: float, index: int = index) -> None:
            done = LABELLING_SHARE + (1 - LABELLING_SHARE) * fraction
            say(f"round {index + 1} of {plan.rounds}: {text}", (index + max(0.0, done)) / plan.rounds)

        report("labelling the target", -LABELLING_SHARE)
        label_target(teacher, config, plan, index, folder / "pseudo")
        pseudo = f"{KIND}:{folder / 'pseudo'}"
        learning = dataclasses.replace(config, target=pseudo, init=str(teacher), seed=config.seed + index)
        results.append(fit(learning, folder / "run", progress=report, resume=True))
        teacher = folder / "run"
        _write_rounds(output, plan, results)
    return results


def label_target(run: Path, config: TrainConfig, plan: RoundsPlan, index: int, folder: Path) -> PseudoFacts:
    """Label the target domain with the network of `run` into `folder`, unless that is done; returns how it went.

    Raises `BadInput` when what is done was asked for differently.
    """
    assert config.target is not None
    wanted = portion(index)
    asked: dict[str, Any] = {
        "target": config.target, "run": str(run), "kind": plan.kind, "portion": wanted, "size": config.size,
        "alpha": plan.alpha if plan.kind == "lrent" else None,
    }  # fmt: skip
    if (folder / FACTS_FILE).is_file():
        done = load_facts(folder)
        changed = [f"{key}: {getattr(done, key)} -> {value}" for key, value in asked.items() if getattr(done, key) != value]
        if changed:
            raise BadInput(f"{folder}: cannot go on from other pseudo-labels ({'; '.join(changed)}); choose another folder")
        return done
    model, _, taxonomy = load_run(run)
    (frames,) = read_checked([open_target(config.target, taxonomy)], config.size, skip_bad=config.skip_bad)
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    model = model.to(device)
    thresholds = _thresholds(model, frames, taxonomy, wanted)
    labelled = 0
    for start in range(0, len(frames), BATCH):
        logits = _logits(model, frames, start)  # [B, N, H, W]
        probs = torch.softmax(logits, 1)
        soft = _soft_labels(probs, thresholds, plan)  # [B, N, H, W]
        labelled += int(soft.any(1).sum())
        pictures = (_bytes(soft), _bytes(probs.amax(1)), _bytes(logit_entropy(logits)))
        for place, (planes, confidence, unsure) in enumerate(zip(*pictures, strict=True)):
            write_pseudo_labels(folder, frames[start + place].name, planes, confidence, unsure, taxonomy)
    facts = PseudoFacts(
        **asked,
        classes=taxonomy.classes,
        thresholds=tuple(round(value, 6) for value in thresholds.tolist()),
        labelled=round(labelled / (len(frames) * config.size[0] * config.size[1]), 6),
    )
    save_facts(folder, facts)
    return facts


def _soft_labels(probs: Tensor, thresholds: Tensor, plan: RoundsPlan) -> Tensor:
    """Return the labels `[B, N, H, W]` of one kind, all zero where there is none."""
    if plan.kind == "lrent":
        return entropy_regularised_labels(probs, thresholds, plan.alpha)
    return one_hot(hard_labels(probs, thresholds), probs.shape[1])


def _thresholds(model: Segmenter, frames: Frames, taxonomy: Taxonomy, wanted: float) -> Tensor:
    """Return the threshold of each class `[N]` over all frames, thinned out evenly where they have too many pixels."""
    pixels = len(frames) * frames.size[0] * frames.size[1]
    step = -(-pixels // MAX_THRESHOLD_PIXELS)
    confidence, predicted = [], []
    for start in range(0, len(frames), BATCH):
        best, classes = torch.softmax(_logits(model, frames, start), 1).max(1)  # [B, H, W] each
        confidence.append(best.flatten()[::step].cpu())
        predicted.append(classes.flatten()[::step].to(torch.uint8).cpu())
    found = class_thresholds(torch.cat(confidence), torch.cat(predicted), len(taxonomy), wanted)
    return found.to(next(model.parameters()).device)


@torch.no_grad()
def _logits(model: Segmenter, frames: Frames, start: int) -> Tensor:
    """Return the logits `[B, N, H, W]` of the frames from `start` on."""
    samples = [frames[index] for index in range(start, min(start + BATCH, len(frames)))]
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # [B, H, W, 3]
    logits: Tensor = model(normalise(images.to(next(model.parameters()).device))).logits.float()
    return logits


def _bytes(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Write values of 0 to 1 as 0 to 255."""
    return (values * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _write_rounds(output: Path, plan: RoundsPlan, results: list[FitResult]) -> None:
    rounds = [
        {"run": str(result.run.relative_to(output)), "mean_iou": result.validation.mean_iou,
         "labelled": load_facts(output / f"round-{index}" / "pseudo").labelled, "portion": portion(index)}
        for index, result in enumerate(results)
    ]  # fmt: skip
    write_text(output / "rounds.json", json.dumps({**dataclasses.asdict(plan), "results": rounds}, indent=2) + "\n")

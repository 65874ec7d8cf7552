"""The ground matrix learnt from features: how far the classes lie apart in the segmenter's last embedding.

arXiv 2008.04751, section III-C: "average the feature vectors in each position that corresponds to the pixel in image-level with
the same class label to compute their centroid and reconstruct D using the l1 distances between these centroids". Its formula
against collapse, D = (f(d) + α f(d)) / (1 + α) with α falling from 10 to 0, is printed with the same d twice, which would make
α meaningless; the second one is read as the predefined distance, so that D begins close to what experts wrote and ends as what
was learnt. Such distances are symmetric; severity is not (the paper's own point): see `roadworthy.agent.consequence`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.data import open_dataset
from roadworthy.train.ground import GroundMatrix, MetricKind, ground_metric
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.models.prediction import Segmenter as Network

FIRST_ALPHA = 10.0  # of the blend, falls to 0 over the rounds (arXiv 2008.04751, section III-C)
LEAST_POSITIONS = 200  # positions of a class below which its centroid is chance, and the predefined costs stay

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]


class Centroids:
    """The mean embedding of every class, gathered batch by batch."""

    def __init__(self, classes: int) -> None:
        self.sums: Tensor | None = None  # [N, E] float64
        self.counts = torch.zeros(classes, dtype=torch.int64)  # positions per class

    def add(self, embedding: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            embedding: `[B, E, h, w]`, the input of the segmenter's last learned layer.
            labels: true train ids `int64 [B, H, W]`, 255 = ignored; brought to h x w by nearest neighbour.
        """
        classes = len(self.counts)
        unit = F.normalize(embedding.detach().double(), dim=1)  # l2 norm 1 at each position, [B, E, h, w]
        small = F.interpolate(labels[:, None].double(), size=unit.shape[-2:], mode="nearest-exact")[:, 0].long()  # [B, h, w]
        flat, ids = unit.movedim(1, -1).flatten(0, 2), small.flatten()  # [B*h*w, E], [B*h*w]
        valid = ids != IGNORE
        if bool((ids[valid] >= classes).any()):
            raise BadInput(f"labels hold class {int(ids[valid].max())}, expected 0..{classes - 1} or {IGNORE} (ignored)")
        if self.sums is None:
            self.sums = torch.zeros(classes, flat.shape[1], dtype=torch.float64)
        self.sums.index_add_(0, ids[valid], flat[valid])
        self.counts += torch.bincount(ids[valid], minlength=classes)

    def seen(self, least: int = LEAST_POSITIONS) -> npt.NDArray[np.bool_]:
        """Tell which classes were seen at `least` positions or more, `bool [N]`."""
        return np.asarray(self.counts.numpy() >= max(least, 1))

    def distances(self, least: int = LEAST_POSITIONS) -> Floats:
        """Return the l1 distances between the centroids, the largest of them 1; `float64 [N, N]`, nan where one was not seen.

        Raises `BadInput` when fewer than two classes were seen, or all seen ones have one centroid.
        """
        seen = self.seen(least)
        if self.sums is None or int(seen.sum()) < 2:
            raise BadInput(
                f"{int(seen.sum())} classes were seen at {least} positions or more; expected at least two: drive longer"
            )
        means = (self.sums / self.counts.clamp(min=1)[:, None]).numpy()  # [N, E]
        apart: Floats = np.abs(means[:, None] - means[None]).sum(axis=-1)  # [N, N, E] -> [N, N]
        apart[~seen] = np.nan
        apart[:, ~seen] = np.nan
        largest = float(np.nanmax(apart))
        if largest <= 0:
            raise BadInput("all classes have the same mean embedding: the segmenter has collapsed; train it first")
        return apart / largest


def measure_centroids(
    network: Network, data: Sequence[str], *, batch_size: int = 8, progress: Progress | None = None
) -> Centroids:
    """Gather the class centroids of `network`'s embedding over labelled data sets (`recording:PATH`, ...) of one taxonomy."""
    datasets = [open_dataset(each) for each in data]
    centroids = Centroids(len(datasets[0].taxonomy))
    places = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    with torch.inference_mode():
        for first in range(0, len(places), batch_size):
            samples = [dataset[index] for dataset, index in places[first : first + batch_size]]
            images = torch.from_numpy(np.stack([sample.image for sample in samples]))  # [B, H, W, 3]
            labels = torch.from_numpy(np.stack([sample.labels for sample in samples]).astype(np.int64))  # [B, H, W]
            centroids.add(network(normalise(images)).embedding, labels)
            if progress is not None:
                progress(f"frame {first + len(samples)} of {len(places)}", (first + len(samples)) / len(places))
    return centroids


def alpha_at(round_index: int, rounds: int, first: float = FIRST_ALPHA) -> float:
    """Return the blend's α of a round: `first` in the first one, 0 in the last, evenly in between; 0 if there is only one."""
    if not 0 <= round_index < rounds:
        raise BadInput(f"round {round_index} of {rounds}, expected 0..{rounds - 1}")
    return first * (1 - round_index / (rounds - 1)) if rounds > 1 else 0.0


def blend(
    learnt: Floats, predefined: GroundMatrix, alpha: float, *, kind: MetricKind = "linear", rho: float = 2.0, tau: float = 0.5
) -> GroundMatrix:
    """Return D = (f(d) + α f(d_predefined)) / (1 + α), scaled to a largest entry of 1; see this module's text.

    `learnt` is `Centroids.distances`; entries that are nan (a class not seen) keep f(d_predefined). f is `ground_metric`.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise BadInput(f"alpha is {alpha}, expected a number of at least 0")
    before = ground_metric(predefined.scaled().cost, kind, rho, tau)
    found = ground_metric(np.nan_to_num(learnt), kind, rho, tau)
    cost = np.where(np.isnan(learnt), before, (found + alpha * before) / (1 + alpha))
    np.fill_diagonal(cost, 0.0)
    return GroundMatrix("learnt", predefined.taxonomy, predefined.classes, cost).scaled()

"""Batches as a pure function of (seed, number): a resumed training sees the very batches that an unbroken one would.

Decoding and augmentation run in threads (Pillow and numpy let go of the interpreter's lock); as every sample depends on the
seed and its place alone, neither the number of threads nor the number of processes changes what comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.augment import Augmentation, augment
from roadworthy.train.data.dataset import Sample

AHEAD = 2  # batches made in the background while one is trained on
FINEST_SHARE = 1000  # shares of a mixture are kept as fractions of at most this denominator


class Samples(Protocol):
    """Random access to samples of one size."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Mixture:
    """Two sets of samples in one sequence: `share` of its places are the second's, spread evenly."""

    first: Samples
    second: Samples
    share: float  # of all places, above 0 and below 1

    def __post_init__(self) -> None:
        """Check the share; raises `BadInput`."""
        if not 0 < Fraction(self.share).limit_denominator(FINEST_SHARE) < 1:
            raise BadInput(f"mix is {self.share}, expected a share of the samples above 0 and below 1")

    def __len__(self) -> int:
        """Return the number of samples of both sets."""
        return len(self.first) + len(self.second)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`, the first set's before the second's."""
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]

    def turn(self, place: int) -> tuple[bool, int]:
        """Tell whether `place` of the sequence is the second set's, and how many places its set had before."""
        share = Fraction(self.share).limit_denominator(FINEST_SHARE)
        before, after = (count * share.numerator // share.denominator for count in (place, place + 1))
        return (True, before) if after > before else (False, place - before)


class RawBatch(NamedTuple):
    """`frames uint8 [B, H, W, 3]` RGB and `labels uint8 [B, H, W]` train ids, or soft labels `uint8 [B, N, H, W]`."""

    frames: Tensor
    labels: Tensor

    @property
    def pseudo_pixels(self) -> int:
        """Return how many pixels have a soft label."""
        return int(self.labels.any(1).sum()) if self.labels.ndim == 4 else 0

    def soft(self, device: torch.device) -> Tensor | None:
        """Return the soft labels as probabilities `float32 [B, N, H, W]`, all zero where there is no label; None for ids."""
        if self.labels.ndim != 4:
            return None
        levels = self.labels.to(device, non_blocking=True).float()  # [B, N, H, W]
        return levels / levels.sum(1, keepdim=True).clamp(min=1)


class Batches:
    """An endless, seeded, shuffled and augmented sequence of batches; every sample comes once per epoch.

    Of a `Mixture` each set is shuffled for itself. Of each batch of `batch_size` samples the process `rank` of `world` gets
    its equal part.
    """

    def __init__(
        self,
        frames: Samples,
        batch_size: int,
        seed: int,
        augmentation: Augmentation,
        *,
        crop: tuple[int, int] | None = None,
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
        pinned: bool = False,
    ) -> None:
        self.frames = frames
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.crop = crop
        self.rank, self.world = rank, world
        self.workers = workers
        self.pinned = pinned
        self._orders: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def __getitem__(self, number: int) -> RawBatch:
        """Make batch `number`, whatever was made before."""
        return self._stack([self._sample(index, place) for index, place in self._places(number)])

    def run(self, start: int, stop: int) -> Generator[RawBatch]:
        """Yield batches `start` to `stop` - 1, made ahead by `workers` background threads."""
        with ThreadPoolExecutor(self.workers) as pool:
            pending: deque[list[Future[Sample]]] = deque()

            def submit(number: int) -> None:
                pending.append([pool.submit(self._sample, index, place) for index, place in self._places(number)])

            try:
                for number in range(start, min(start + AHEAD, stop)):
                    submit(number)
                for number in range(start, stop):
                    samples = [future.result() for future in pending.popleft()]
                    if number + AHEAD < stop:
                        submit(number + AHEAD)
                    yield self._stack(samples)
            finally:
                for futures in pending:
                    for future in futures:
                        future.cancel()

    def _places(self, number: int) -> list[tuple[int, int]]:
        """Return this process's samples of batch `number`: (sample, place in the sequence of all epochs)."""
        share = self.batch_size // self.world
        first = number * self.batch_size + self.rank * share
        return [(self._sample_at(place), place) for place in range(first, first + share)]

    def _sample_at(self, place: int) -> int:
        if not isinstance(self.frames, Mixture):
            return self._shuffled(0, len(self.frames), place)
        from_second, turn = self.frames.turn(place)
        first = len(self.frames.first)
        return first + self._shuffled(2, len(self.frames.second), turn) if from_second else self._shuffled(0, first, turn)

    def _shuffled(self, stream: int, size: int, turn: int) -> int:
        """Return which of `size` samples comes at `turn`, in an order drawn anew from random stream `stream` every epoch."""
        epoch, offset = divmod(turn, size)
        key = stream, epoch
        if key not in self._orders:
            if len(self._orders) > 2 * AHEAD:
                self._orders.clear()
            self._orders[key] = np.random.default_rng([self.seed, stream, epoch]).permutation(size)
        return int(self._orders[key][offset])

    def _sample(self, index: int, place: int) -> Sample:
        return augment(self.frames[index], self.augmentation, np.random.default_rng([self.seed, 1, place]), self.crop)

    def _stack(self, samples: list[Sample]) -> RawBatch:
        frames = torch.from_numpy(np.stack([sample.image for sample in samples]))
        labels = torch.from_numpy(np.stack([sample.labels for sample in samples]))
        return RawBatch(frames.pin_memory(), labels.pin_memory()) if self.pinned else RawBatch(frames, labels)

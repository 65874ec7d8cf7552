"""Batches as a pure function of (seed, number): a resumed training sees the very batches that an unbroken one would."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from roadworthy.train.data.augment import Augmentation, augment
from roadworthy.train.data.frames import Frames

AHEAD = 2  # batches made in the background while one is trained on


class RawBatch(NamedTuple):
    """`frames uint8 [B, H, W, 3]` RGB and `labels uint8 [B, H, W]` train ids."""

    frames: Tensor
    labels: Tensor


class Batches:
    """An endless, seeded, shuffled and augmented sequence of batches; every sample comes once per epoch."""

    def __init__(self, frames: Frames, batch_size: int, seed: int, augmentation: Augmentation) -> None:
        self.frames = frames
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self._orders: dict[int, npt.NDArray[np.int64]] = {}

    def __getitem__(self, number: int) -> RawBatch:
        """Make batch `number`, whatever was made before."""
        places = range(number * self.batch_size, (number + 1) * self.batch_size)  # in the sequence of all epochs
        samples = [
            augment(self.frames[self._sample_at(place)], self.augmentation, np.random.default_rng([self.seed, 1, place]))
            for place in places
        ]
        return RawBatch(
            torch.from_numpy(np.stack([sample.image for sample in samples])),
            torch.from_numpy(np.stack([sample.labels for sample in samples])),
        )

    def _sample_at(self, place: int) -> int:
        epoch, offset = divmod(place, len(self.frames))
        if epoch not in self._orders:
            if len(self._orders) > AHEAD:
                self._orders.clear()
            self._orders[epoch] = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.frames))
        return int(self._orders[epoch][offset])

    def run(self, start: int, stop: int) -> Iterator[RawBatch]:
        """Yield batches `start` to `stop` - 1, made ahead in one background thread."""
        with ThreadPoolExecutor(1) as pool:
            pending: list[Future[RawBatch]] = [
                pool.submit(self.__getitem__, number) for number in range(start, min(start + AHEAD, stop))
            ]
            try:
                for number in range(start, stop):
                    batch = pending.pop(0).result()
                    if number + AHEAD < stop:
                        pending.append(pool.submit(self.__getitem__, number + AHEAD))
                    yield batch
            finally:
                for future in pending:
                    future.cancel()

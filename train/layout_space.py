"""What the channels of a layout mean: classes for SemGAN, colours for the plain GAN that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.taxonomy import IGNORE, Taxonomy


@dataclass(frozen=True)
class LayoutSpace:
    """The two ways to write a label map as maps `float32 [B, C, H, W]`.

    Pixels that nobody labelled are part of what a scene looks like: where the data have any (`void`), they are one more class,
    which becomes 255 again in what is sampled.
    """

    taxonomy: Taxonomy
    void: bool
    rgb: bool = False  # colours from -1 to 1 instead of classes

    @property
    def classes(self) -> int:
        """Return K, the number of classes with void."""
        return len(self.taxonomy) + int(self.void)

    @property
    def channels(self) -> int:
        """Return C."""
        return 3 if self.rgb else self.classes

    def encode(self, labels: npt.NDArray[np.uint8]) -> Tensor:
        """Write train ids `[B, H, W]` (255 = void) as one-hot maps `float32 [B, K, H, W]`, or as colours `[B, 3, H, W]`."""
        if self.rgb:
            colours = torch.from_numpy(self.taxonomy.colourise(labels)).permute(0, 3, 1, 2)  # [B, H, W, 3] -> [B, 3, H, W]
            return colours.float() / 127.5 - 1
        indices = torch.from_numpy(np.where(labels == IGNORE, len(self.taxonomy), labels).astype(np.int64))  # [B, H, W]
        return F.one_hot(indices, self.classes).permute(0, 3, 1, 2).float()  # [B, H, W, K] -> [B, K, H, W]

    def labels(self, maps: Tensor) -> npt.NDArray[np.uint8]:
        """Collapse maps `[B, C, H, W]` to train ids `uint8 [B, H, W]`: the likeliest class, or the nearest colour's."""
        if self.rgb:
            palette = torch.tensor([*self.taxonomy.palette, *([(0, 0, 0)] if self.void else [])], dtype=torch.float32)
            pixels = (maps.permute(0, 2, 3, 1) + 1) * 127.5  # [B, H, W, 3]
            indices = torch.cdist(pixels.flatten(0, 2), palette).argmin(1).view(pixels.shape[:3])  # [B H W, K] -> [B, H, W]
        else:
            indices = maps.argmax(1)  # [B, K, H, W] -> [B, H, W]
        found = indices.numpy().astype(np.uint8)
        return np.where(found == len(self.taxonomy), np.uint8(IGNORE), found)

    def pictures(self, maps: Tensor) -> npt.NDArray[np.uint8]:
        """Paint maps `[B, C, H, W]` as RGB `uint8 [B, H, W, 3]`: the likeliest class's colour, or the colours as they are."""
        if not self.rgb:
            return self.taxonomy.colourise(self.labels(maps))
        colours = ((maps.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255)  # [B, H, W, 3]
        return colours.to(torch.uint8).numpy()


def grid(pictures: npt.NDArray[np.uint8], columns: int = 8, gap: int = 2) -> npt.NDArray[np.uint8]:
    """Lay pictures `uint8 [B, H, W, 3]` out in rows of `columns`, with white gaps: one picture `uint8 [H', W', 3]`."""
    count, height, width, _ = pictures.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet

"""Augmentation of one sample, on uint8 until the last step: flip, scale and crop, intensity jitter (arXiv 1908.02711)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.data.dataset import Sample


@dataclass(frozen=True)
class Augmentation:
    """How strongly samples are varied; all zero (and scales 1) leaves them as they are."""

    flip: float = 0.5  # probability of a left-right flip
    scale_min: float = 0.8  # smallest zoom factor
    scale_max: float = 1.4  # largest zoom factor
    jitter: float = 0.2  # brightness, contrast and saturation vary by up to this fraction

    def __post_init__(self) -> None:
        """Check the ranges; raises `BadInput` naming the field."""
        if not 0 <= self.flip <= 1:
            raise BadInput(f"augmentation flip is {self.flip}, expected a probability from 0 to 1")
        if not 0 < self.scale_min <= self.scale_max < math.inf:
            raise BadInput(
                f"augmentation scale_min, scale_max are {self.scale_min}, {self.scale_max}, expected 0 < scale_min <= scale_max"
            )
        if not 0 <= self.jitter <= 1:
            raise BadInput(f"augmentation jitter is {self.jitter}, expected a fraction from 0 to 1")


NO_AUGMENTATION = Augmentation(flip=0.0, scale_min=1.0, scale_max=1.0, jitter=0.0)


def resize(sample: Sample, height: int, width: int) -> Sample:
    """Bring a sample to `height` x `width` [pixels]: the image bilinear, the labels nearest."""
    if sample.labels.shape == (height, width):
        return sample
    image = Image.fromarray(sample.image).resize((width, height), Image.Resampling.BILINEAR)
    labels = Image.fromarray(sample.labels).resize((width, height), Image.Resampling.NEAREST)
    return Sample(np.asarray(image), np.asarray(labels), sample.name)


def augment(sample: Sample, options: Augmentation, rng: np.random.Generator, crop: tuple[int, int] | None = None) -> Sample:
    """Return a random variant of size `crop` = (height, width) [pixels], or of the sample's own size.

    The crop is cut out of the zoomed frame; where that is smaller than the crop, a border of ignored pixels is left. Labels may
    also be soft, `uint8 [N, H, W]`, zero for no label.
    """
    image, labels = sample.image, sample.labels
    if rng.random() < options.flip:
        image, labels = image[:, ::-1], labels[..., ::-1]
    scale = rng.uniform(options.scale_min, options.scale_max)
    place = rng.random(2)  # where the crop (or the shrunk frame) lies, 0 = top left, 1 = bottom right
    size = image.shape[:2] if crop is None else crop
    if scale != 1.0 or size != image.shape[:2]:
        image, labels = _window(image, labels, scale, place, size[0], size[1])
    if options.jitter > 0:
        image = _jitter(image, rng.uniform(1 - options.jitter, 1 + options.jitter, 3))
    return Sample(np.ascontiguousarray(image), np.ascontiguousarray(labels), sample.name)


def _window(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    scale: float,
    place: npt.NDArray[np.float64],
    height: int,
    width: int,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Cut a window of `height` x `width` out of the frame zoomed by `scale`, resampled in one pass."""
    part_height, part_width = height / scale, width / scale  # of the window, in pixels of the frame
    top, left = place[0] * (image.shape[0] - part_height), place[1] * (image.shape[1] - part_width)  # negative outside
    if scale == 1.0:  # nothing to resample
        top, left = round(top), round(left)
    if scale == 1.0 and top >= 0 and left >= 0:
        window = np.s_[int(top) : int(top) + height, int(left) : int(left) + width]
        return image[window], labels[..., *window]
    # PIL maps output (x, y) to input (a x + c, e y + f); pixels outside the frame are filled with 0 and IGNORE.
    affine = (1 / scale, 0.0, left, 0.0, 1 / scale, top)
    size = (width, height)
    zoomed = Image.fromarray(image).transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)

    def moved(plane: npt.NDArray[np.uint8], outside: int) -> npt.NDArray[np.uint8]:
        picture = Image.fromarray(plane)
        return np.asarray(picture.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.NEAREST, fillcolor=outside))

    if labels.ndim == 2:
        return np.asarray(zoomed), moved(labels, IGNORE)
    return np.asarray(zoomed), np.stack([moved(plane, 0) for plane in labels])


def _jitter(image: npt.NDArray[np.uint8], gains: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Scale brightness, contrast (about the mean) and saturation (about grey) by three gains near 1."""
    brightness, contrast, saturation = (float(gain) for gain in gains)
    mean = float(image.mean())
    levels = np.arange(256, dtype=np.float32) * brightness
    levels = np.clip((levels - mean * brightness) * contrast + mean * brightness, 0, 255)
    toned = levels.astype(np.uint8)[image]  # brightness and contrast by table: they act on each value alone
    grey = Image.fromarray(toned).convert("L").convert("RGB")
    return np.asarray(Image.blend(grey, Image.fromarray(toned), saturation))

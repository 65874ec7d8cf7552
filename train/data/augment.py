"""Augmentation of one sample, on uint8 until the last step: flip, scale and crop, intensity jitter (arXiv 1908.02711)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.data.dataset import Sample


@dataclass(frozen=True)
class Augmentation:
    """How strongly samples are varied; all zero (and scales 1) leaves them as they are."""

    flip: float = 0.5  # probability of a left-right flip
    scale_min: float = 0.8  # smallest zoom factor
    scale_max: float = 1.4  # largest zoom factor
    jitter: float = 0.2  # brightness, contrast and saturation vary by up to this fraction


NO_AUGMENTATION = Augmentation(flip=0.0, scale_min=1.0, scale_max=1.0, jitter=0.0)


def resize(sample: Sample, height: int, width: int) -> Sample:
    """Bring a sample to `height` x `width` [pixels]: the image bilinear, the labels nearest."""
    if sample.labels.shape == (height, width):
        return sample
    image = Image.fromarray(sample.image).resize((width, height), Image.Resampling.BILINEAR)
    labels = Image.fromarray(sample.labels).resize((width, height), Image.Resampling.NEAREST)
    return Sample(np.asarray(image), np.asarray(labels), sample.name)


def augment(sample: Sample, options: Augmentation, rng: np.random.Generator) -> Sample:
    """Return a random variant of the same size. A zoom below 1 leaves a border of ignored pixels."""
    image, labels = sample.image, sample.labels
    if rng.random() < options.flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    scale = rng.uniform(options.scale_min, options.scale_max)
    place = rng.random(2)  # where the crop (or the shrunk frame) lies, 0 = top left, 1 = bottom right
    if scale != 1.0:
        image, labels = _zoom(image, labels, scale, place)
    if options.jitter > 0:
        image = _jitter(image, rng.uniform(1 - options.jitter, 1 + options.jitter, 3))
    return Sample(np.ascontiguousarray(image), np.ascontiguousarray(labels), sample.name)


def _zoom(
    image: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], scale: float, place: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Show the part of the frame that a zoom by `scale` leaves, resampled in one pass to the same size."""
    height, width = labels.shape
    part_height, part_width = height / scale, width / scale
    top, left = place[0] * (height - part_height), place[1] * (width - part_width)  # negative where the part is larger
    # PIL maps output (x, y) to input (a x + c, e y + f); pixels outside the frame are filled with 0 and IGNORE.
    affine = (1 / scale, 0.0, left, 0.0, 1 / scale, top)
    size = (width, height)
    zoomed = Image.fromarray(image).transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    where = Image.fromarray(labels).transform(size, Image.Transform.AFFINE, affine, Image.Resampling.NEAREST, fillcolor=IGNORE)
    return np.asarray(zoomed), np.asarray(where)


def _jitter(image: npt.NDArray[np.uint8], gains: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Scale brightness, contrast (about the mean) and saturation (about grey) by three gains near 1."""
    brightness, contrast, saturation = (float(gain) for gain in gains)
    mean = float(image.mean())
    levels = np.arange(256, dtype=np.float32) * brightness
    levels = np.clip((levels - mean * brightness) * contrast + mean * brightness, 0, 255)
    toned = levels.astype(np.uint8)[image]  # brightness and contrast by table: they act on each value alone
    grey = Image.fromarray(toned).convert("L").convert("RGB")
    return np.asarray(Image.blend(grey, Image.fromarray(toned), saturation))

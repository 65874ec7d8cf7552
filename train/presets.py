"""Named trainings of a paper: every figure of a published experiment, as changes to a `TrainConfig`.

The figures are those of gambling adversarial networks (arXiv 1908.02711: sections 4.1 and "Hyperparameters" of its
supplement). The objective is the paper's own; naming another one keeps all the rest, which gives the paper's baselines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roadworthy.runtime.errors import BadInput
from roadworthy.train.data.augment import Augmentation


@dataclass(frozen=True)
class Preset:
    """The hyper-parameters of one published experiment."""

    about: str  # the experiment, for the command line's help
    model: str
    objective: str
    learning_rate: float  # of Adam at the first step, for segmenter and gambler; falls linearly to zero
    epochs: int  # how often the segmenter sees the data; the gambler's batches are not counted (the paper does not say)
    batch_size: int  # frames per update
    size: tuple[int, int]  # (height, width) that frames are brought to [pixels]
    crop: tuple[int, int] = (512, 512)  # (height, width) of the random crops [pixels]
    weight_decay: float = 5e-4
    beta1: float = 0.5
    beta2: float = 0.99
    jitter: float = 0.2  # intensity jitter; the paper gives no strength, this is ours

    def changes(self) -> dict[str, Any]:
        """Return the fields of `TrainConfig` that this preset sets."""
        return {
            "model": self.model,
            "objective": self.objective,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "size": self.size,
            "crop": self.crop,
            "learning_rate": self.learning_rate,
            "critic_learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "augmentation": Augmentation(flip=0.5, scale_min=1.0, scale_max=1.0, jitter=self.jitter),
        }


PRESETS: Mapping[str, Preset] = {
    "unet-cityscapes": Preset(
        about="U-Net on Cityscapes at 1024x512 (table 2 of arXiv 1908.02711)",
        model="unet",
        objective="gambling(weight=1.0, beta=0.02, segmenter_steps=200, gambler_steps=400)",
        learning_rate=1e-4,
        epochs=300,
        batch_size=4,
        size=(512, 1024),
    ),
    "pspnet-cityscapes": Preset(
        about="PSPNet with ResNet-101 on Cityscapes at 1024x512 (table 5)",
        model="pspnet-resnet101",
        objective="gambling(weight=1.0, beta=0.02, segmenter_steps=800, gambler_steps=800)",
        learning_rate=2.5e-5,
        epochs=200,
        batch_size=3,
        size=(512, 1024),
    ),
    "pspnet-camvid": Preset(
        about="PSPNet with ResNet-101 on CamVid at its original 960x720 (table 6)",
        model="pspnet-resnet101",
        objective="gambling(weight=0.5, beta=0.02, segmenter_steps=100, gambler_steps=200)",
        learning_rate=5e-5,
        epochs=100,
        batch_size=2,
        size=(720, 960),
    ),
}


def get_preset(name: str) -> Preset:
    """Return the preset called `name`; raises `BadInput` listing the known ones."""
    if name not in PRESETS:
        raise BadInput(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]

"""Named trainings of a paper: every figure of a published experiment, as changes to a `TrainConfig`.

The figures are those of gambling adversarial networks (arXiv 1908.02711: sections 4.1 and "Hyperparameters" of its
supplement), of ADVENT (arXiv 1811.12833, section 5.1, and its authors' code) and of scene adaptation (Di Mauro et al., AVSS
2018, section 5, which does not say which ResNet). The objective is the paper's own; naming another one keeps all the rest,
which gives the paper's baselines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roadworthy.runtime.errors import BadInput
from roadworthy.train.config import OptimiserName, RateSchedule
from roadworthy.train.data.augment import Augmentation


@dataclass(frozen=True)
class Preset:
    """The hyper-parameters of one published experiment."""

    about: str  # the experiment, for the command line's help
    model: str
    objective: str
    learning_rate: float  # at the first step, for segmenter and (without one of its own) critic
    epochs: int | None  # how often the segmenter sees the data; a critic's turns are not counted (the papers do not say)
    batch_size: int  # frames per update, of each domain where there are two
    size: tuple[int, int]  # (height, width) that frames are brought to [pixels]
    steps: int | None = None  # updates, instead of epochs
    crop: tuple[int, int] | None = (512, 512)  # (height, width) of the random crops [pixels]; None = whole frames
    weight_decay: float = 5e-4
    optimiser: OptimiserName = "adam"
    schedule: RateSchedule = "linear"
    critic_learning_rate: float | None = None  # None = learning_rate
    critic_optimiser: OptimiserName | None = None  # None = optimiser
    critic_weight_decay: float | None = None  # None = weight_decay
    beta1: float = 0.5
    beta2: float = 0.99
    flip: float = 0.5  # probability of a left-right flip
    jitter: float = 0.2  # intensity jitter; the gambling paper gives no strength, this is ours

    def changes(self) -> dict[str, Any]:
        """Return the fields of `TrainConfig` that this preset sets."""
        kept = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        for name in ("about", "flip", "jitter"):
            del kept[name]
        if kept["steps"] is None:
            del kept["steps"]
        kept["critic_learning_rate"] = self.critic_learning_rate or self.learning_rate
        kept["augmentation"] = Augmentation(flip=self.flip, scale_min=1.0, scale_max=1.0, jitter=self.jitter)
        return kept


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
    "advent-deeplabv2": Preset(
        about="AdvEnt with a two-level DeepLabV2 on ResNet-101, GTA5 to Cityscapes (ADVENT, table 1); give --target",
        model="deeplabv2-two-level-resnet101",
        objective="cross-entropy + advent(weight=0.001, auxiliary=0.0002)",
        learning_rate=2.5e-4,
        epochs=None,
        steps=250_000,  # over which the rate falls; the authors stop at 120,000
        batch_size=1,
        size=(512, 1024),
        crop=None,
        optimiser="sgd",
        schedule="poly",
        critic_learning_rate=1e-4,
        critic_optimiser="adam",
        critic_weight_decay=0.0,
        beta1=0.9,
        flip=0.0,
        jitter=0.0,
    ),
    "scene-adaptation-pspnet": Preset(
        about="Scene adaptation by reconstruction with PSPNet (AVSS 2018, tables 1 and 2); give --target",
        model="pspnet-resnet50",
        objective="cross-entropy + scene-adaptation",
        learning_rate=2e-4,
        epochs=10,
        batch_size=1,
        size=(600, 800),
        crop=None,
        weight_decay=0.0,
        schedule="constant",
        beta1=0.9,
        beta2=0.999,
        flip=0.0,
        jitter=0.0,
    ),
    "scene-baseline-pspnet": Preset(
        about="Its baselines, without adaptation and with the target's labels (AVSS 2018, section 5)",
        model="pspnet-resnet50",
        objective="cross-entropy",
        learning_rate=7e-3,
        epochs=10,
        batch_size=8,
        size=(600, 800),
        crop=None,
        weight_decay=0.0,
        optimiser="sgd",
        schedule="poly",
        flip=0.0,
        jitter=0.0,
    ),
}


def get_preset(name: str) -> Preset:
    """Return the preset called `name`; raises `BadInput` listing the known ones."""
    if name not in PRESETS:
        raise BadInput(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]

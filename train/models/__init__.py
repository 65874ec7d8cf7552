"""Segmenters, by name. A new one is one file and one line of `MODELS`."""

from __future__ import annotations

from collections.abc import Mapping

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models.deeplabv2 import DeepLabV2ResNet18, DeepLabV2ResNet50, DeepLabV2ResNet101
from roadworthy.train.models.deeplabv3plus import DeepLabV3PlusResNet18, DeepLabV3PlusResNet50
from roadworthy.train.models.enet import ENet
from roadworthy.train.models.fcn8s import FCN8s
from roadworthy.train.models.lite0 import Lite0
from roadworthy.train.models.prediction import Prediction, Segmenter
from roadworthy.train.models.pspnet import PSPNetResNet18, PSPNetResNet50, PSPNetResNet101
from roadworthy.train.models.segnet import SegNet
from roadworthy.train.models.unet import UNet

__all__ = ["MODELS", "Prediction", "Segmenter", "build_model"]

MODELS: Mapping[str, type[Segmenter]] = {
    "enet": ENet,
    "lite0": Lite0,
    "unet": UNet,
    "segnet": SegNet,
    "fcn8s": FCN8s,
    "pspnet-resnet18": PSPNetResNet18,
    "pspnet-resnet50": PSPNetResNet50,
    "pspnet-resnet101": PSPNetResNet101,
    "deeplabv2-resnet18": DeepLabV2ResNet18,
    "deeplabv2-resnet50": DeepLabV2ResNet50,
    "deeplabv2-resnet101": DeepLabV2ResNet101,
    "deeplabv3plus-resnet18": DeepLabV3PlusResNet18,
    "deeplabv3plus-resnet50": DeepLabV3PlusResNet50,
}


def build_model(name: str, classes: int) -> Segmenter:
    """Build the segmenter called `name` for `classes` classes, randomly initialised from torch's current seed."""
    if name not in MODELS:
        raise BadInput(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name](classes)

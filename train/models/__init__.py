"""Segmenters, by name. A new one is one file and one line of `MODELS`.

| name                     | paper      | parameters | GMAC whole | GMAC latent | latent of 128x256 | ImageNet weights     |
|--------------------------|------------|-----------:|-----------:|------------:|-------------------|----------------------|
| `enet`                   | 1606.02147 |     0.36 M |       0.98 |        0.81 | 128 x 16 x 32     | none                 |
| `lite0`                  | see file   |     3.30 M |       2.25 |        1.78 | 320 x 8 x 16      | PyPI, or a file      |
| `unet`                   | 1611.07004 |     67.0 M |       13.2 |         3.3 | 512 x 8 x 16      | none                 |
| `segnet`                 | 1511.00561 |     29.5 M |       81.4 |        36.5 | 512 x 8 x 16      | file (vgg16_bn)      |
| `fcn8s`                  | 1411.4038  |    134.4 M |       55.4 |        36.5 | 512 x 8 x 16      | file (vgg16)         |
| `pspnet-resnet18`        | 1612.01105 |     12.8 M |       26.5 |        24.1 | 512 x 16 x 32     | file (resnet18)      |
| `pspnet-resnet50`        | 1612.01105 |     49.0 M |       88.6 |        49.8 | 2048 x 16 x 32    | file (resnet50)      |
| `pspnet-resnet101`       | 1612.01105 |     67.9 M |      127.4 |        88.6 | 2048 x 16 x 32    | file (resnet101)     |
| `deeplabv2-resnet18`     | 1606.00915 |     11.5 M |       24.8 |        24.1 | 512 x 16 x 32     | file (resnet18)      |
| `deeplabv2-resnet50`     | 1606.00915 |     24.9 M |       52.7 |        49.8 | 2048 x 16 x 32    | file (resnet50)      |
| `deeplabv2-resnet101`    | 1606.00915 |     43.9 M |       91.5 |        88.6 | 2048 x 16 x 32    | file (resnet101)     |
| `deeplabv3plus-resnet18` | 1802.02611 |     12.3 M |        9.7 |         8.0 | 512 x 8 x 16      | file (resnet18)      |
| `deeplabv3plus-resnet50` | 1802.02611 |     26.7 M |       18.8 |        16.2 | 2048 x 8 x 16     | file (resnet50)      |

`deeplabv2-two-level-resnet18` and `-resnet101` are DeepLabV2 with a second pyramid that learns with it (0.2 M and 0.7 M more
parameters), as domain adaptation wants it. Parameters for 19 classes, PSPNet's with its auxiliary head; multiply-adds of
convolutions at 512x256 as torch counts them (`torch.utils.flop_counter`). All export to ONNX; what would stop a backend is
written in another form there, with the same values: unpooling by positions instead of indices (ENet, SegNet: `unpooling`),
pooling over windows that divide nothing as products with constants (PSPNet: `pspnet.adaptive_average`). ONNX Runtime and
OpenVINO run the files; TensorRT for RTX builds engines from them (ENet, lite0, U-Net, SegNet, PSPNet and DeepLabV3+ were built
for compute capability 8.6; none was run).

For a vehicle take `lite0`, or `enet` where every millisecond counts. In networks that unpool, rounding moves a few maxima, so
that another backend or precision changes more of their pixels than it does elsewhere.

Where ImageNet weights come from: see `backbones`. All networks see frames normalised alike (`normalisation`).
"""

from __future__ import annotations

from collections.abc import Mapping

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models.deeplabv2 import (
    DeepLabV2ResNet18,
    DeepLabV2ResNet50,
    DeepLabV2ResNet101,
    TwoLevelDeepLabV2ResNet18,
    TwoLevelDeepLabV2ResNet101,
)
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
    "deeplabv2-two-level-resnet18": TwoLevelDeepLabV2ResNet18,
    "deeplabv2-two-level-resnet101": TwoLevelDeepLabV2ResNet101,
    "deeplabv3plus-resnet18": DeepLabV3PlusResNet18,
    "deeplabv3plus-resnet50": DeepLabV3PlusResNet50,
}


def build_model(name: str, classes: int) -> Segmenter:
    """Build the segmenter called `name` for `classes` classes, randomly initialised from torch's current seed."""
    if name not in MODELS:
        raise BadInput(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name](classes)

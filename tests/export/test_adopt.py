"""Foreign networks of the kinds people have: built here in the shapes that other libraries export."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import softmax

from roadworthy.export.adopt import adopt
from roadworthy.export.foreign import Foreign
from roadworthy.export.resampling import upsample_bilinear
from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.taxonomy import CAMVID

HEIGHT, WIDTH, CLASSES = 32, 64, len(CAMVID)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _network(
    path: Path,
    *,
    layout: str = "NCHW",
    kind: int = TensorProto.FLOAT,
    result: str = "logits",
    size: tuple[int | str, int | str] = (HEIGHT, WIDTH),
    opset: int = 17,
) -> Path:
    """Two strided convolutions and a classifier at a quarter of the resolution, with what is asked for around them."""
    random = np.random.default_rng(1)
    nodes, weights = [], []
    x = "pixels"
    if layout == "NHWC":
        if kind == TensorProto.UINT8:
            nodes.append(helper.make_node("Cast", [x], ["pixels_float"], to=TensorProto.FLOAT))
            x = "pixels_float"
        nodes.append(helper.make_node("Transpose", [x], ["planes"], perm=[0, 3, 1, 2]))
        x = "planes"
    scale = 0.02 if kind == TensorProto.UINT8 else 1.0
    for index, (before, after, stride, side) in enumerate([(3, 8, 2, 3), (8, 16, 2, 3), (16, CLASSES, 1, 1)]):
        values = (random.standard_normal((after, before, side, side)) * (scale if index == 0 else 0.5)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"weight{index}"))
        pads = [side // 2] * 4
        name = f"convolved{index}"
        nodes.append(
            helper.make_node("Conv", [x, f"weight{index}"], [name], name=f"conv{index}", strides=[stride] * 2, pads=pads)
        )
        x = name
        if index < 2:
            nodes.append(helper.make_node("Relu", [x], [f"encoded{index}"], name=f"relu{index}"))
            x = f"encoded{index}"
    dtype = TensorProto.FLOAT
    if result == "softmax":
        nodes.append(helper.make_node("Softmax", [x], ["probabilities"], axis=1))
        x = "probabilities"
    elif result == "ids":
        nodes.append(helper.make_node("ArgMax", [x], ["ids"], axis=1, keepdims=0))
        x, dtype = "ids", TensorProto.INT64
    elif result == "channels last":
        nodes.append(helper.make_node("Transpose", [x], ["last"], perm=[0, 2, 3, 1]))
        x = "last"
    dims = ["batch", 3, *size] if layout == "NCHW" else ["batch", *size, 3]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("pixels", kind, dims)],
        [helper.make_tensor_value_info(x, dtype, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, str(path))
    return path


CASES = [
    ({}, {}),
    ({"opset": 18}, {}),
    ({"result": "softmax"}, {}),
    ({"result": "ids"}, {}),
    ({"result": "channels last"}, {}),
    ({"layout": "NHWC"}, {"layout": "NHWC"}),
    ({"layout": "NHWC", "kind": TensorProto.UINT8}, {"layout": "NHWC", "mean": None, "std": None}),
    ({}, {"bgr": True}),
    ({"size": ("height", "width")}, {"size": (HEIGHT, WIDTH)}),
]


@pytest.mark.parametrize(("network", "options"), CASES, ids=[f"{n} {o}" for n, o in CASES])
def test_kinds_of_networks(network: dict[str, object], options: dict[str, object], tmp_path: Path) -> None:
    source = _network(tmp_path / "foreign.onnx", **network)  # type: ignore[arg-type]
    foreign = Foreign("camvid", **{"mean": MEAN, "std": STD, **options})  # type: ignore[arg-type]
    report = adopt(source, tmp_path / "ours.onnx", foreign)
    assert report.parity is not None
    assert report.parity.agreement is not None
    assert report.parity.agreement > 0.999
    ours = load(tmp_path / "ours.onnx")
    ids = network.get("result") == "ids"
    assert ours.outputs == (("labels", "latent") if ids else ("labels", "confidence", "latent"))
    assert ours.latent_shape == (16, HEIGHT // 4, WIDTH // 4)  # the last encoder map before the classifier, or the logits
    frames = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    result = ours(frames)
    assert result.labels is not None
    assert len(np.unique(result.labels)) > 2
    if result.confidence is not None:
        assert result.confidence.min() > 1 / CLASSES - 1e-6
    for name in ("openvino",):  # and not only where it was checked
        other = load(tmp_path / "ours.onnx", backend=name)(frames)
        assert other.labels is not None
        assert np.mean(other.labels == result.labels) > 0.999


@pytest.mark.parametrize("result", ["logits", "softmax"])
def test_confidence_is_the_largest_probability(result: str, tmp_path: Path) -> None:
    source = _network(tmp_path / "foreign.onnx", result=result)
    adopt(source, tmp_path / "ours.onnx", Foreign("camvid", mean=MEAN, std=STD))
    frames = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels = ((frames / np.float32(255) - np.float32(MEAN)) / np.float32(STD)).astype(np.float32).transpose(0, 3, 1, 2)
    given = onnxruntime.InferenceSession(source).run(None, {"pixels": np.ascontiguousarray(pixels)})[0]
    large = upsample_bilinear(given, HEIGHT, WIDTH)
    probabilities = large if result == "softmax" else softmax(large, axis=1)
    np.testing.assert_allclose(load(tmp_path / "ours.onnx")(frames).confidence, probabilities.max(1), atol=1e-5)


@pytest.mark.parametrize("latent", ["encoded0", "relu0"])
def test_the_latent_that_is_asked_for(latent: str, tmp_path: Path) -> None:
    foreign = Foreign("camvid", mean=MEAN, std=STD, latent=latent)
    adopt(_network(tmp_path / "foreign.onnx"), tmp_path / "ours.onnx", foreign)
    assert load(tmp_path / "ours.onnx").latent_shape == (8, HEIGHT // 2, WIDTH // 2)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ({}, {"taxonomy": "cityscapes"}, r"is float32 \[1, 11, 8, 16\], expected logits \[B, 19, h, w\]"),
        ({}, {"taxonomy": "mars"}, "unknown taxonomy"),
        ({}, {"mean": None}, "--mean 0.485,0.456,0.406"),
        ({}, {"std": (0.0, 1.0, 1.0)}, "above 0"),
        ({}, {"layout": "NHWC"}, "64 channels in layout NHWC, expected 3; try --layout NCHW"),
        ({}, {"size": (64, 64)}, "takes images of 64x32 only"),
        ({"size": ("h", "w")}, {}, "say which with --size"),
        ({}, {"output": "scores"}, "has no output 'scores'; it has convolved2"),
        ({}, {"latent": "nowhere"}, r"candidates: encoded1 \[16, 8, 16\]|candidates: convolved2"),
        ({"layout": "NHWC", "kind": TensorProto.UINT8}, {"layout": "NHWC"}, "leave --mean and --std out"),
        ({"opset": 11}, {}, "opset 11, expected 13 or newer"),
    ],
)
def test_what_cannot_be_adopted(network: dict[str, object], options: dict[str, object], message: str, tmp_path: Path) -> None:
    source = _network(tmp_path / "foreign.onnx", **network)  # type: ignore[arg-type]
    foreign = Foreign(**{"taxonomy": "camvid", "mean": MEAN, "std": STD, **options})  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=message):
        adopt(source, tmp_path / "ours.onnx", foreign)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.onnx"]


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    model = onnx.load(str(_network(tmp_path / "foreign.onnx")))
    onnx.save(model, str(tmp_path / "inside" / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0)
    foreign = Foreign("camvid", mean=MEAN, std=STD)
    adopt(tmp_path / "inside" / "m.onnx", tmp_path / "ours.onnx", foreign)  # beside it is where they belong
    changed = onnx.load(str(tmp_path / "inside" / "m.onnx"), load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../foreign.onnx"
    (tmp_path / "inside" / "bad.onnx").write_bytes(changed.SerializeToString())
    with pytest.raises(BadInput, match="outside its own folder"):
        adopt(tmp_path / "inside" / "bad.onnx", tmp_path / "other.onnx", foreign)


def test_upsampling_is_torchs() -> None:
    import torch
    from torch.nn import functional as F

    maps = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(maps), size=(16, 28), mode="bilinear", align_corners=False).numpy()
    np.testing.assert_allclose(upsample_bilinear(maps, 16, 28), expected, atol=1e-5)

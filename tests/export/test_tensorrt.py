"""Engines: real ones for RTX where its builder is installed (no GPU is needed), and what is said where something is missing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from roadworthy.export import tensorrt
from roadworthy.export.batch import Batch, parse_batch
from roadworthy.export.convert import convert
from roadworthy.export.frames import Frames
from roadworthy.export.onnx import export_network
from roadworthy.export.onnx_model import load_model, save_model
from roadworthy.export.report import ExportReport
from roadworthy.export.tensorrt import build_engine, has_gpu, import_library
from roadworthy.export.wish import Wish
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.sidecar import read_sidecar, sha256
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.models import build_model
from roadworthy.train.models.normalisation import normalise

HEIGHT, WIDTH = 64, 96


@pytest.fixture
def rtx() -> None:
    try:
        import_library("tensorrt-rtx")
    except BadInput:
        pytest.skip("TensorRT for RTX is not installed: pip install tensorrt_rtx_cu12_libs tensorrt_rtx_cu12_bindings (215 MB)")


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, exported: tuple[ExportReport, Path], tmp_path: Path
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tensorrt, "import_module", missing)
    for name, other in (("tensorrt", "tensorrt-rtx"), ("tensorrt-rtx", "tensorrt")):
        with pytest.raises(BadInput, match=f"pip install {name}.*--format {other}"):
            convert(exported[1], tmp_path / "m.engine", Wish(format=name))
    assert not list(tmp_path.iterdir())


class _Library:
    """Enough of a TensorRT module to ask it for what it cannot do."""

    __version__ = "10.9"

    class ComputeCapability:
        __members__ = {"NONE": 0, "SM86": 86, "SM89": 89}  # noqa: RUF012  # as the enum has it

    class ILogger:
        def __init__(self) -> None:
            pass


@pytest.mark.skipif(has_gpu(), reason="there is a GPU here")
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorrt, "import_module", lambda _name: _Library)
    with pytest.raises(BadInput, match="run the same command on the vehicle"):
        build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", "tensorrt", None)
    with pytest.raises(BadInput, match="--target sm89: tensorrt builds for the GPU of the machine it runs on"):
        build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", "tensorrt", None, ["sm89"])
    with pytest.raises(BadInput, match=r"name the compute capabilities of the vehicle's: --target sm86,sm89"):
        build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", "tensorrt-rtx", None)
    with pytest.raises(BadInput, match="sm90: tensorrt-rtx knows sm86, sm89"):
        build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", "tensorrt-rtx", None, ["sm89", "sm90"])


@pytest.mark.parametrize("text", ["", "0", "1:2", "4:2:8", "1:4:2", "1:2:99999", "a", "-1"])
def test_impossible_batches(text: str) -> None:
    with pytest.raises(BadInput, match="--batch"):
        parse_batch(text)


def test_batches() -> None:
    assert parse_batch("4") == Batch(4, 4, 4)
    assert str(parse_batch("1:4:16")) == "1:4:16"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Frames]]:
    """The three kinds of decoders, exported once: unpooling, pyramid pooling, dilated pyramid."""
    found = {}
    for name in ("enet", "pspnet-resnet18", "deeplabv3plus-resnet18"):
        torch.manual_seed(0)
        network = build_model(name, len(CAMVID))
        images = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
        with torch.no_grad():
            network.train()(normalise(torch.from_numpy(images)))
        metadata = ModelMetadata.of(CAMVID, ignore_id=255, height=HEIGHT, width=WIDTH, architecture=name)
        path = tmp_path_factory.mktemp(name) / "model.onnx"
        export_network(network.eval(), metadata, path, images, min_agreement=0.99)
        found[name] = (path, Frames(images, None, "noise"))
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["enet", "pspnet-resnet18", "deeplabv3plus-resnet18"])
@pytest.mark.usefixtures("rtx")
def test_engines_for_gpus_that_are_not_here(name: str, precision: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model, frames = request.getfixturevalue("networks")[name]
    wish = Wish(
        format="tensorrt-rtx", precision=precision, batch=Batch(1, 2, 4), targets=("sm86", "sm89", "sm120"), min_agreement=0
    )
    report = convert(model, tmp_path / "m.engine", wish, frames=lambda: frames, calibration=lambda: frames)
    assert report.parity is None
    assert report.ran_on.startswith("built, not run")
    sidecar = read_sidecar(tmp_path / "m.engine")
    assert sidecar.engine_sha256 == sha256(tmp_path / "m.engine")
    assert sidecar.source_sha256 == sha256(model)
    assert sidecar.built_with["targets"] == "sm86,sm89,sm120"
    assert sidecar.metadata.precision == precision
    assert report.file_bytes > 100_000
    plain = model.stat().st_size
    if precision != "fp32" and name != "enet":  # an engine for three GPUs; ENet's is mostly code, the others' mostly weights
        assert report.file_bytes < plain


@pytest.mark.usefixtures("rtx")
def test_an_operator_that_tensorrt_lacks_is_named(exported: tuple[ExportReport, Path], tmp_path: Path) -> None:
    model = load_model(exported[1])
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    pool.op_type, pool.domain = "Unheard", "of"
    del pool.attribute[:]
    model.opset_import.add(domain="of", version=1)
    del model.graph.value_info[:]
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="Unheard"):
        build_engine(path, tmp_path / "m.engine", "tensorrt-rtx", None, ["sm89"])
    assert not (tmp_path / "m.engine").exists()
    save_model(load_model(exported[1]), tmp_path / "good.onnx")
    assert build_engine(tmp_path / "good.onnx", tmp_path / "m.engine", "tensorrt-rtx", None, ["sm89"]).batch == Batch(1, 1, 1)

"""Exported files: faithful on every backend, readable by other people's tools, and never written when they are wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from roadworthy.export.graph import FrameToLabels
from roadworthy.export.onnx import export_network, export_onnx
from roadworthy.export.parity import TOLERANCES, Parity
from roadworthy.export.report import ExportReport
from roadworthy.runtime import load
from roadworthy.runtime.backends import BACKENDS
from roadworthy.runtime.errors import BadInput, RoadworthyError
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.taxonomy import CAMVID
from roadworthy.train.checkpoint import save_model
from roadworthy.train.config import TrainConfig
from roadworthy.train.models import build_model
from roadworthy.train.models.normalisation import normalise


def test_the_report_tells_how_faithful_it_is(exported: tuple[ExportReport, Path]) -> None:
    report, path = exported
    assert report.parity.agreement is not None
    assert report.parity.agreement > 0.999
    assert report.parity.worst_confidence_error is not None
    assert report.parity.worst_confidence_error < 1e-5
    assert report.parity.frames == 7
    assert report.file_bytes == path.stat().st_size
    stored = json.loads((path.parent / "small.export.json").read_text())
    assert stored == json.loads(json.dumps(report.to_dict()))
    assert stored["metadata"]["taxonomy"] == "camvid"
    assert sorted(path.name for path in path.parent.iterdir()) == ["small.export.json", "small.onnx"]


@pytest.mark.parametrize("backend", [name for name, entry in BACKENDS.items() if ".onnx" in entry.suffixes])
def test_every_backend_agrees_with_torch(
    backend: str, network: nn.Module, frames: np.ndarray, exported: tuple[ExportReport, Path]
) -> None:
    segmenter = load(exported[1], backend=backend)
    with torch.no_grad():
        labels, confidence, latent = FrameToLabels(network)(torch.from_numpy(frames))
    for count in (1, 2, 7):  # the batch is dynamic
        result = segmenter(frames[:count])
        assert result.labels is not None
        assert np.mean(result.labels == labels[:count].numpy()) > 0.999
        assert result.confidence == pytest.approx(confidence[:count].numpy(), abs=1e-4)
        assert result.latent == pytest.approx(latent[:count].numpy(), abs=1e-4)


def test_other_tools_can_read_it(exported: tuple[ExportReport, Path], frames: np.ndarray, metadata: ModelMetadata) -> None:
    path = exported[1]
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    labels, confidence, latent = session.run(None, {"frames": frames})
    assert (labels.dtype, labels.shape) == (np.uint8, (7, 16, 32))
    assert (confidence.dtype, confidence.shape) == (np.float32, (7, 16, 32))
    assert (latent.dtype, latent.shape) == (np.float32, (7, 8, 4, 8))
    assert session.get_modelmeta().custom_metadata_map == metadata.to_props()


def test_it_tells_nothing_of_the_machine_that_made_it(exported: tuple[ExportReport, Path]) -> None:
    content = exported[1].read_bytes()
    assert str(Path(__file__).resolve().parents[2]).encode() not in content
    assert b".py" not in content


def test_latent_only_leaves_the_decoder_out(
    network: nn.Module, metadata: ModelMetadata, frames: np.ndarray, tmp_path: Path
) -> None:
    report = export_network(network, metadata, tmp_path / "latent.onnx", frames, outputs=("latent",))
    assert report.parity.agreement is None
    assert report.parity.worst_latent_error is not None
    assert report.parity.worst_latent_error < 1e-5
    operators = [node.op_type for node in onnx.load(str(tmp_path / "latent.onnx")).graph.node]
    assert "ConvTranspose" not in operators
    assert "ArgMax" not in operators
    result = load(tmp_path / "latent.onnx")(frames)
    assert result.labels is None
    assert result.latent is not None


class _ChangesWhenExported(nn.Module):
    """What a wrong operator in an exporter does: other numbers in the file than in the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: torch.Tensor) -> NamedTuple:
        prediction = self.network(frames)
        return prediction._replace(logits=prediction.logits.flip(1)) if torch.compiler.is_exporting() else prediction


def test_an_unfaithful_export_leaves_what_was_there(
    network: nn.Module, metadata: ModelMetadata, frames: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "old.onnx").write_text("the model of yesterday")
    with pytest.raises(RoadworthyError, match=r"of the labels agree, expected at least 0\.999") as caught:
        export_network(_ChangesWhenExported(network), metadata, tmp_path / "old.onnx", frames)
    assert caught.value.exit_code == 1
    assert (tmp_path / "old.onnx").read_text() == "the model of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]


def test_not_a_number_is_never_faithful(
    network: nn.Module, metadata: ModelMetadata, frames: np.ndarray, tmp_path: Path
) -> None:
    network.classifier.bias.data[0] = float("nan")  # type: ignore[index,union-attr]
    with pytest.raises(RoadworthyError, match="confidence is off by nan"):
        export_network(network, metadata, tmp_path / "nan.onnx", frames)
    assert not list(tmp_path.iterdir())


def test_the_network_is_left_as_it_was(network: nn.Module, metadata: ModelMetadata, frames: np.ndarray, tmp_path: Path) -> None:
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export_network(network, metadata, tmp_path / "m.onnx", frames, outputs=("latent",))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_bad_options(network: nn.Module, metadata: ModelMetadata, frames: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"ends in \.onnx"):
        export_network(network, metadata, tmp_path / "m.engine", frames)
    with pytest.raises(BadInput, match="parity frames are float32"):
        export_network(network, metadata, tmp_path / "m.onnx", frames.astype(np.float32))
    with pytest.raises(BadInput, match="parity frames are uint8"):
        export_network(network, metadata, tmp_path / "m.onnx", frames[:0])
    with pytest.raises(BadInput, match=r"min_agreement is 99\.9"):
        export_network(network, metadata, tmp_path / "m.onnx", frames, min_agreement=99.9)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def enet_run(tmp_path: Path) -> Path:
    """A finished run folder of ENet with plausible weights, whose data is one small CamVid-like folder."""
    from PIL import Image

    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "data" / folder).mkdir(parents=True)
        for index in range(3):
            pixels = random.integers(0, 256, (6, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC).save(tmp_path / "data" / split / f"{index}.png")
            Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "data" / f"{split}annot" / f"{index}.png")
    torch.manual_seed(0)
    model = build_model("enet", len(CAMVID))
    for module in model.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(-0.2, 0.9)
    with torch.no_grad():
        model.train()(normalise(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)))
    config = TrainConfig(data=f"camvid:{tmp_path / 'data'}", size=(32, 64), objective="gambling")
    run = tmp_path / "runs" / "enet-gambling"
    run.mkdir(parents=True)
    config.save(run / "config.yaml")
    save_model(run, model, config, CAMVID)
    return run


def test_a_run_of_enet(enet_run: Path, tmp_path: Path) -> None:
    report = export_onnx(enet_run, tmp_path / "enet.onnx")
    assert report.parity.agreement is not None
    assert report.parity.agreement > 0.9999
    assert report.frames_source.endswith("(val)")
    segmenter = load(tmp_path / "enet.onnx")
    facts = segmenter.metadata
    assert (facts.height, facts.width, facts.taxonomy) == (32, 64, "camvid")
    assert (facts.objective, facts.architecture, facts.source) == ("gambling", "enet", "enet-gambling")
    assert segmenter.latent_shape == (128, 4, 8)


def test_runs_that_cannot_be_exported(enet_run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="multiples of 8; try 32x64"):
        export_onnx(enet_run, tmp_path / "m.onnx", size=(30, 60))
    with pytest.raises(BadInput, match="no such run folder"):
        export_onnx(tmp_path / "nowhere", tmp_path / "m.onnx")
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(BadInput, match="no frames to check the export on"):
        export_onnx(enet_run, tmp_path / "m.onnx")
    assert not list(tmp_path.glob("m*.onnx"))


def test_a_few_moved_pixels_pass_and_confidence_that_is_off_does_not() -> None:
    faithful = Parity(
        frames=8,
        agreement=1.0,
        confidence_error=1e-4,
        worst_confidence_error=0.04,
        worst_latent_error=1e-6,
        mean_confidence=0.8,
    )
    faithful.check(TOLERANCES["fp32"])
    with pytest.raises(RoadworthyError, match=r"confidence is off by 0\.02"):
        replace(faithful, confidence_error=0.02).check(TOLERANCES["fp32"])
    with pytest.raises(RoadworthyError, match=r"mIoU falls by 1\.00 points"):
        replace(faithful, miou=0.49, reference_miou=0.5).check(TOLERANCES["int8"])
    with pytest.raises(RoadworthyError, match="labels agree"):
        replace(faithful, agreement=0.99).check(TOLERANCES["fp32"])

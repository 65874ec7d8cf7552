"""The benchmark on a small real network: every figure is there and consistent, and the work is counted as torch counts it."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from roadworthy.eval.bench import BenchConfig, accuracy, bench
from roadworthy.eval.bench_chart import draw
from roadworthy.eval.latency import graph_digest
from roadworthy.eval.peers import PEERS, PeerContext, build_peers
from roadworthy.eval.roofline import Work, count_work, place
from roadworthy.export.graph import FrameToLabels
from roadworthy.export.onnx import export_network
from roadworthy.runtime import load
from roadworthy.runtime.errors import BadInput
from roadworthy.runtime.metadata import ModelMetadata
from roadworthy.runtime.peak import Peak, measure_peak
from roadworthy.runtime.taxonomy import CAMVID, IGNORE
from roadworthy.scripts.cli import main
from roadworthy.train.models import build_model

HEIGHT, WIDTH = 32, 64


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def known_peak(monkeypatch: pytest.MonkeyPatch) -> Peak:
    """A machine of known limits: measuring takes seconds, and has its own test."""
    peak = Peak(gflops=1000, copy_gb_per_s=1000, threads=1)
    monkeypatch.setattr("roadworthy.eval.bench.measure_peak", lambda threads: peak)
    return peak


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("enet", len(CAMVID)).eval()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, network: torch.nn.Module, frames: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("bench") / "model.onnx"
    metadata = ModelMetadata.of(CAMVID, ignore_id=IGNORE, height=HEIGHT, width=WIDTH, architecture="enet")
    export_network(network, metadata, path, frames)
    return path


@pytest.mark.usefixtures("known_peak")
def test_every_figure_is_there(model: Path, tmp_path: Path) -> None:
    config = BenchConfig(backends=("onnxruntime",), batches=(1, 2), rounds=10, warmup=1, threads=1)
    result = bench({"m": model}, tmp_path / "latency.json", config)
    assert json.loads((tmp_path / "latency.json").read_text()) == json.loads(json.dumps(result))
    assert [(row["name"], row["batch"]) for row in result["rows"]] == [
        ("m | onnxruntime", 1), ("m | onnxruntime", 2),
    ]  # fmt: skip
    for row in result["rows"]:
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert len(row["samples_ms"]) == 10
        assert row["frames_per_second"] == pytest.approx(1000 * row["batch"] / row["p50_ms"])
        assert row["ratio_to_fastest"]["value"] >= 1
        assert 0 < row["cpu_percent"] < 250
        assert set(row["stages_ms"]) == {"copy_in", "compute", "copy_out", "post"}
        assert max(row["stages_ms"], key=row["stages_ms"].__getitem__) == "compute"
        cold = row["cold_start"]
        assert cold["total_s"] > cold["import_s"] + cold["load_s"] + cold["first_call_s"]
        assert cold["memory_mb"] > 20
        assert row["file_bytes"] == model.stat().st_size
        assert row["roofline"]["gflops"] > 0
        assert row["roofline"]["compute_fraction"] == pytest.approx(row["roofline"]["gflops"] / 1000)
    assert result["peak"]["threads"] == 1
    picture = ElementTree.fromstring(draw(result))
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 2


def test_models_share_a_row_of_latency_only_where_their_graphs_are_the_same(model: Path, tmp_path: Path) -> None:
    def changed(name: str, change: Callable[[onnx.GraphProto], None]) -> str:
        proto = onnx.load(model)
        change(proto.graph)
        onnx.save(proto, tmp_path / name)
        return graph_digest(tmp_path / name)

    def weights(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(tensor) + 1
                tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))

    def attribute(graph: onnx.GraphProto) -> None:
        conv = next(node for node in graph.node if node.op_type == "Conv")
        next(each for each in conv.attribute if each.name == "dilations").ints[:] = [3, 3]

    def wiring(graph: onnx.GraphProto) -> None:
        add = next(node for node in graph.node if len(node.input) > 1)
        add.input[0], add.input[1] = add.input[1], add.input[0]

    def names(graph: onnx.GraphProto) -> None:
        first = graph.node[0]
        old, first.output[0] = first.output[0], "another_name"
        for node in graph.node:
            node.input[:] = ["another_name" if value == old else value for value in node.input]

    same = graph_digest(model)
    assert changed("weights.onnx", weights) == same
    assert changed("names.onnx", names) == same
    assert changed("attribute.onnx", attribute) != same
    assert changed("wiring.onnx", wiring) != same


@pytest.mark.parametrize("batch", [1, 3])
def test_work_is_counted_as_torch_counts_it(model: Path, network: torch.nn.Module, batch: int) -> None:
    images = torch.zeros((batch, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        FrameToLabels(network)(images)
    work = count_work(model, batch)
    # The file may write a PReLU as two 1x1 depthwise convolutions, which torch does not count: never less, at most a little.
    assert counter.get_total_flops() <= work.flops <= 1.06 * counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert work.weight_bytes == pytest.approx(4 * parameters, rel=0.1)
    assert work.activation_bytes > batch * HEIGHT * WIDTH * (3 + 1)


def test_a_roof_of_known_height() -> None:
    peak = Peak(gflops=100, copy_gb_per_s=10, threads=1)
    compute = place(Work(flops=10**9, weight_bytes=10**6, activation_bytes=0), 20.0, peak)
    assert (compute.gflops, compute.compute_fraction, compute.bound_ms) == pytest.approx((50, 0.5, 10))
    assert compute.limit == "compute"
    memory = place(Work(flops=10**6, weight_bytes=10**9, activation_bytes=0), 200.0, peak)
    assert (memory.bound_ms, memory.limit) == (100, "memory")


def test_the_machine_has_a_peak() -> None:
    peak = measure_peak(1, gemm_size=512, copy_bytes=1 << 24)
    assert peak.gflops > 0.5
    assert peak.copy_gb_per_s > 0.1


@pytest.mark.parametrize("peer", [name for name in PEERS if name != "torch-compile"])
def test_peers_compute_the_same_labels(
    peer: str, network: torch.nn.Module, frames: np.ndarray, model: Path, tmp_path: Path
) -> None:
    with torch.inference_mode():
        call = build_peers([peer], PeerContext(network, frames, 1, tmp_path))[peer]
        labels = call(frames)
    expected = load(model, threads=1)(frames).labels
    assert expected is not None
    assert labels.dtype == np.uint8
    assert labels.shape == expected.shape
    assert (labels == expected).mean() > 0.999


def test_what_cannot_be_measured(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no models"):
        bench({}, tmp_path / "x.json")
    with pytest.raises(BadInput, match="needs the run that model"):
        bench({"m": model}, tmp_path / "x.json", BenchConfig(against=("torch",), threads=1, roofline=False))
    with pytest.raises(BadInput, match="unknown backend 'abacus'"):
        bench({"m": model}, tmp_path / "x.json", BenchConfig(backends=("abacus",), roofline=False))
    assert not (tmp_path / "x.json").exists()


@pytest.fixture
def camvid(tmp_path: Path, model: Path) -> Path:
    """Labelled data of which the model has every pixel of the first half of the images right and of the others none."""
    segmenter = load(model, threads=1)
    root = tmp_path / "camvid"
    for part in ("val", "valannot"):
        (root / part).mkdir(parents=True)
    rng = np.random.default_rng(5)
    for index in range(4):
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        labels = segmenter(image[None]).labels
        assert labels is not None
        wrong = (labels[0] + 1) % len(CAMVID)
        Image.fromarray(image).save(root / "val" / f"{index}.png")
        Image.fromarray(labels[0] if index < 2 else wrong).save(root / "valannot" / f"{index}.png")
    return root


def test_accuracy_and_its_floor(model: Path, camvid: Path, tmp_path: Path) -> None:
    whole = accuracy(model, f"camvid:{camvid}", split="val", backend="onnxruntime")
    assert 0 < whole < 1
    assert accuracy(model, f"camvid:{camvid}", split="val", limit=1, backend="onnxruntime") == 1.0
    options = [
        "--rounds",
        "10",
        "--warmup",
        "0",
        "--threads",
        "1",
        "--no-cold",
        "--no-roofline",
        "--data",
        f"camvid:{camvid}",
        "--split",
        "val",
    ]
    options += ["-o", str(tmp_path / "l.json")]
    passed = CliRunner().invoke(main, ["bench", str(model), *options, "--metric-floor", f"{whole - 0.01:.3f}"])
    assert passed.exit_code == 0, passed.output
    failed = CliRunner().invoke(main, ["bench", str(model), *options, "--metric-floor", f"{whole + 0.01:.3f}"])
    assert failed.exit_code == 1
    assert "below the floor" in failed.output
    assert (tmp_path / "l.svg").is_file()

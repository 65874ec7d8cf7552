"""The command line: every verb explains itself, and bad input is one message and exit code 2."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from roadworthy.scripts.cli import VERBS, main

GROUPS = ("drive", "ground")  # verbs with verbs of their own


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_a_newcomer_can_follow(verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    if verb in GROUPS:
        subverbs = importlib.import_module(VERBS[verb][0]).command.commands
        assert subverbs
        outputs = [run(verb, subverb, "--help").output for subverb in subverbs]
    else:
        outputs = [] if verb in ("doctor", "town") else [result.output]
    for output in outputs:
        assert re.search(r"Examples?:\s+roadworthy", output), output


def test_the_top_help_lists_every_verb_without_importing_it() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(verb in result.output for verb in VERBS)


def test_an_unknown_verb_is_refused() -> None:
    assert run("fly").exit_code == 2


def test_doctor_tells_this_machine_as_json() -> None:
    result = run("doctor", "--json")
    assert result.exit_code == 0
    findings = {finding["name"]: finding for finding in json.loads(result.output)}
    assert findings["torch"]["present"]
    assert findings["carla"]["detail"] == "0.9.16"
    assert all(finding["present"] or finding["detail"] for finding in findings.values())


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Four made-up frames in the CamVid layout."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for part in (split, f"{split}annot"):
            (tmp_path / part).mkdir()
        for index in range(4):
            Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8)).save(tmp_path / split / f"{index}.png")
            Image.fromarray(rng.integers(0, 12, (32, 64), np.uint8)).save(tmp_path / f"{split}annot" / f"{index}.png")
    return tmp_path


def refused(result: Result, *words: str) -> None:
    """Check that a run ended in one message with `words`, exit code 2, and no traceback."""
    assert result.exit_code == 2, result.output
    text = " ".join(result.output.split())
    assert "Traceback" not in text
    for word in words:
        assert word in text, text


def test_missing_data_folder(tmp_path: Path) -> None:
    refused(run("train", "--data", "camvid:/nowhere", "-o", str(tmp_path / "run")), "/nowhere")
    assert not (tmp_path / "run").exists()


def test_image_without_label(camvid: Path, tmp_path: Path) -> None:
    (camvid / "trainannot" / "2.png").unlink()
    refused(run("train", "--data", f"camvid:{camvid}", "-o", str(tmp_path / "run")), "2.png")
    assert not (tmp_path / "run").exists()


def test_label_id_outside_the_taxonomy(camvid: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 64), 77, np.uint8)).save(camvid / "trainannot" / "1.png")
    refused(run("train", "--data", f"camvid:{camvid}", "-o", str(tmp_path / "run")), "1.png", "77", "camvid")
    assert not (tmp_path / "run").exists()


def test_truncated_png(camvid: Path, tmp_path: Path) -> None:
    path = camvid / "train" / "3.png"
    path.write_bytes(path.read_bytes()[:200])
    refused(run("train", "--data", f"camvid:{camvid}", "-o", str(tmp_path / "run")), "3.png")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--objective", "hope"), ("hope", "cross-entropy")),
        (("--model", "resnet"), ("resnet", "enet")),
        (("--size", "100x"), ("256x128",)),
        (("--size", "100x100"), ("multiples of",)),
        (("--data", "photos"), ("photos", "camvid")),
        (("--rounds", "5"), ("--pseudo-labels",)),
        (("--select-every", "3"), ("--selection",)),
    ],
)
def test_bad_training_options(camvid: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(run("train", "--data", f"camvid:{camvid}", "-o", str(tmp_path / "run"), *arguments), *words)


def test_the_verbs_in_a_row_on_a_tiny_data_set(camvid: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    data = ("--data", f"camvid:{camvid}")
    trained = run("train", *data, "--steps", "2", "--batch", "2", "--size", "64x32", "--threads", "1", "-o", str(run_folder))
    assert trained.exit_code == 0, trained.output
    assert "roadworthy export" in trained.output
    exported = run("export", str(run_folder))
    assert exported.exit_code == 0, exported.output
    model = run_folder / "model.onnx"
    photos = [str(path) for path in sorted((camvid / "val").iterdir())]
    predicted = run("predict", str(model), *photos, "-o", str(tmp_path / "overlays"), "--ids")
    assert predicted.exit_code == 0, predicted.output
    assert len(list((tmp_path / "overlays").glob("*.overlay.png"))) == 4
    assert np.asarray(Image.open(tmp_path / "overlays" / "0.ids.png")).max() < 11
    evaluated = run("evaluate", str(model), *data, "--split", "val")
    assert evaluated.exit_code == 0, evaluated.output
    assert "miou" in evaluated.output
    timed = run("bench", str(model), "--rounds", "10", "-o", str(tmp_path / "latency.json"))
    assert timed.exit_code == 0, timed.output
    (row,) = json.loads((tmp_path / "latency.json").read_text())["rows"]
    assert 0 < row["p50_ms"] <= row["p99_ms"]

    refused(run("predict", str(model), str(tmp_path / "nothing.png")), "nothing.png")
    foreign = tmp_path / "foreign.onnx"
    _without_metadata(model, foreign)
    refused(run("predict", str(foreign), photos[0]), "foreign.onnx", "taxonomy")
    broken = tmp_path / "broken.onnx"
    shutil.copy(model, broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    refused(run("evaluate", str(broken), *data), "broken.onnx")


def _without_metadata(model: Path, target: Path) -> None:
    import onnx

    graph = onnx.load(model)
    del graph.metadata_props[:]
    onnx.save(graph, target)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(run("town", "--port", str(taken.getsockname()[1])), "--port")


def test_no_carla_server_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    refused(run("record", str(tmp_path / "out"), "--carla", f"127.0.0.1:{port}"), str(port))
    assert not (tmp_path / "out").exists()


def test_an_unknown_town_lists_the_known_ones(tmp_path: Path) -> None:
    refused(run("record", str(tmp_path / "out"), "--town", "Atlantis"), "Atlantis", "Grid01")
    assert not (tmp_path / "out").exists()


def test_compare_needs_one_study(tmp_path: Path) -> None:
    refused(run("compare"), "--preset quick")
    refused(run("compare", "--preset", "slow"), "quick")
    refused(run("compare", str(tmp_path / "absent.yaml")), "absent.yaml")


def test_compare_shows_a_study_that_it_reads_back(tmp_path: Path) -> None:
    shown = run("compare", "--preset", "quick", "--show")
    assert shown.exit_code == 0
    path = tmp_path / "mine.yaml"
    path.write_text(shown.output)
    again = run("compare", str(path), "--show")
    assert again.output == shown.output


def test_debug_shows_the_traceback() -> None:
    result = run("--debug", "train", "--data", "camvid:/nowhere")
    assert result.exit_code == 1
    assert result.exception is not None
    assert "/nowhere" in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "model.onnx", "frame.png", "-o", "taken/overlays"),
        ("predict", "model.onnx", "frame.png", "--video", "taken/film.mp4"),
        ("adopt", "model.onnx", "--taxonomy", "camvid", "--mean", "0,0,0", "--std", "1,1,1", "-o", "taken/model.onnx"),
        ("export", "run", "-o", "taken/model.onnx"),
        ("bench", "model.onnx", "-o", "taken/latency.json"),
        ("compare", "--preset", "quick", "-o", "taken/study"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("taken", "model.onnx", "frame.png"):
        Path(name).write_text("not what it seems")
    Path("run").mkdir()
    refused(run(*arguments), "taken is a file, expected a folder")


def test_options_of_the_benchmark_that_would_lose_its_figures(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_text("not opened")
    refused(run("bench", str(model), "-o", str(tmp_path / "b.svg")), "the figures go to a JSON file")
    refused(run("bench", str(model), "--data", "camvid:nowhere"), "is for --metric-floor")
    refused(run("bench", str(model), "--data", "camvid:nowhere", "--metric-floor", "0.5"), "nowhere")

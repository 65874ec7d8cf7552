"""Two gloo processes, and a batch in parts, give what one process gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from roadworthy.runtime.errors import BadInput
from roadworthy.train.config import TrainConfig
from roadworthy.train.fit import fit, load_result

SCRIPT = Path(__file__).with_name("two_processes.py")
GAMBLING = "gambling(segmenter_steps=3, gambler_steps=2)"
ADAPTING = "cross-entropy + minent(weight=1) + scene-adaptation(width=4, blocks=1)"


@pytest.fixture(scope="module")
def uneven_camvid(tiny_camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames with very different numbers of labelled pixels, so that a mean of means is not the mean."""
    root = tmp_path_factory.mktemp("uneven")
    for folder in tiny_camvid.iterdir():
        (root / folder.name).mkdir()
        for index, path in enumerate(sorted(folder.iterdir())):
            image = np.array(Image.open(path))
            if folder.name == "trainannot":
                image[: 4 * index] = 11  # void
            Image.fromarray(image).save(root / folder.name / path.name)
    return root


def options(objective: str, **changes: object) -> dict[str, object]:
    # Stored statistics: a batch normalisation would otherwise see each process's part alone.
    return {"objective": objective, "batch_norm": "frozen", "tensorboard": False, **changes}


def train_in_two(data: Path, output: Path, runs: dict[str, dict[str, object]]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [*command, str(data), str(output), json.dumps(runs)]
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


def train_here(data: Path, output: Path, wanted: dict[str, object]) -> None:
    config = TrainConfig(
        data=f"camvid:{data}", model="plain", size=(32, 64), batch_size=4, learning_rate=1e-2, threads=1, workers=1,
        **{"steps": 12, **wanted},  # type: ignore[arg-type]
    )  # fmt: skip
    fit(config, output)


def assert_alike(left: Path, right: Path) -> None:
    a, b = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    one, two = load_result(left), load_result(right)
    assert two.losses == pytest.approx(one.losses, rel=1e-4)
    assert two.validation.accuracy == pytest.approx(one.validation.accuracy, abs=2e-3)
    assert two.validation.mean_max_probability == pytest.approx(one.validation.mean_max_probability, abs=1e-3)


def test_two_processes_give_what_one_gives(uneven_camvid: Path, tmp_path: Path) -> None:
    runs = {
        "pixels": options("cross-entropy", optimiser="sgd", selection=0.25, select_every=4, ema=0.5),
        "players": options(GAMBLING, accumulate=2),
        "adapting": options(ADAPTING, optimiser="sgd", target=f"camvid:{uneven_camvid}", steps=4),
    }
    train_in_two(uneven_camvid, tmp_path / "two", runs)
    for name, wanted in runs.items():
        train_here(uneven_camvid, tmp_path / "one" / name, wanted)
        assert_alike(tmp_path / "one" / name, tmp_path / "two" / name)
        assert json.loads((tmp_path / "two" / name / "metrics.json").read_text())["processes"] == 2
    random = load_file(tmp_path / "two" / "pixels" / "last.ckpt.safetensors")
    assert not torch.equal(random["random/cpu"], random["random/cpu.1"])  # dropout would differ


@pytest.mark.parametrize(
    "objective", ["focal + 0.5*wasserstein", "adversarial(segmenter_steps=3)", "el-gan(segmenter_steps=3)", GAMBLING, ADAPTING]
)
def test_a_batch_in_parts_gives_what_a_whole_one_gives(objective: str, uneven_camvid: Path, tmp_path: Path) -> None:
    for parts in (1, 2):
        target = f"camvid:{uneven_camvid}" if objective == ADAPTING else None
        wanted = options(objective, optimiser="sgd", accumulate=parts, steps=4, target=target)
        train_here(uneven_camvid, tmp_path / str(parts), wanted)
    assert_alike(tmp_path / "1", tmp_path / "2")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"accumulate": 3}, "a batch of 4 frames cannot be dealt out to 1 processes x 3 parts"),
        ({"batch_norm": "sync", "device": "cpu"}, "for CUDA GPUs only"),
        ({"precision": "16-mixed", "device": "cpu"}, "needs a CUDA GPU"),
    ],
)
def test_what_cannot_be_had_is_refused(wrong: dict[str, object], message: str, tiny_camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        train_here(tiny_camvid, tmp_path / "run", {"tensorboard": False, **wrong})
    assert not (tmp_path / "run").exists()

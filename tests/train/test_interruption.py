"""Kills, Ctrl-C and full disks: what was trained is kept, and going on gives the bits of an unbroken training."""

from __future__ import annotations

import dataclasses
import errno
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from roadworthy.runtime.errors import RoadworthyError
from roadworthy.train.checkpoint import load_training
from roadworthy.train.config import TrainConfig
from roadworthy.train.fit import fit
from roadworthy.train.loop import Trainer

GAMBLING = "gambling(segmenter_steps=3, gambler_steps=2)"


class Killed(Exception):
    """Stands for a power cut."""


def config(data: Path, **changes: object) -> TrainConfig:
    base = TrainConfig(
        data=f"camvid:{data}", model="plain", size=(32, 64), batch_size=4, steps=9, learning_rate=1e-2, checkpoint_every=4,
        threads=1, workers=1, tensorboard=False,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@contextmanager
def before_update(iteration: int, do: Callable[[], None]) -> Iterator[None]:
    """Do something before the update of number `iteration`."""
    update = Trainer._update

    def watched(self, *arguments) -> bool:  # type: ignore[no-untyped-def]
        if self.iteration == iteration:
            do()
        return update(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_update", watched)
        yield


def die() -> None:
    raise Killed


def assert_same_bits(left: Path, right: Path) -> None:
    files = sorted(path.name for path in left.glob("*.safetensors"))
    assert files == sorted(path.name for path in right.glob("*.safetensors"))
    for name in files:
        expected, found = load_file(left / name), load_file(right / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name


OPTIONS: list[dict[str, object]] = [
    {"model": "enet"},  # has dropout
    {"objective": "adversarial(segmenter_steps=2)", "steps": 6},
    {"objective": GAMBLING, "accumulate": 2, "crop": (16, 32), "workers": 3, "batch_norm": "frozen"},
    {"objective": f"{GAMBLING} + wasserstein", "ema": 0.8, "selection": 0.25, "select_every": 3, "optimiser": "sgd"},
    {"precision": "bf16-mixed", "schedule": "poly", "epochs": 4.5, "ema": 0.5, "skip_bad": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options))
def test_a_killed_training_resumes_to_the_same_bits(options: dict[str, object], tiny_camvid: Path, tmp_path: Path) -> None:
    plan = config(tiny_camvid, **options)
    unbroken = fit(plan, tmp_path / "unbroken")
    with before_update(6, die), pytest.raises(Killed):
        fit(plan, tmp_path / "broken")
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    torch.manual_seed(999)  # another process would have another random state
    resumed = fit(plan, tmp_path / "broken", resume=True)
    assert_same_bits(tmp_path / "unbroken", tmp_path / "broken")
    assert (resumed.losses, resumed.validation, resumed.selected) == (unbroken.losses, unbroken.validation, unbroken.selected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_kill_loses_no_update(number: signal.Signals, tiny_camvid: Path, tmp_path: Path) -> None:
    plan = config(tiny_camvid, checkpoint_every=1000)
    fit(plan, tmp_path / "unbroken")
    before = signal.getsignal(number)
    with before_update(5, lambda: signal.raise_signal(number)), pytest.raises(KeyboardInterrupt):
        fit(plan, tmp_path / "broken")
    assert signal.getsignal(number) is before
    assert load_training(tmp_path / "broken" / "last.ckpt.safetensors")[1]["iteration"] == 6
    fit(plan, tmp_path / "broken", resume=True)
    assert_same_bits(tmp_path / "unbroken", tmp_path / "broken")


def test_an_impatient_user_is_obeyed_at_once(tiny_camvid: Path, tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with before_update(2, twice), pytest.raises(KeyboardInterrupt):
        fit(config(tiny_camvid), tmp_path / "run")
    assert not (tmp_path / "run" / "last.ckpt.safetensors").exists()


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import roadworthy.train.checkpoint as checkpoint
from roadworthy.train.config import load_config
from roadworthy.train.fit import fit

written = []
whole = checkpoint.save_file

def half(tensors, path, metadata=None):
    whole(tensors, path, metadata)
    written.append(path)
    if len(written) == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = half
fit(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tiny_camvid: Path, tmp_path: Path) -> None:
    plan = config(tiny_camvid, model="enet", batch_size=1, steps=7, checkpoint_every=2)
    plan.save(tmp_path / "plan.yaml")
    broken = tmp_path / "broken"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path / "plan.yaml"), str(broken)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(broken.glob(".*.part*"))) == 1
    assert load_training(broken / "last.ckpt.safetensors")[1]["iteration"] == 2
    fit(plan, broken, resume=True)
    assert not list(broken.glob(".*"))
    fit(plan, tmp_path / "unbroken")
    assert_same_bits(tmp_path / "unbroken", broken)


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """Let no file grow beyond `limit_bytes`, which fails as a full disk does: in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_message_and_what_was_saved_is_kept(tiny_camvid: Path, tmp_path: Path) -> None:
    plan = config(tiny_camvid)
    fit(plan, tmp_path / "unbroken")
    with before_update(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))):  # noqa: SIM117
        with full_disk(1 << 30), pytest.raises(RoadworthyError, match=r"last\.ckpt\.safetensors: cannot be written"):
            fit(plan, tmp_path / "broken")
    assert load_training(tmp_path / "broken" / "last.ckpt.safetensors")[1]["iteration"] == 4
    assert not list((tmp_path / "broken").glob(".*"))
    fit(plan, tmp_path / "broken", resume=True)
    assert_same_bits(tmp_path / "unbroken", tmp_path / "broken")


def test_metrics_that_cannot_be_written_are_one_message(
    tiny_camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    plan = config(tiny_camvid)
    with monkeypatch.context() as patched, pytest.raises(RoadworthyError, match=r"No space left on device.*--resume"):
        patched.setattr("roadworthy.train.fit.write_text", full)
        fit(plan, tmp_path / "run")
    assert fit(plan, tmp_path / "run", resume=True).steps == 9

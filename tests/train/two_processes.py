"""What each process of `test_distributed` runs: `two_processes.py DATA OUTPUT {RUN: OPTIONS, ...}`, started by torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Plain

from roadworthy.train.config import TrainConfig
from roadworthy.train.fit import fit
from roadworthy.train.models import MODELS


def train(data: str, output: str, options: dict[str, object]) -> None:
    torch.set_num_threads(1)
    MODELS["plain"] = Plain  # type: ignore[index]
    config = TrainConfig(
        data=f"camvid:{data}", model="plain", size=(32, 64), batch_size=4, learning_rate=1e-2, threads=1, workers=1,
        **{"steps": 12, **options},  # type: ignore[arg-type]
    )  # fmt: skip
    fit(config, Path(output))


if __name__ == "__main__":
    for name, wanted in json.loads(sys.argv[3]).items():
        train(sys.argv[1], f"{sys.argv[2]}/{name}", wanted)

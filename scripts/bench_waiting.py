"""One ENet training step under the ways that OpenMP threads can wait for each other. Prints JSON.

python -m roadworthy.scripts.bench_waiting --threads 2

OpenMP reads its settings once, so every setting is measured in processes of its own, in turns; the median of all steps counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import numpy as np

from roadworthy.runtime.machine import describe

SETTINGS = {
    "spin briefly, then sleep": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "10000"},
    "always sleep": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"},
    "always spin": {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "infinity"},
}
STEPS = """
import json, sys, time
import torch
from roadworthy.train.losses import cross_entropy
from roadworthy.train.models import build_model

torch.set_num_threads(int(sys.argv[1])); torch.manual_seed(0)
model = build_model("enet", 20).to(memory_format=torch.channels_last).train()
frames = torch.randn(8, 3, 128, 256).to(memory_format=torch.channels_last)
target, optimiser, taken = torch.randint(0, 20, (8, 128, 256)), torch.optim.Adam(model.parameters()), []
for _ in range(10):
    before = time.perf_counter()
    loss = cross_entropy(model(frames).logits, target)
    optimiser.zero_grad(); loss.backward(); optimiser.step()
    taken.append(1000 * (time.perf_counter() - before))
print(json.dumps(taken[3:]))
"""


@click.command()
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="CPU threads of torch.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Processes per setting, in turns.")
def main(threads: int, rounds: int) -> None:
    """Time a step of ENet (batch 8, 256x128) for each way of waiting."""
    machine = describe()
    taken: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(rounds):
        for name, variables in SETTINGS.items():
            command = [sys.executable, "-c", STEPS, str(threads)]
            run = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
            taken[name] += json.loads(run.stdout)
    medians = {name: round(float(np.median(steps)), 1) for name, steps in taken.items()}
    click.echo(json.dumps({"step_ms": medians, "threads": threads, "batch": 8, "machine": machine.to_dict()}, indent=2))


if __name__ == "__main__":
    main()

"""Measure our losses against torch's cross-entropy, forward + backward, and print JSON.

    python -m roadworthy.scripts.bench_losses [--rounds 15] [--threads 2] [--device cuda] [--output FILE]

Two cases: the losses of one-hot targets at [4, 19, 512, 512], and those of soft targets (Sinkhorn with epsilon 0.1 and 50
iterations) at [2, 19, 256, 512]. Times are taken in interleaved rounds, and a ratio is of medians; `cpu_ratio` is the same of
the processor time of all threads, which other work on the machine disturbs less. Memory is the growth of the process's peak
resident set over one forward + backward, each loss in a fresh process (on CUDA: torch's peak of allocated memory). Under
`limits` stands what is asked of the losses, and whether it was met here.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.files import write_text
from roadworthy.runtime.taxonomy import IGNORE
from roadworthy.train.losses import focal, importance_aware, one_hot, sinkhorn_wasserstein, step_wasserstein, wasserstein

IGNORED_SHARE = 0.1  # of the pixels, as in street scenes
SMOOTHING = 0.1  # of the soft targets: mass that is spread over all classes
SAMPLING_S = 0.0005  # [s] between two looks at the resident memory
REFERENCE = "cross_entropy"


class Inputs(NamedTuple):
    """What a loss is given: logits `[B, N, H, W]`, class ids `[B, H, W]`, soft targets as logits or None, cost `[N, N]`."""

    logits: Tensor
    target: Tensor
    soft: Tensor | None
    cost: Tensor


Loss = Callable[[Inputs], Tensor]


def _soft(inputs: Inputs) -> Tensor:
    assert inputs.soft is not None
    return inputs.soft


ONE_HOT: Mapping[str, Loss] = {
    REFERENCE: lambda given: F.cross_entropy(given.logits, given.target, ignore_index=IGNORE),
    "wasserstein": lambda given: wasserstein(given.logits, given.target, given.cost),
    "focal": lambda given: focal(given.logits, given.target),
    "importance_aware": lambda given: importance_aware(given.logits, given.target, given.cost[0] + 1),
}
SOFT: Mapping[str, Loss] = {
    REFERENCE: ONE_HOT[REFERENCE],
    "sinkhorn_wasserstein": lambda given: sinkhorn_wasserstein(given.logits, _soft(given), given.cost),
    "step_wasserstein": lambda given: step_wasserstein(given.logits, _soft(given)),
}
CASES: Mapping[str, Mapping[str, Loss]] = {"one_hot": ONE_HOT, "soft": SOFT}
# What is asked: case, loss, measure (ratio to cross-entropy), limit.
LIMITS = (
    ("one_hot", "wasserstein", "time_ratio", 0.85),
    ("one_hot", "wasserstein", "memory_ratio", 0.5),
    ("soft", "sinkhorn_wasserstein", "time_ratio", 45.0),
)


def make_inputs(shape: Sequence[int], device: str, *, soft: bool, seed: int = 0) -> Inputs:
    """Return the inputs for logits of `shape` = [B, N, H, W], with ignored pixels, all from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, height, width = shape
    logits = torch.randn(tuple(shape), generator=generator).to(device).requires_grad_()
    target = torch.randint(0, classes, (batch, height, width), generator=generator)
    target[torch.rand(target.shape, generator=generator) < IGNORED_SHARE] = IGNORE
    cost = torch.rand(classes, classes, generator=generator).fill_diagonal_(0.0)
    certain = one_hot(target, classes) if soft else None  # [B, N, H, W]
    spread = None if certain is None else (1 - SMOOTHING) * certain + SMOOTHING / classes * certain.sum(1, keepdim=True)
    return Inputs(logits, target.to(device), None if spread is None else spread.to(device), cost.to(device))


def _step(loss: Loss, inputs: Inputs) -> None:
    inputs.logits.grad = None
    loss(inputs).backward()  # type: ignore[no-untyped-call]
    if inputs.logits.is_cuda:
        torch.cuda.synchronize()


def measure_times(case: str, shape: Sequence[int], rounds: int, device: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return each loss's median milliseconds by the clock and of processor time, of interleaved rounds after one to warm up."""
    inputs = make_inputs(shape, device, soft=case == "soft")
    clock: dict[str, list[float]] = {name: [] for name in CASES[case]}
    processor: dict[str, list[float]] = {name: [] for name in CASES[case]}
    for number in range(rounds + 1):
        for name, loss in CASES[case].items():
            begin, begin_processor = time.perf_counter(), time.process_time()
            _step(loss, inputs)
            if number:
                clock[name].append(1e3 * (time.perf_counter() - begin))
                processor[name].append(1e3 * (time.process_time() - begin_processor))
    medians = ({name: statistics.median(values) for name, values in times.items()} for times in (clock, processor))
    return next(medians), next(medians)


def peak_extra_mb(case: str, name: str, shape: Sequence[int], device: str, threads: int) -> float:
    """Return how far one forward + backward of loss `name` raises the memory above its inputs [MB], the gradient included."""
    torch.set_num_threads(threads)
    loss, soft = CASES[case][name], case == "soft"
    _step(loss, make_inputs((1, shape[1], 16, 16), device, soft=soft))  # load libraries before looking
    inputs = make_inputs(shape, device, soft=soft)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _step(loss, inputs)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    process = psutil.Process()
    before = peak = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(SAMPLING_S)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _step(loss, inputs)
    done.set()
    watcher.join()
    return (max(peak, process.memory_info().rss) - before) / 1e6


def bench(case: str, shape: Sequence[int], rounds: int, threads: int, device: str) -> dict[str, object]:
    """Return a case's times, memory and their ratios to cross-entropy as a JSON-able dictionary."""
    torch.set_num_threads(threads)
    clock, processor = measure_times(case, shape, rounds, device)
    fresh = multiprocessing.get_context("forkserver")  # its server imports torch once, and computes nothing
    fresh.set_forkserver_preload(["roadworthy.scripts.bench_losses"])
    memory = {}
    for name in CASES[case]:
        with fresh.Pool(1) as pool:
            memory[name] = pool.apply(peak_extra_mb, (case, name, shape, device, threads))
    return {
        "shape": list(shape),
        "median_ms": {name: round(value, 3) for name, value in clock.items()},
        "time_ratio": _ratios(clock),
        "cpu_ratio": _ratios(processor),
        "peak_extra_mb": {name: round(value, 1) for name, value in memory.items()},
        "memory_ratio": _ratios(memory),
    }


def _ratios(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value / max(1e-9, values[REFERENCE]), 4) for name, value in values.items() if name != REFERENCE}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the JSON to standard output or to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = {"type": int, "nargs": 4, "metavar": ("B", "N", "H", "W")}
    parser.add_argument("--shape", default=(4, 19, 512, 512), help="of the one-hot case", **size)  # type: ignore[arg-type]
    parser.add_argument("--soft-shape", default=(2, 19, 256, 512), help="of the soft case", **size)  # type: ignore[arg-type]
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="write the JSON here instead of to standard output")
    options = parser.parse_args(arguments)
    results = {
        case: bench(case, shape, options.rounds, options.threads, options.device)
        for case, shape in (("one_hot", options.shape), ("soft", options.soft_shape))
    }
    limits = []
    for case, loss, measure, limit in LIMITS:
        found = results[case][measure][loss]  # type: ignore[index]
        limits.append({"loss": loss, "measure": measure, "limit": limit, "found": found, "met": found <= limit})
    facts = {"threads": options.threads, "device": options.device, "torch": torch.__version__, "rounds": options.rounds}
    text = json.dumps(facts | results | {"limits": limits}, indent=2) + "\n"
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_text(options.output, text)


if __name__ == "__main__":
    main()

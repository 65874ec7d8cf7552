"""Measure the Wasserstein loss against torch's cross-entropy, forward + backward, and print JSON.

    python -m roadworthy.scripts.bench_losses [--shape 4 19 512 512] [--rounds 15] [--threads 2] [--output FILE]

Times are taken in interleaved rounds, and the ratio is of medians. Memory is the growth of the process's peak resident set
over one forward + backward, each loss in a fresh process (on CUDA: torch's peak of allocated memory).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from roadworthy.runtime.files import write_text
from roadworthy.train.losses import wasserstein

IGNORE = 255
IGNORED_SHARE = 0.1  # of the pixels, as in street scenes
SAMPLING_S = 0.0005  # [s] between two looks at the resident memory

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _torch_cross_entropy(logits: Tensor, target: Tensor, cost: Tensor) -> Tensor:  # noqa: ARG001
    return F.cross_entropy(logits, target, ignore_index=IGNORE)


LOSSES: dict[str, Loss] = {"cross_entropy": _torch_cross_entropy, "wasserstein": wasserstein}


def make_inputs(shape: Sequence[int], device: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits `shape` = [B, N, H, W], targets with ignored pixels, and a cost matrix, all from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, height, width = shape
    logits = torch.randn(tuple(shape), generator=generator).to(device).requires_grad_()
    target = torch.randint(0, classes, (batch, height, width), generator=generator)
    target[torch.rand(target.shape, generator=generator) < IGNORED_SHARE] = IGNORE
    cost = torch.rand(classes, classes, generator=generator).fill_diagonal_(0.0)
    return logits, target.to(device), cost.to(device)


def _step(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    loss(*inputs).backward()  # type: ignore[no-untyped-call]
    if inputs[0].is_cuda:
        torch.cuda.synchronize()


def measure_times(shape: Sequence[int], rounds: int, device: str) -> dict[str, list[float]]:
    """Return the milliseconds of each loss's forward + backward, in `rounds` interleaved rounds after two to warm up."""
    inputs = make_inputs(shape, device)
    times: dict[str, list[float]] = {name: [] for name in LOSSES}
    for number in range(rounds + 2):
        for name, loss in LOSSES.items():
            inputs[0].grad = None
            begin = time.perf_counter()
            _step(loss, inputs)
            if number >= 2:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def peak_extra_mb(name: str, shape: Sequence[int], device: str, threads: int) -> float:
    """Return how far one forward + backward of loss `name` raises the memory above its inputs [MB], the gradient included."""
    torch.set_num_threads(threads)
    warm = make_inputs((1, shape[1], 16, 16), device)
    _step(LOSSES[name], warm)  # load libraries before looking
    inputs = make_inputs(shape, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _step(LOSSES[name], inputs)
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
    _step(LOSSES[name], inputs)
    done.set()
    watcher.join()
    return (max(peak, process.memory_info().rss) - before) / 1e6


def bench(shape: Sequence[int], rounds: int, threads: int, device: str) -> dict[str, object]:
    """Return times, memory and their ratios as a JSON-able dictionary."""
    torch.set_num_threads(threads)
    times = measure_times(shape, rounds, device)
    fresh = multiprocessing.get_context("spawn")
    memory = {}
    for name in LOSSES:
        with fresh.Pool(1) as pool:
            memory[name] = pool.apply(peak_extra_mb, (name, shape, device, threads))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "shape": list(shape),
        "threads": threads,
        "device": device,
        "torch": torch.__version__,
        "rounds": rounds,
        "median_ms": {name: round(value, 3) for name, value in medians.items()},
        "time_ratio": round(medians["wasserstein"] / medians["cross_entropy"], 4),
        "peak_extra_mb": {name: round(value, 1) for name, value in memory.items()},
        "memory_ratio": round(memory["wasserstein"] / max(1e-9, memory["cross_entropy"]), 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the JSON to standard output or to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=4, default=(4, 19, 512, 512), metavar=("B", "N", "H", "W"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="write the JSON here instead of to standard output")
    options = parser.parse_args(arguments)
    text = json.dumps(bench(options.shape, options.rounds, options.threads, options.device), indent=2) + "\n"
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_text(options.output, text)


if __name__ == "__main__":
    main()

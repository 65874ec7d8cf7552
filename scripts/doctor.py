"""`roadworthy doctor`: what this machine has, and what each missing piece would give."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import click
import psutil
from rich.markup import escape
from rich.table import Table

from roadworthy.scripts.terminal import console


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked for, whether it is there, what was found or what it would give."""

    name: str
    present: bool
    detail: str


def package(name: str, distribution: str, gives: str, extra: str) -> Finding:
    """Look for an importable package without importing it."""
    try:
        if importlib.util.find_spec(name) is not None:
            return Finding(distribution, True, version(distribution))
    except (ImportError, PackageNotFoundError, ValueError):
        pass  # a broken or half-removed installation counts as missing, which is what the next line says
    return Finding(distribution, False, f"would give {gives}: pip install 'roadworthy[{extra}]'")


def gpu() -> Finding:
    """Ask the NVIDIA driver which GPUs there are."""
    gives = "CUDA training, TensorRT engines and GPU latency; everything else runs on the CPU"
    if shutil.which("nvidia-smi") is None:
        return Finding("NVIDIA GPU", False, f"no nvidia-smi on this machine; one would give {gives}")
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("NVIDIA GPU", False, f"nvidia-smi does not answer ({error})")
    if answer.returncode != 0:
        return Finding("NVIDIA GPU", False, f"nvidia-smi failed: {(answer.stdout + answer.stderr).strip()[:200]}")
    return Finding("NVIDIA GPU", True, "; ".join(answer.stdout.strip().splitlines()))


def torch_build() -> Finding:
    """Tell which build of torch is installed and whether it sees a GPU."""
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", False, "would give training and export from checkpoints: pip install 'roadworthy[train]'")
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    seen = f", sees {torch.cuda.device_count()} GPU(s)" if torch.cuda.is_available() else ", sees no GPU"
    return Finding("torch", True, f"{torch.__version__} ({build}{seen})")


def onnxruntime_providers() -> Finding:
    """List the execution providers of ONNX Runtime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return Finding("onnxruntime", False, "would run exported models: pip install 'roadworthy[cpu]' (or [gpu])")
    import onnxruntime

    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    return Finding("onnxruntime", True, f"{onnxruntime.__version__} ({providers})")


def carla_client() -> Finding:
    """Look for the CARLA client; only 0.9.16 speaks this protocol."""
    found = package("carla", "carla", "driving and recording, in the town and in a real CARLA", "drive")
    if found.present and found.detail != "0.9.16":
        return Finding("carla", False, f"{found.detail} is installed; this project needs 0.9.16: pip install carla==0.9.16")
    return found


def carla_server() -> Finding:
    """See whether something listens on CARLA's usual port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        listening = probe.connect_ex(("127.0.0.1", 2000)) == 0
    if listening:
        return Finding("CARLA server", True, "something listens on 127.0.0.1:2000; use it with --carla 127.0.0.1:2000")
    return Finding("CARLA server", False, "none on 127.0.0.1:2000; the embedded town is started instead, on the CPU")


def machine() -> Finding:
    """Name the processor, the usable cores and the memory."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = psutil.virtual_memory().total / 2**30
    return Finding("machine", True, f"{platform.machine()}, {cores} usable cores, {memory_gib:.0f} GiB, {platform.platform()}")


CHECKS: tuple[Callable[[], Finding], ...] = (
    machine,
    lambda: Finding("python", True, platform.python_version()),
    gpu,
    torch_build,
    onnxruntime_providers,
    lambda: package("openvino", "openvino", "the fastest CPU inference on x86", "cpu"),
    lambda: package("tensorrt", "tensorrt", "engines for NVIDIA GPUs", "gpu"),
    lambda: package("onnx", "onnx", "export to ONNX", "export"),
    carla_client,
    carla_server,
    lambda: package("numba", "numba", "the town's renderer", "drive"),
    lambda: package("stable_baselines3", "stable_baselines3", "learning to drive", "drive"),
    lambda: package("jinja2", "jinja2", "the report page", "report"),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")
def command(as_json: bool) -> None:
    """Tell what this machine has and what each missing piece would give."""
    findings = [check() for check in CHECKS]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    table = Table("", "what", "found", box=None)
    for finding in findings:
        table.add_row("[green]yes[/]" if finding.present else "[yellow]no[/]", escape(finding.name), escape(finding.detail))
    console.print(table)

"""Facts about this machine, for reports and benchmarks: a latency means nothing without them."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = (
    "roadworthy", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "torch", "onnx", "carla", "gymnasium",
    "stable-baselines3", "numba",
)  # fmt: skip
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")


@dataclass(frozen=True)
class Machine:
    """What ran a measurement."""

    cpu: str
    physical_cores: int
    logical_cores: int
    usable_cores: int  # what this process may use: affinity and container limits counted
    instruction_sets: tuple[str, ...]  # of `INSTRUCTION_SETS`
    memory_gib: float
    gpus: tuple[str, ...]
    system: str
    python: str
    versions: dict[str, str]  # of the installed ones of `PACKAGES`
    load_1min: float  # runnable processes over the last minute: above 0.5 before a benchmark, the machine is not quiet

    def to_dict(self) -> dict[str, object]:
        """Return the facts ready for JSON."""
        return asdict(self)


def describe() -> Machine:
    """Collect the facts; what cannot be found out is empty or `unknown`, never an error."""
    logical = os.cpu_count() or 1
    cpu, flags = _cpu()
    return Machine(
        cpu=cpu,
        physical_cores=psutil.cpu_count(logical=False) or logical,
        logical_cores=logical,
        usable_cores=usable_cores(),
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpus=_gpus(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions(),
        load_1min=round(psutil.getloadavg()[0], 2),
    )


def usable_cores() -> int:
    """Physical cores this process may use: affinity mask and cgroup quota respected, hyper-threads not counted twice."""
    logical = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    physical = psutil.cpu_count(logical=False) or logical
    quota = _cgroup_quota()
    return max(1, min(allowed, physical, allowed if quota is None else int(quota)))


def cuda_devices() -> int:
    """Return how many GPUs the NVIDIA driver sees; 0 without a driver. Takes a moment and needs no CUDA package."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result, of those installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cgroup_quota() -> float | None:
    """Cores that a container's CPU quota amounts to (cgroup v2), or None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _cpu() -> tuple[str, frozenset[str]]:
    """Name and feature flags of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown", frozenset()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines)) if value}
    return facts.get("model name", platform.processor() or "unknown"), frozenset(facts.get("flags", "").split())


def _gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs with memory and driver, as nvidia-smi gives them."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in answer.splitlines() if line.strip())

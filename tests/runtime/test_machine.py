"""Machine facts: complete, JSON-able, and consistent with what the system says."""

import json
import os
import shutil

import numpy as np

from roadworthy.runtime.machine import cuda_devices, describe, usable_cores


def test_facts_are_whole_and_json() -> None:
    facts = json.loads(json.dumps(describe().to_dict()))
    assert facts["logical_cores"] == os.cpu_count()
    assert 1 <= facts["usable_cores"] <= facts["logical_cores"]
    assert facts["memory_gib"] > 0
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["cpu"]


def test_an_affinity_mask_limits_the_cores() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_gpus_are_counted_as_the_driver_lists_them() -> None:
    if shutil.which("nvidia-smi") is None:
        assert cuda_devices() == 0
    else:
        assert cuda_devices() == len(describe().gpus)

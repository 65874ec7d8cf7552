"""Datasets, segmenters, losses, objectives and the training loop."""

import os

# How torch's OpenMP threads wait for each other, read when torch is first imported. By default they spin: where other work
# wants the cores too, a step then takes many times as long. Sleeping at once costs a quiet machine a third of that. A short
# spin and then sleep is as fast as spinning on a quiet machine and as good as sleeping on a busy one: a step of ENet took
# 163 ms, always sleeping 256, always spinning 162 on two quiet cores (python -m roadworthy.scripts.bench_waiting).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # of GNU's OpenMP, which torch uses on Linux

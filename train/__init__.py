"""Datasets, segmenters, losses, objectives and the training loop."""

import os

# How torch's OpenMP threads wait for each other, read when torch is first imported. By default they spin: where other work
# wants the cores too, a step then takes many times as long. Sleeping at once costs a quiet machine half its speed. A short
# spin and then sleep is the fastest on a quiet machine and as good as sleeping on a busy one (ENet, batch 8 at 256x128, two
# threads on two cores: 161 ms per step; always sleeping 270, always spinning 167; on a busy machine 755, 867 and 2081).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # of GNU's OpenMP, which torch uses on Linux

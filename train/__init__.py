"""Datasets, segmenters, losses, objectives and the training loop."""

import os

# torch's OpenMP threads wait for each other by spinning. Where other work wants the cores too, a step then takes up to
# a hundred times as long; sleeping costs little. It is read when torch is first imported, so it is set before that.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

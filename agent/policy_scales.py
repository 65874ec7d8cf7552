"""How a driving policy scales the measurement vector before its first layer."""

from __future__ import annotations

from roadworthy.agent.observation import COMMANDS

# What the measurements are divided by: speed [m/s], distance [m], damage [kN s], then the one-hot command. Speed and command
# come out larger than 1 on purpose: they are 7 numbers beside the 131,072 of two ENet latents, and decide the pedals and what
# to do at a junction. Measured on routes never seen: exchanging LEFT and RIGHT moves the steering three times as far as with a
# one-hot of 1, and the throttle's error falls by a third with speed in m/s instead of 10 m/s.
MEASUREMENT_SCALES = (1.0, 100.0, 10.0, *[0.1] * len(COMMANDS))
MEASUREMENT_CAP = 20.0  # scaled values are capped here: a route of kilometres or a wreck is no new regime

"""Which batch sizes a model takes."""

from __future__ import annotations

from typing import NamedTuple

from roadworthy.runtime.errors import BadInput

MAX_BATCH = 1024


class Batch(NamedTuple):
    """Frames per call: the fewest, the number to be fastest at, and the most."""

    least: int
    usual: int
    most: int

    def __str__(self) -> str:
        """Write it as the command line takes it."""
        return str(self.least) if self.fixed else f"{self.least}:{self.usual}:{self.most}"

    @property
    def fixed(self) -> bool:
        """Whether there is only one size."""
        return self.least == self.most


def parse_batch(text: str) -> Batch:
    """Read "1" or "1:4:16" (min:opt:max). Raises `BadInput` for anything else."""
    parts = text.split(":")
    if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
        raise BadInput(f"--batch {text!r}: expected one number, or min:opt:max such as 1:4:16")
    least, usual, most = [int(part) for part in (parts * 3 if len(parts) == 1 else parts)]
    if not 1 <= least <= usual <= most <= MAX_BATCH:
        raise BadInput(f"--batch {text!r}: expected 1 <= min <= opt <= max <= {MAX_BATCH}")
    return Batch(least, usual, most)

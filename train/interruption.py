"""Stopping between two updates: Ctrl-C or a polite kill waits until the network is whole, so that nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether someone asked to stop."""

    def __init__(self) -> None:
        self.made = False


@contextmanager
def deferred_interrupts() -> Iterator[StopRequest]:
    """Yield a request that Ctrl-C and SIGTERM set, instead of interrupting at once; asking twice interrupts at once.

    Outside the main thread, where Python delivers no signals, the request is never made.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        if request.made:
            raise KeyboardInterrupt
        request.made = True

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

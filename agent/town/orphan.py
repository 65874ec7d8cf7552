"""A process that must not outlive the one that started it."""

from __future__ import annotations

import os
import threading
import time

CHECK_S = 0.5


def end_with(owner: int) -> None:
    """End this process, whatever it is doing, soon after its parent `owner` (a process id) has ended.

    The id comes from the owner itself: who asks for its parent only after its own start may have lost it by then. A thread
    looks, since the kernel's own signal (PR_SET_PDEATHSIG) comes already when the thread ends that started the process.
    """
    threading.Thread(target=_watch, args=(owner,), name="orphan", daemon=True).start()


def _watch(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(CHECK_S)
    os._exit(1)

"""Cores that one process has to itself among all of this user's workers on this machine.

XLA's threads, and with them the order of its sums and the bits, follow the number of cores that a process may use.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO


def available() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def claim(count: int, waiting: Callable[[], None] = lambda: None, share: bool = False) -> list[IO]:
    """Restrict this process to `count` cores that no other worker holds; call it before jax computes anything.

    The claim ends with the process, or when what is returned is closed. Waits while too few are free, and calls
    `waiting` once before it does; with `share` it takes cores that others hold instead. Raises ValueError for more
    cores than there are. On a system that cannot bind processes to cores nothing is claimed.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    mine = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(mine):
        raise ValueError(f"cores must be in [1, {len(mine)}], got {count}")
    folder = Path(tempfile.gettempdir()) / f"classicnets-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    while True:
        held: dict[int, IO] = {}
        for core in mine:
            file = (folder / str(core)).open("a", encoding="utf-8")
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held[core] = file
            if core not in held:
                file.close()
            if len(held) == count:
                os.sched_setaffinity(0, held)
                return list(held.values())
        for file in held.values():
            file.close()
        if not told:
            waiting()
            told = True
        if share:
            os.sched_setaffinity(0, mine[:count])
            return []
        time.sleep(0.2)

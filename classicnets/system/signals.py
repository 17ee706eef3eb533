"""SIGTERM and SIGINT end a program with exit status 75: at once, or when what is unsaved has been saved.

Python runs its own handlers between two instructions of the main thread, and the compilation of a large network is one
instruction. So a thread reads the signals and ends the process itself, unless the main thread holds it back; what is on
disk is whole at any moment, as after a kill. A second signal always ends the process at once.
"""

import contextlib
import os
import signal
import threading

EXIT_INTERRUPTED = 75

_lock = threading.Lock()
_installed = False
_held = False
_requested = False


class Interrupted(Exception):
    """A signal asked for the end, and all is saved."""


def install() -> None:
    """From now on SIGTERM and SIGINT are handled so; called in the main thread of a program.

    Before it the interpreter starts, and a signal ends it as any other process, when nothing has begun.
    """
    global _installed
    take()
    if _installed:
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()
    _installed = True


def take() -> None:
    """Both signals come here again, as when `jax.distributed` has taken SIGTERM for its own notice of preemption."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def hold() -> None:
    """There is something to save: from now on a first signal only sets `requested`."""
    global _held
    with _lock:
        _held = True


def let_go() -> None:
    """All is saved; raises Interrupted if a signal has come meanwhile."""
    global _held
    with _lock:
        _held = False
        if _requested:
            raise Interrupted


def requested() -> bool:
    """Whether a signal has come."""
    return _requested


def _watch(read: int) -> None:
    global _requested
    while number := os.read(read, 1):
        if number[0] not in (signal.SIGTERM, signal.SIGINT):  # of any handler in Python, as torch's of SIGCHLD
            continue
        with _lock:
            if _requested or not _held:
                with contextlib.suppress(OSError):
                    os.write(2, b"classicnets: interrupted; start the same command again to resume\n")
                os._exit(EXIT_INTERRUPTED)
            _requested = True

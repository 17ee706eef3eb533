"""Images that the host prepares: read, decoded and cropped by Grain's threads, a few batches ahead.

The only file that imports Grain. Which example is read when is decided by the caller, and what is cropped of it by
(seed, step, example): an iterator has no state of its own to be saved, and the number of threads changes nothing.
"""

import atexit
import importlib.util
import weakref
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from classicnets.system.cores import available

# Batches that are ready before they are asked for.
AHEAD = 2
_open: weakref.WeakSet[Generator[np.ndarray, None, None]] = weakref.WeakSet()


def require() -> None:
    """Raise ValueError if Grain is not installed."""
    if importlib.util.find_spec("grain") is None:
        raise ValueError("a data set that streams needs Grain: pip install 'classicnets[stream]'")


def batches(
    read: Callable[..., np.ndarray], places: np.ndarray, batch: int, threads: int | None = None
) -> Generator[np.ndarray, None, None]:
    """Return what yields [batch, h, w, c] uint8 of `read(*place)`, in the order of `places` [n, k].

    batch: divides their number. threads: that read; None for one a core. To be closed, as generators are, where it is
    not read to its end.
    """
    import grain

    if len(places) % batch:
        raise ValueError(f"{batch} does not divide {len(places)} places")
    count = threads or available()
    # Grain's own defaults read 500 images ahead.
    options = grain.ReadOptions(num_threads=count, prefetch_buffer_size=max(min(batch, 64), count))
    images = grain.MapDataset.source(_Source(read, places)).to_iter_dataset(options).batch(batch)
    opened = _yielded(iter(grain.experimental.ThreadPrefetchIterDataset(images, prefetch_buffer_size=AHEAD)))
    _open.add(opened)
    return opened


def _yielded(iterator: Any) -> Generator[np.ndarray, None, None]:
    try:
        yield from iterator
    finally:
        iterator.close()


@atexit.register
def _close_all() -> None:
    """End the threads of what was left open: they complain where the interpreter ends before them."""
    for opened in list(_open):
        opened.close()


class _Source:
    """What Grain reads from: random access by position."""

    def __init__(self, read: Callable[..., np.ndarray], places: np.ndarray):
        self.read, self.places = read, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.read(*map(int, self.places[index]))

    def __repr__(self) -> str:
        return f"{len(self.places)} places"

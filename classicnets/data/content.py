"""A data set is known by its content: what its examples are decides their order, and that their digest.

The official archive, a mirror of it and TFDS so give one set, one digest, and the same bits of a run.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def key(pixels: bytes | memoryview, label: int) -> bytes:
    """SHA-256(pixels, then the label as 4 bytes, the least first): the place of an example among others."""
    state = hashlib.sha256(pixels)
    state.update(int(label).to_bytes(4, "little"))
    return state.digest()


def order(keys: Sequence[bytes]) -> np.ndarray:
    """Return the places [n] at which the examples of `keys` stand, by key; equal keys are equal examples."""
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def ordered(images: np.ndarray, labels: np.ndarray, sizes: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return images [n, h, w, c] uint8 and labels [n] int32, the splits of `sizes` each in the order of its content."""
    labels = np.ascontiguousarray(labels, "<i4")
    places, start = [], 0
    for size in sizes:
        span = range(start, start + size)
        places.append(start + order([key(np.ascontiguousarray(images[i]).data, labels[i]) for i in span]))
        start += size
    if start != len(images) or len(labels) != start:
        raise ValueError(f"splits of {start} examples in all do not fit {len(images)} images and {len(labels)} labels")
    index = np.concatenate(places)
    return images[index], labels[index]


def digest(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256(pixels of all images, then all labels) in hexadecimal, of arrays in the order of their content.

    Of the numbers alone: the bytes of a `.npy` header are NumPy's to change.
    """
    state = hashlib.sha256(np.ascontiguousarray(images).data)
    state.update(np.ascontiguousarray(labels, "<i4").data)
    return state.hexdigest()

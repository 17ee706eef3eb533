"""Prepared sets that fit memory: images of one size in `images.npy`, and `labels.npy`."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from classicnets.data import content, store

FILES = ["images.npy", "labels.npy"]


class Arrays(NamedTuple):
    """images [n, h, w, c] uint8, labels [n] int32: first the `pool` that is not for test, then the test examples."""

    images: np.ndarray
    labels: np.ndarray
    pool: int
    sha256: str


def write(folder: Path, images: np.ndarray, labels: np.ndarray, sizes: Mapping[str, int], **facts: Any) -> str:
    """Write a set, each split in the order of its content, and its manifest with `facts`; return its digest.

    sizes: of the splits, in the order in which they stand: train, perhaps validation, and test.
    """
    images, labels = content.ordered(images, labels, sizes.values())
    for name, array in zip(FILES, (images, labels), strict=True):
        np.save(folder / name, array)
    digest = content.digest(images, labels)
    own = {"store": "arrays", "shape": list(images.shape[1:]), "sizes": dict(sizes), "sha256": digest}
    store.write_manifest(folder, FILES, **facts, **own)
    return digest


def read(name: str) -> Arrays:
    """Return the arrays of a prepared set, verified once a process.

    Raise ValueError if the set is not there or if the SHA-256 of a file is not the manifest's.
    """
    facts = store.required(name)
    return _verified(store.root() / name, facts["sha256"], facts["sizes"]["test"])


@cache
def _verified(folder: Path, digest: str, test: int) -> Arrays:
    store.verify(folder.name, store.required(folder.name), FILES)
    images, labels = (np.load(folder / file, allow_pickle=False) for file in FILES)
    return Arrays(images, labels, len(images) - test, digest)

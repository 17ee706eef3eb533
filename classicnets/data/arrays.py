"""Prepared data sets on disk: two `.npy` files and a manifest in a folder that is there whole or not at all.

The folder is `$CLASSICNETS_DATA/NAME`, by default under `~/.cache/classicnets/data`.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from classicnets.system import caches

FILES = ("images.npy", "labels.npy")


class Arrays(NamedTuple):
    """images [n, h, w, c] uint8, labels [n] int32: first the `pool` that is not for test, then the test examples."""

    images: np.ndarray
    labels: np.ndarray
    pool: int
    sha256: str


def root() -> Path:
    """Return the folder in which prepared data sets are kept."""
    return Path(os.environ.get("CLASSICNETS_DATA") or caches.folder() / "data").absolute()


@contextmanager
def replacing(name: str) -> Iterator[Path]:
    """Give a scratch folder whose `new` becomes the data set when the block ends without an error.

    What a killed process left there is removed first. Raise ValueError if another process prepares the same set.
    """
    scratch = root() / f".{name}.partial"
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f".{name}.lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is preparing {name}") from None
        shutil.rmtree(scratch, ignore_errors=True)
        (scratch / "new").mkdir(parents=True)
        try:
            yield scratch
            if (root() / name).exists():
                (root() / name).rename(scratch / "old")
            (scratch / "new").rename(root() / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            read.cache_clear()


def write(folder: Path, images: np.ndarray, labels: np.ndarray, pool: int, **facts: Any) -> None:
    """Write the arrays, and a manifest with each file's SHA-256, the content's SHA-256 and `facts`."""
    files = {}
    for name, array in zip(FILES, (images, labels), strict=True):
        np.save(folder / name, array)
        files[name] = {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
    # Of the numbers alone: the bytes of a `.npy` header are NumPy's to change.
    content = hashlib.sha256(images.data)
    content.update(labels.data)
    facts |= {"sizes": {"train": pool, "test": len(images) - pool}, "sha256": content.hexdigest(), "files": files}
    (folder / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def manifest(name: str) -> dict | None:
    """Return the manifest of a prepared set, None if there is none.

    Raise ValueError if it cannot be read or if a file is absent or of another size; nothing is hashed.
    """
    path = root() / name / "manifest.json"
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        sizes = {path.with_name(file): facts["files"][file]["bytes"] for file in FILES}
    except (ValueError, KeyError, TypeError):
        raise _damaged(name, f"{path} is no manifest") from None
    for file, size in sizes.items():
        if not file.exists() or file.stat().st_size != size:
            raise _damaged(name, f"{file} is not {size} bytes long")
    return facts


@cache
def read(folder: Path) -> Arrays:
    """Return the arrays of a prepared set, verified once a process.

    Raise ValueError if the set is not there or if the SHA-256 of a file is not the manifest's.
    """
    name = folder.name
    facts = manifest(name)
    if facts is None:
        raise ValueError(f"data set {name!r} is not here yet; `classicnets data prepare {name}` fetches it")
    for file in FILES:
        if _sha256(folder / file) != facts["files"][file]["sha256"]:
            raise _damaged(name, f"the SHA-256 of {folder / file} differs")
    images, labels = (np.load(folder / file, allow_pickle=False) for file in FILES)
    return Arrays(images, labels, facts["sizes"]["train"], facts["sha256"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(name: str, what: str) -> ValueError:
    return ValueError(f"data set {name!r} is damaged: {what}; `classicnets data prepare {name}` renews it")

"""Prepared sets larger than memory: encoded images in ArrayRecord shards, and beside them an index in NumPy's files.

A record is the label (4 bytes, the least first) and the bytes of the image file. What is known of each example without
reading its shard stands in the index: labels, sizes, sums of pixels and EXIF orientations.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from classicnets.data import decoding, store

# Of the shards, whose records are read one by one: ArrayRecord compresses groups, and images are compressed already.
OPTIONS = "group_size:1,uncompressed"
# Bytes of images after which a shard ends.
SHARD_BYTES = 2**27
INDEX = ["labels.npy", "sizes.npy", "sums.npy", "orientations.npy", "pixels.npy"]


class Index(NamedTuple):
    """Of each example: label, (height, width) upright, `moments.sums`, EXIF orientation, and SHA-256 of its pixels."""

    labels: np.ndarray
    sizes: np.ndarray
    sums: np.ndarray
    orientations: np.ndarray
    pixels: np.ndarray


class Encoded:
    """Images [h, w, 3] uint8 of any sizes, decoded when they are read, from any thread.

    `sizes` [n, 2] and `sums` [n, 9] are known without reading.
    """

    def __init__(self, folder: Path, index: Index, files: Sequence[str], sha256: str, places: np.ndarray | None = None):
        self.folder, self.index, self.files, self.sha256 = folder, index, tuple(files), sha256
        self.places = np.arange(len(index.labels)) if places is None else places
        self.sizes, self.sums = index.sizes[self.places], index.sums[self.places]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[n, h, w, 3], of images of one size; of several sizes, that of the first."""
        height, width = map(int, self.sizes[0])
        return len(self), height, width, 3

    def __getitem__(self, i: int) -> np.ndarray:
        """Return the pixels of one image; raise ValueError, with the command that cures it, if its record is damaged.

        ArrayRecord's checksums tell a changed bit of a shard.
        """
        orientation = int(self.index.orientations[self.places[i]])
        try:
            pixels = decoding.decode(self.encoded(i), orientation)
        except ValueError as error:
            raise store.damaged(self.folder.name, f"example {self.places[i]}: {error}") from error
        if pixels.shape != (*self.sizes[i], 3):
            raise store.damaged(self.folder.name, f"example {self.places[i]} has another size than its index says")
        return pixels

    def encoded(self, i: int) -> bytes:
        """Return the bytes of the image file."""
        place = int(self.places[i])
        try:
            record = _reader(self.folder, self.files, self.sha256)[place]
        except Exception as error:  # ArrayRecord raises what Riegeli says, as RuntimeError or ValueError
            raise ValueError(f"its record cannot be read ({' '.join(str(error).split())[:200]})") from None
        if int.from_bytes(record[:4], "little") != self.index.labels[place]:
            raise ValueError("its record has another label than its index says")
        return record[4:]

    def selected(self, positions: np.ndarray) -> "Encoded":
        """Return the images at `positions` of these, in that order."""
        return Encoded(self.folder, self.index, self.files, self.sha256, self.places[positions])


class Shards(NamedTuple):
    """Images, labels [n] int32, how many of the first are the `pool` that is not for test, and the set's SHA-256."""

    images: Encoded
    labels: np.ndarray
    pool: int
    sha256: str


def digest(class_names: Sequence[str], sizes: Mapping[str, int], labels: np.ndarray, encoded: Sequence[bytes]) -> str:
    """SHA-256 of the class names, the splits' sizes, the labels, and each file's SHA-256 `encoded`, in their order."""
    state = hashlib.sha256(json.dumps([list(class_names), dict(sizes)], ensure_ascii=False).encode())
    state.update(np.ascontiguousarray(labels, "<i4").data)
    for own in encoded:
        state.update(own)
    return state.hexdigest()


def write(
    folder: Path,
    index: Index,
    encoded: Callable[[int], bytes],
    lengths: Sequence[int],
    sizes: Mapping[str, int],
    sha256: str,
    progress: Callable[[int], None],
    **facts: Any,
) -> None:
    """Write a set of `encoded(i)`, whose `lengths` in bytes are known; a shard that is there whole is kept.

    progress: told how many examples are written.
    """
    for name, array in zip(INDEX, index, strict=True):
        np.save(folder / name, array)
    files, spans = [], list(_spans(lengths))
    for number, (first, last) in enumerate(spans):
        files.append(f"images-{number:05d}-of-{len(spans):05d}.array_record")
        if not (folder / files[-1]).exists():
            _write_shard(folder / files[-1], first, last, index.labels, encoded, progress)
        progress(last)
    for stale in folder.glob("images-*"):
        if stale.name not in files:
            stale.unlink()
    shape = list(index.sizes[0]) if (index.sizes == index.sizes[0]).all() else [None, None]
    own = {"store": "shards", "shape": [*(s if s is None else int(s) for s in shape), 3]}
    store.write_manifest(folder, [*INDEX, *files], **facts, **own, sizes=dict(sizes), sha256=sha256)


def read(name: str) -> Shards:
    """Return a prepared set; its index is verified once a process, and its shards when they are read.

    Raise ValueError if the set is not there, if a file has another size than the manifest says, or if the SHA-256 of a
    file of the index is not the manifest's.
    """
    facts = store.required(name)
    index = _index(store.root() / name, facts["sha256"])
    files = sorted(file for file in facts["files"] if re.fullmatch(r"images-\d+-of-\d+\.array_record", file))
    images = Encoded(store.root() / name, index, files, facts["sha256"])
    return Shards(images, index.labels, len(index.labels) - facts["sizes"]["test"], facts["sha256"])


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of each shard."""
    first, total = 0, 0
    for i, length in enumerate(lengths):
        total += length
        if total >= SHARD_BYTES or i == len(lengths) - 1:
            yield first, i + 1
            first, total = i + 1, 0


def _write_shard(
    path: Path,
    first: int,
    last: int,
    labels: np.ndarray,
    encoded: Callable[[int], bytes],
    progress: Callable[[int], None],
) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    partial = path.with_suffix(".partial")
    try:
        with closing(ArrayRecordWriter(str(partial), OPTIONS)) as writer:
            for i in range(first, last):
                writer.write(int(labels[i]).to_bytes(4, "little") + encoded(i))
                if i % 100 == 0:
                    progress(i)
    except RuntimeError as error:  # what it raises for a full disk, at the latest when it is closed
        raise OSError(str(error)) from error
    partial.rename(path)


@cache
def _index(folder: Path, digest: str) -> Index:
    store.verify(folder.name, store.required(folder.name), INDEX)
    return Index(*(np.load(folder / name, allow_pickle=False) for name in INDEX))


_opening = threading.Lock()


def _reader(folder: Path, files: tuple[str, ...], sha256: str) -> Any:
    """Return the reader of all records, one a process for each content that a folder has had."""
    with _opening:
        return _opened(folder, files, sha256)


@cache
def _opened(folder: Path, files: tuple[str, ...], _: str) -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource([str(folder / name) for name in files])

"""A prepared set is made of image files: each is looked at once, has its split and place, and is then written.

A killed preparation goes on: what was seen of a file is kept while that is unchanged, and so is a shard that is whole.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from classicnets.data import arrays, decoding, moments, shards
from classicnets.data.content import key as content_key
from classicnets.data.content import order
from classicnets.data.prepare.folder import File, Listing
from classicnets.system.cores import available

Store = Literal["arrays", "shards"]
Progress = Callable[[int, int], None]
# A split that a source lacks holds the images whose SHA-256, as a share of all, lies in these bounds.
SHARES = {"test": (0.0, 0.1), "validation": (0.1, 0.2)}
# Bytes of pixels up to which images of one size are kept as an array, which lives on the device.
ARRAYS_BYTES = 2**30
# Names of damaged files that a sentence lists.
SHOWN = 5
# Images that are looked at between two writings of the log.
AT_ONCE = 256


class Seen(NamedTuple):
    """What was seen of an image: SHA-256 of its file and of its pixels, its size upright, sums and orientation.

    place: `content.key` of pixels and label. error: why it is no image, "" for one that is.
    """

    encoded: str
    pixels: str
    place: str
    height: int
    width: int
    sums: tuple[int, ...]
    orientation: int
    error: str


def build(
    name: str,
    listed: Listing,
    source: str,
    scratch: Path,
    progress: Progress,
    kept_as: Store | None = None,
    skip_damaged: bool = False,
) -> list[str]:
    """Write the set of `listed` images below `scratch`/new, and return sentences on what became of them.

    kept_as: "arrays" of pixels or "shards" of encoded images; None for arrays of images of one size that fit
    ARRAYS_BYTES. Raise ValueError for damaged images that are not to be skipped, and where none is left for training.
    """
    seen = list(_seen(listed.files, scratch / "seen.jsonl", progress))
    damaged = [(file, one.error) for file, one in zip(listed.files, seen, strict=True) if one.error]
    if damaged and not skip_damaged:
        first = "; ".join(f"{_place(file)}: {error}" for file, error in damaged[:SHOWN])
        more = "" if len(damaged) <= SHOWN else f"; and {len(damaged) - SHOWN:,} more"
        raise ValueError(
            f"{len(damaged):,} of {len(seen):,} images are damaged ({first}{more}); --skip-damaged leaves them out"
        )
    whole = [(file, one) for file, one in zip(listed.files, seen, strict=True) if not one.error]
    missing = set(listed.made) - {file.split for file in listed.files}
    splits = _split(whole, missing, name)
    ordered = [pair for pairs in splits.values() for pair in _ordered(pairs)]
    sizes = {split: len(pairs) for split, pairs in splits.items()}
    trained = Counter(file.label for file, _ in splits["train"])
    notes = [*listed.notes, *_notes(listed, whole, damaged, sizes, missing, trained)]
    shape = {(one.height, one.width) for _, one in ordered}
    bytes_of_all = sum(one.height * one.width * 3 for _, one in ordered)
    if kept_as == "arrays" and len(shape) > 1:
        raise ValueError(f"store must be shards for {name}, whose images have {len(shape)} sizes, got arrays")
    as_arrays = kept_as == "arrays" or (kept_as is None and len(shape) == 1 and bytes_of_all <= ARRAYS_BYTES)
    facts = {"class_names": listed.class_names, "source": source, "notes": notes}
    (_write_arrays if as_arrays else _write_shards)(scratch, ordered, sizes, facts, progress)
    return notes


def _seen(files: Sequence[File], log: Path, progress: Progress) -> Iterator[Seen]:
    """Yield what is seen of each file, of those that an earlier, killed preparation looked at from its log."""
    known = dict(_logged(log))
    with log.open("a", encoding="utf-8") as lines, ThreadPoolExecutor(available()) as threads:
        for first in range(0, len(files), AT_ONCE):
            part = files[first : first + AT_ONCE]
            for key, one in threads.map(partial(_look, known=known), part):
                if key not in known:
                    lines.write(json.dumps([key, *one], ensure_ascii=False) + "\n")
                yield one
            lines.flush()
            progress(min(first + AT_ONCE, len(files)), 2 * len(files))


def _look(file: File, known: dict[str, Seen]) -> tuple[str, Seen]:
    key = json.dumps([str(file.path), file.start, file.length, file.label, file.path.stat().st_mtime_ns])
    if key in known:
        return key, known[key]
    data = _read(file)
    encoded = hashlib.sha256(data).hexdigest()
    try:
        pixels, orientation = decoding.by_pillow(data)
    except ValueError as error:
        return key, Seen(encoded, "", "", 0, 0, (), 1, str(error))
    content = np.ascontiguousarray(pixels).data
    held, place = hashlib.sha256(content).hexdigest(), content_key(content, file.label).hex()
    total = tuple(map(int, moments.sums(pixels)))
    height, width = pixels.shape[:2]
    return key, Seen(encoded, held, place, height, width, total, orientation, "")


def _logged(log: Path) -> Iterator[tuple[str, Seen]]:
    """Yield (key, what was seen) of each whole line."""
    if log.exists():
        for text in log.read_text(encoding="utf-8").splitlines():
            try:
                key, *values = json.loads(text)
                yield key, Seen(*values)
            except (ValueError, TypeError):  # the line at which a kill came
                continue


def _read(file: File) -> bytes:
    with file.path.open("rb") as content:
        content.seek(file.start)
        data = content.read(file.length)
    if len(data) != file.length:
        raise ValueError(f"{file.path} has become shorter while it was read")
    return data


def _split(pairs: Sequence[tuple[File, Seen]], missing: set[str], name: str) -> dict[str, list[tuple[File, Seen]]]:
    """Return {"train", "validation", "test": images}; those that are `missing` are made by the hash of the pixels.

    So adding images or classes moves none, and equal images fall on one side.
    """
    splits: dict[str, list[tuple[File, Seen]]] = {"train": [], "validation": [], "test": []}
    for file, one in pairs:
        share = int(one.pixels[:16], 16) / 2**64
        made = [split for split in missing if SHARES[split][0] <= share < SHARES[split][1]]
        splits[made[0] if made and file.split in (None, "train") else file.split or "train"].append((file, one))
    if not splits["train"]:
        raise ValueError(f"{name} has no training image: none of {len(pairs):,} was left by its SHA-256")
    return {split: of_split for split, of_split in splits.items() if of_split or split != "validation"}


def _ordered(pairs: Sequence[tuple[File, Seen]]) -> list[tuple[File, Seen]]:
    """Return images in the order of their content, equal ones in that of their files'."""
    return [pairs[i] for i in order([bytes.fromhex(one.place + one.encoded) for _, one in pairs])]


def _notes(
    listed: Listing,
    whole: list[tuple[File, Seen]],
    damaged: list[tuple[File, str]],
    sizes: dict[str, int],
    made: set[str],
    trained: Counter[int],
) -> list[str]:
    notes = []
    if damaged:
        notes.append(f"left out: {len(damaged):,} damaged images, {', '.join(_place(f) for f, _ in damaged[:SHOWN])}")
    turned = sum(one.orientation != 1 for _, one in whole)
    if turned:
        notes.append(f"turned upright by their EXIF: {turned:,} images")
    for split, (low, high) in SHARES.items():
        if split in made:
            pool = sum(file.split in (None, "train") for file, _ in whole)
            notes.append(
                f"{split}: {sizes.get(split, 0):,} of {pool:,} images, those whose SHA-256 lies between {low:.0%} and "
                f"{high:.0%} of all"
            )
    rare = [listed.class_names[i] for i in range(len(listed.class_names)) if not trained[i]]
    if rare:
        notes.append(f"no image for training: class {', '.join(map(repr, rare))}")
    return notes


def _write_arrays(
    scratch: Path, ordered: list[tuple[File, Seen]], sizes: dict[str, int], facts: dict[str, Any], progress: Progress
) -> None:
    for path in (scratch / "new").iterdir():  # what a killed preparation left
        path.unlink()
    one = ordered[0][1]
    images = np.empty((len(ordered), one.height, one.width, 3), np.uint8)
    for i, (file, _) in enumerate(ordered):
        images[i] = decoding.by_pillow(_same(file, ordered[i][1]))[0]
        if i % 100 == 99 or i == len(ordered) - 1:
            progress(len(ordered) + i + 1, 2 * len(ordered))
    arrays.write(scratch / "new", images, np.array([file.label for file, _ in ordered]), sizes, **facts)


def _write_shards(
    scratch: Path, ordered: list[tuple[File, Seen]], sizes: dict[str, int], facts: dict[str, Any], progress: Progress
) -> None:
    count = len(ordered)
    index = shards.Index(
        np.array([file.label for file, _ in ordered], np.int32),
        np.array([(one.height, one.width) for _, one in ordered], np.int32),
        np.array([one.sums for _, one in ordered], np.int64),
        np.array([one.orientation for _, one in ordered], np.int8),
        np.array([list(bytes.fromhex(one.pixels)) for _, one in ordered], np.uint8),
    )
    encoded = [bytes.fromhex(one.encoded) for _, one in ordered]
    sha256 = shards.digest(facts["class_names"], sizes, index.labels, encoded)
    plan = scratch / "plan"
    if not plan.exists() or plan.read_text() != sha256:  # what a killed preparation wrote was of other images
        for path in (scratch / "new").iterdir():
            path.unlink()
        plan.write_text(sha256)
    shards.write(
        scratch / "new",
        index,
        lambda i: _same(*ordered[i]),
        [file.length for file, _ in ordered],
        sizes,
        sha256,
        lambda done: progress(count + done, 2 * count),
        **facts,
    )


def _same(file: File, one: Seen) -> bytes:
    """Return the bytes of an image file; raise ValueError if they are not those that were looked at."""
    data = _read(file)
    if hashlib.sha256(data).hexdigest() != one.encoded:
        raise ValueError(f"{_place(file)} has changed while the set was prepared; start again")
    return data


def _place(file: File) -> str:
    return "/".join(file.path.parts[-3:]) + (f" at byte {file.start:,}" if file.start else "")

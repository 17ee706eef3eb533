"""CIFAR-10 and CIFAR-100 from their archives, packed or not, or from class folders of PNGs: no TensorFlow, no network.

Read are `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz`, their CIFAR-100 twins (Krizhevsky 2009), and any archive or
folder with `{train,test}/CLASS/*.png` in it.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from classicnets.data import arrays, content, store
from classicnets.data.prepare import archives
from classicnets.data.sources import DATASETS
from classicnets.system import pickles

NAMES = ("cifar10", "cifar100")
SHAPE = (32, 32, 3)
PIXELS = 32 * 32 * 3
Progress = Callable[[int, int], None]


class Batches(NamedTuple):
    """The files of one form of a set: {split: names}, of which the first tells that a folder holds them."""

    train: tuple[str, ...]
    test: tuple[str, ...]


PYTHON = {
    "cifar10": Batches(tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)),
    "cifar100": Batches(("train",), ("test",)),
}
BINARY = {
    "cifar10": Batches(tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",)),
    "cifar100": Batches(("train.bin",), ("test.bin",)),
}
# A record of the binary form: labels, the last of which is the class (CIFAR-100: superclass, class), then the pixels.
LABELS = {"cifar10": 1, "cifar100": 2}


def prepare(name: str, source: Path, progress: Progress | None = None) -> Path:
    """Prepare "cifar10" or "cifar100" from `source`, an archive or a folder, and return the folder of the set.

    Raise ValueError, in one sentence, for a source that cannot be read or does not hold that set: its number of images
    and, where its digest is known, every pixel and label are checked. Nothing is left behind.
    """
    if not source.exists():
        raise ValueError(f"source must be an archive or a folder, and there is none at {str(source)!r}")
    if source.is_file() and not archives.is_archive(source):
        raise ValueError(f"source must be a folder or end in {', '.join(archives.SUFFIXES)}, got {str(source)!r}")
    try:
        with store.replacing(name) as scratch:
            folder = source
            if source.is_file():
                folder = scratch / "unpacked"
                archives.unpack(source, folder)
            images, labels, sizes, form = _read(name, folder, source, progress)
            _require(name, source, images, labels, sizes, form)
            row = DATASETS[name]
            arrays.write(scratch / "new", images, labels, sizes, class_names=row.class_names, source=row.source)
    except OSError as error:
        raise ValueError(f"preparing {name} failed: {' '.join(str(error).split())}") from error
    return store.root() / name


def _read(
    name: str, folder: Path, source: Path, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, dict[str, int], str]:
    """Return (images, labels, sizes of the splits, form) of whichever form lies in `folder` or one or two below it."""
    parts = None
    for below in (folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))):
        if (below / PYTHON[name].train[0]).is_file():
            parts, form = {split: _python(name, below, split) for split in ("train", "test")}, "pickles"
        elif (below / BINARY[name].train[0]).is_file():
            parts, form = {split: _binary(name, below, split) for split in ("train", "test")}, "binary records"
        elif all((below / split).is_dir() for split in ("train", "test")):
            files = {split: _class_files(name, below / split) for split in ("train", "test")}
            kinds = {path.suffix.lower() for of_split in files.values() for path, _ in of_split}
            form = "JPEG images" if kinds & {".jpg", ".jpeg"} else "images"
            parts = _folders(files, progress)
        else:
            continue
        sizes = {split: len(labels) for split, (_, labels) in parts.items()}
        images, labels = (np.concatenate([part[i] for part in parts.values()]) for i in (0, 1))
        return images, labels, sizes, form
    raise ValueError(
        f"{source} holds no {name}: neither {PYTHON[name].train[0]}, nor {BINARY[name].train[0]}, nor train/CLASS/"
    )


def _require(name: str, source: Path, images: np.ndarray, labels: np.ndarray, sizes: dict[str, int], form: str) -> None:
    """Raise ValueError, with the reason, if the arrays are not the set of that name."""
    row = DATASETS[name]
    expected = {"train": row.pool, "test": row.test}
    if sizes != expected:
        counts = [f"{of['train']:,} training and {of['test']:,} test images" for of in (expected, sizes)]
        raise ValueError(f"{name} has {counts[0]}, and {source} holds {counts[1]}")
    if row.sha256 is None:
        return
    digest = content.digest(*content.ordered(images, labels, sizes.values()))
    if digest != row.sha256:
        why = "; JPEG is lossy, and its copies have other pixels" if form == "JPEG images" else ""
        raise ValueError(
            f"{source} is not {name}: the SHA-256 of its {form} is {digest[:12]}..., and {name}'s is "
            f"{row.sha256[:12]}...{why}"
        )


def _python(name: str, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the pickled batches, each {"data": [n, 3072] uint8, "labels" or "fine_labels": [n]}."""
    key, parts = "labels" if name == "cifar10" else "fine_labels", []
    for path in _files(folder, getattr(PYTHON[name], split)):
        try:
            batch = pickles.load(path.read_bytes())
        except Exception as error:
            raise ValueError(f"{path.name} of {name} is no pickle of arrays: {error}") from error
        if isinstance(batch, dict):  # written by Python 3, its keys can be bytes
            batch = {k.decode("latin1") if isinstance(k, bytes) else k: value for k, value in batch.items()}
        data, labels = (batch.get("data"), batch.get(key)) if isinstance(batch, dict) else (None, None)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,):
            raise ValueError(f"{path.name} of {name} holds no data of n x {PIXELS} bytes")
        parts.append((_images(data), _labels(name, path, labels, len(data))))
    return _joined(parts)


def _binary(name: str, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the records, each of LABELS bytes and 3,072 of pixels, plane by plane."""
    parts, count = [], LABELS[name]
    for path in _files(folder, getattr(BINARY[name], split)):
        data = np.fromfile(path, np.uint8)
        if not len(data) or len(data) % (count + PIXELS):
            raise ValueError(f"{path.name} of {name} has {len(data):,} bytes, no multiple of {count + PIXELS:,}")
        records = data.reshape(-1, count + PIXELS)
        parts.append((_images(records[:, count:]), _labels(name, path, records[:, count - 1], len(records))))
    return _joined(parts)


def _folders(
    files: dict[str, list[tuple[Path, int]]], progress: Progress | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{split: images and labels} of image files of 32 x 32 pixels."""
    total, done, parts = sum(map(len, files.values())), 0, {}
    for split, of_split in files.items():
        images = np.empty((len(of_split), *SHAPE), np.uint8)
        for i, (path, _) in enumerate(of_split):
            images[i] = _pixels(path)
            done += 1
            if progress and (done % 500 == 0 or done == total):
                progress(done, total)
        parts[split] = images, np.array([label for _, label in of_split], np.int32)
    return parts


def _class_files(name: str, folder: Path) -> list[tuple[Path, int]]:
    """The (file, label) of class folders, whose names are the set's own or the labels' numbers."""
    names = DATASETS[name].class_names
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    numbers = {str(i): i for i in range(len(names))}
    labels = {word: i for i, word in enumerate(names)}
    known = labels if any(path.name in labels for path in classes) else numbers
    for path in classes:
        if path.name not in known:
            raise ValueError(f"{folder.name}/{path.name} is no class of {name}, whose classes are {', '.join(names)}")
    return [
        (file, known[path.name])
        for path in classes
        for file in sorted(path.iterdir())
        if file.is_file() and not file.name.startswith(".")
    ]


def _pixels(path: Path) -> np.ndarray:
    place = "/".join(path.parts[-3:])
    try:
        with Image.open(path) as image:
            if image.size != (32, 32):
                raise ValueError(f"{place} has {image.width} x {image.height} pixels, CIFAR's images 32 x 32")
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{place} is no whole image: {error}") from error


def _images(planes: np.ndarray) -> np.ndarray:
    """[n, 3072], red, green and blue planes -> [n, 32, 32, 3]."""
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _labels(name: str, path: Path, labels: object, count: int) -> np.ndarray:
    values, classes = np.asarray(labels), len(DATASETS[name].class_names)
    if values.shape != (count,) or values.dtype.kind not in "iu":
        held = f"{len(values):,}" if values.ndim == 1 and values.dtype.kind in "iu" else "no"
        raise ValueError(f"{path.name} of {name} holds {count:,} images and {held} labels")
    if count and not 0 <= values.min() <= values.max() < classes:
        raise ValueError(f"{path.name} of {name} has a label outside 0 to {classes - 1}")
    return values.astype(np.int32)


def _files(folder: Path, names: Iterable[str]) -> list[Path]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder.name} lacks {', '.join(missing)}")
    return [folder / name for name in names]


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])

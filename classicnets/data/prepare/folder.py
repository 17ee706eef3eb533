"""Anyone's images in class folders: which files are examples, of which split and class, and what is no image.

[SOURCE/] train/CLASS/*.jpg  val/CLASS/*.jpg  test/CLASS/*.jpg      the last two may be missing
[SOURCE/] CLASS/*.jpg                                              no splits
[SOURCE/] train/CLASS/images/*.JPEG  val/val_annotations.txt        Tiny ImageNet, and any nesting below a class
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from classicnets.system.words import nearest

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
# What a folder of a split is called.
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
SPLITS |= {"test": "test", "testing": "test"}


class File(NamedTuple):
    """An image file, or `length` bytes of an archive from `start` on; split: None where the source has none."""

    path: Path
    start: int
    length: int
    split: str | None
    label: int


@dataclass
class Listing:
    """The examples of a source, the names of its classes in the order of labels, and what was left out, as sentences.

    skipped: {"hidden", "foreign": how many files}. made: splits that are made of training images where missing.
    """

    files: list[File]
    class_names: tuple[str, ...]
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    made: tuple[str, ...] = ("test", "validation")


def listing(source: Path) -> Listing:
    """Return what is in class folders below `source`.

    Raise ValueError, in one sentence, for a folder that holds no two classes, a class in one split that training lacks,
    or an annotation of a file that is not there.
    """
    if not source.is_dir():
        raise ValueError(f"source must be a folder or an archive of class folders, and {str(source)!r} is none")
    found = Listing([], ())
    root = _top(source)
    splits = _splits(root)
    parts: dict[str | None, dict[str, list[Path]]] = (
        {split: _of_split(folder, found) for split, folder in splits.items()} if splits else {None: _in(root, found)}
    )
    training = parts.get("train", parts.get(None, {}))
    names = sorted(name for name, files in training.items() if files)
    for split, classes in parts.items():
        for name, files in classes.items():
            if files and name not in names:
                raise ValueError(f"class {name!r} of {split} is none of the training images{nearest(name, names)}")
        empty = sorted(name for name, files in classes.items() if not files)
        if empty:
            where = f" of {split}" if split else ""
            found.notes.append(f"left out, with no image: class {', '.join(map(repr, empty))}{where}")
    if len(names) < 2:
        held = f"the one class {names[0]!r}" if names else "no image in class folders"
        raise ValueError(
            f"{source} must hold two classes of images at least, CLASS/*.jpg or train/CLASS/*.jpg; it holds {held}"
        )
    found.class_names = tuple(names)
    found.files = [
        File(path, 0, path.stat().st_size, split, names.index(name))
        for split, classes in parts.items()
        for name, paths in classes.items()
        for path in paths
    ]
    found.notes += [f"skipped: {count:,} {kind} files" for kind, count in sorted(found.skipped.items()) if count]
    return found


def _top(source: Path) -> Path:
    """Return the folder that holds classes or splits: `source`, or the one folder in it, as archives have it."""
    inner = _folders(source)
    if len(inner) == 1 and inner[0].name.lower() not in SPLITS and _folders(inner[0]) and not _has_images(source):
        return inner[0]
    return source


def _splits(root: Path) -> dict[str, Path]:
    """Return {split: folder} where every folder with images in it is one of a split, {} where they are classes."""
    folders = [folder for folder in _folders(root) if any(True for _ in _images(folder, Counter()))]
    if not any(SPLITS.get(folder.name.lower()) == "train" for folder in folders):
        return {}
    if not all(folder.name.lower() in SPLITS for folder in folders):
        return {}
    if not any(_folders(folder) for folder in folders):
        return {}  # classes that are called so
    splits: dict[str, Path] = {}
    for folder in folders:
        split = SPLITS[folder.name.lower()]
        if split in splits:
            raise ValueError(f"{root} holds {splits[split].name} and {folder.name}, both of which are {split}")
        splits[split] = folder
    return splits


def _of_split(folder: Path, found: Listing) -> dict[str, list[Path]]:
    """Return {class: files} of a split, by its class folders or by a list beside its images."""
    lists = sorted(path for path in folder.glob("*annotations*.txt") if path.is_file())
    if lists:
        return _annotated(folder, lists[0])
    classes = _folders(folder)
    if [inner.name for inner in classes] == ["images"] or not classes:
        count = sum(1 for _ in _images(folder, Counter()))
        found.notes.append(f"left out: {count:,} images of {folder.name}/, which are in no class folder")
        return {}
    return _in(folder, found)


def _in(folder: Path, found: Listing) -> dict[str, list[Path]]:
    """Return {class: files} of the class folders in `folder`; files beside them are counted as skipped."""
    found.skipped.update(
        "hidden" if path.name.startswith(".") else "foreign" for path in folder.iterdir() if path.is_file()
    )
    classes: dict[str, list[Path]] = {}
    for inner in _folders(folder):
        name = unicodedata.normalize("NFC", inner.name)
        if name in classes:
            raise ValueError(f"{folder} holds two folders for the class {name!r}, in two spellings of Unicode")
        classes[name] = list(_images(inner, found.skipped))
    return classes


def _annotated(folder: Path, path: Path) -> dict[str, list[Path]]:
    """Return {class: files} of a list whose lines are FILE, CLASS and whatever follows, with tabs or spaces between."""
    classes: dict[str, list[Path]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = text.split("\t") if "\t" in text else text.split()
        if not words:
            continue
        if len(words) < 2:
            raise ValueError(f"line {number} of {path} must be FILE CLASS, got {text!r}")
        places = [folder / words[0], folder / "images" / words[0]]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise ValueError(f"line {number} of {path} names {words[0]!r}, which is not there")
        classes.setdefault(unicodedata.normalize("NFC", words[1]), []).append(file)
    return classes


def _images(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Yield the image files below a folder, in order; count the others."""
    for place, folders, files in os.walk(folder, followlinks=True):
        hidden = [name for name in folders if _is_hidden(name)]
        skipped["hidden"] += sum(len(names) for name in hidden for _, _, names in os.walk(Path(place, name)))
        folders[:] = sorted(set(folders) - set(hidden))
        for name in sorted(files):
            if name.startswith("."):
                skipped["hidden"] += 1
            elif not name.lower().endswith(SUFFIXES):
                skipped["foreign"] += 1
            else:
                yield Path(place, name)


def _folders(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir() if path.is_file())

"""A first look at a prepared set: sizes, classes, balance, equal images in two splits, and a contact sheet."""

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image

from classicnets.data import crops
from classicnets.data.dataset import DataConfig, Dataset, load
from classicnets.data.shards import Encoded
from classicnets.data.store import manifest

# Of the contact sheet: pixels of an image's side, images of a class, and classes at most.
SIDE, COLUMNS, ROWS = 64, 8, 32


def survey(name: str) -> dict[str, Any]:
    """Return what is in the prepared set `name`; raise ValueError if it is not here.

    {"name", "sha256", "store", "sizes": {split: examples}, "sides": {"height", "width": [least, median, most]},
    "classes": {class: {split: examples}}, "imbalance": most examples of a class over fewest, in training, "duplicates":
    {"train, test": images whose pixels stand in both}, "notes": what preparing it said}.
    """
    dataset = load(DataConfig(name))
    facts = (manifest(name) if name != "digits" else None) or {}
    labels = {split: dataset.labels[start : start + size] for split, (start, size) in _spans(dataset).items()}
    counts = {split: np.bincount(of_split, minlength=dataset.classes) for split, of_split in labels.items()}
    held = counts["train"]
    sides = _sides(dataset)
    return {
        "name": name,
        "sha256": dataset.sha256,
        "store": facts.get("store", "bundled"),
        "sizes": dataset.sizes,
        "sides": {
            side: [int(of.min()), int(np.median(of)), int(of.max())]
            for side, of in zip(("height", "width"), sides.T, strict=True)
        },
        "classes": {
            word: {split: int(of_split[i]) for split, of_split in counts.items()}
            for i, word in enumerate(dataset.class_names)
        },
        "imbalance": float(held.max() / held.min()) if held.min() else None,
        "duplicates": _duplicates(dataset),
        "notes": facts.get("notes", []),
    }


def contact_sheet(name: str) -> bytes:
    """Return a PNG: a row a class, of at most 32 classes, with the central squares of its first 8 training images."""
    dataset = load(DataConfig(name))
    start, size = dataset.span("train")
    labels = dataset.labels[start : start + size]
    rows = []
    for label in range(min(dataset.classes, ROWS)):
        tiles = [_tile(dataset.images[start + int(i)]) for i in np.flatnonzero(labels == label)[:COLUMNS]]
        tiles += [np.full((SIDE, SIDE, 3), 255, np.uint8)] * (COLUMNS - len(tiles))
        rows.append(np.concatenate(tiles, 1))
    sheet = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(sheet, "PNG")
    return sheet.getvalue()


def _tile(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    if image.max() <= 16:  # UCI's digits have 17 grey levels
        image = image * np.uint8(15)
    pixels = crops.resized(image, crops.central_box(height, width, SIDE, SIDE), SIDE, SIDE)
    return np.repeat(pixels, 3, -1) if channels == 1 else pixels


def _spans(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {split: dataset.span(split) for split, size in dataset.sizes.items() if size}


def _sides(dataset: Dataset) -> np.ndarray:
    """[n, 2]: (height, width) of each image."""
    images = dataset.images
    return images.sizes if isinstance(images, Encoded) else np.array([images.shape[1:3]])


def _duplicates(dataset: Dataset) -> dict[str, int]:
    """{"train, test": images of the first split whose pixels stand in the second too} of each two splits."""
    if isinstance(dataset.images, Encoded):
        pixels = [held.tobytes() for held in dataset.images.index.pixels[dataset.images.places]]
    else:
        pixels = [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in dataset.images]
    spans = list(_spans(dataset).items())
    sets = {split: pixels[start : start + size] for split, (start, size) in spans}
    names = list(sets)
    return {
        f"{one}, {other}": sum(held in there for held in sets[one])
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        for there in [set(sets[other])]
    }

"""Image files by name, folder by folder: which there are, which can be read, and why not."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from classicnets.data.decoding import by_pillow

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


class Read(NamedTuple):
    """An image [h, w, 3] uint8, turned upright, or None and the reason."""

    path: Path
    image: np.ndarray | None
    reason: str = ""


def listed(words: Sequence[str]) -> list[Path]:
    """Return the image files that words name: a file as it is, of a folder all below it in the order of their names.

    Files in a folder count by their suffix, hidden ones do not. Raise ValueError for what is not there, and a folder
    without images.
    """
    paths = []
    for word in words:
        path = Path(word).expanduser()
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            below = [p for p in below if not any(part.startswith(".") for part in p.relative_to(path).parts)]
            if not below:
                raise ValueError(f"there are no images in {word}")
            paths += below
        elif path.is_file():
            paths.append(path)
        else:
            raise ValueError(f"there is no image {word}")
    return paths


def read(paths: Sequence[Path]) -> Iterator[Read]:
    """Yield each image, or why it cannot be read."""
    for path in paths:
        try:
            yield Read(path, by_pillow(path.read_bytes())[0])
        except (ValueError, OSError) as error:
            yield Read(path, None, str(error))

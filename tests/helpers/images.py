"""Image files of many kinds, and folders of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Return [height, width, 3] uint8 that JPEG codes well: a smooth ramp, other for each seed."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, form, **options)
    return file.getvalue()


def written(path: Path, image: np.ndarray | Image.Image | bytes, **options) -> Path:
    """Write an image file, or bytes, whose form is that of the suffix; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    forms = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP"}
    data = image if isinstance(image, bytes) else encoded(image, forms[path.suffix.lower()], **options)
    path.write_bytes(data)
    return path


def class_folders(
    root: Path, classes: int = 2, each: int = 6, size: tuple[int, int] | None = None, seed: int = 0
) -> Path:
    """Write root/CLASS/N.jpg of several sizes, or N.png of one `size`."""
    for label in range(classes):
        for i in range(each):
            number = 1000 * seed + label * each + i
            if size is None:
                image, name = picture(number, 20 + number % 7, 24 + number % 5), f"{i}.jpg"
            else:
                image, name = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8), f"{i}.png"
            written(root / f"class {label}" / name, image)
    return root

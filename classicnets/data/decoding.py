"""Encoded images become pixels, the same ones whichever reader of JPEG is installed."""

import io
import re
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

# Mode of a 16-bit grey image, by byte order; Pillow's own conversion would clip its values to 255.
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
# EXIF orientation -> how the image is turned upright (Image.Transpose).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112


def decode(data: bytes, orientation: int = 1) -> np.ndarray:
    """Return the pixels [h, w, 3] uint8 of an image file; orientation: what its EXIF says, 1 for upright.

    By simplejpeg where it is installed, at its defaults, whose pixels are Pillow's; by Pillow what is no JPEG of grey
    or YCbCr, and whatever simplejpeg refuses. Grey becomes three equal channels, of 16 bits the upper 8 are kept, alpha
    is left out, and of several frames the first counts. Raise ValueError for what is no whole image.
    """
    pixels = _by_simplejpeg(data) if data[:2] == b"\xff\xd8" and orientation not in TURNS else None
    return by_pillow(data)[0] if pixels is None else pixels


def by_pillow(data: bytes) -> tuple[np.ndarray, int]:
    """Return (pixels [h, w, 3] uint8 turned upright, EXIF orientation); raise ValueError for no whole image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            orientation = _orientation(image)
            return _rgb(image.transpose(TURNS[orientation]) if orientation in TURNS else image), orientation
    except ValueError:
        raise
    except Exception as error:  # Pillow's readers raise what they come across: OSError, SyntaxError, struct.error, ...
        reason = re.sub(r" <_io\.BytesIO[^>]*>", "", " ".join(str(error).split()))
        raise ValueError(f"no whole image ({reason or type(error).__name__})") from None


def _orientation(image: Image.Image) -> int:
    """Return what an image's EXIF says of its orientation, 1 where it says nothing that can be read."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever Pillow's reader comes across in a damaged one; the pixels are whole
        return 1
    return orientation if orientation in TURNS else 1


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode in DEEP:
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, -1)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}), which have no fixed range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _by_simplejpeg(data: bytes) -> np.ndarray | None:
    """Return the pixels, None where Pillow is to read them."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    try:
        if simplejpeg.decode_jpeg_header(data)[2] not in ("Gray", "YCbCr"):
            return None
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        return None


@cache
def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg

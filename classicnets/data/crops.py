"""Which part of an image the network sees, in training and in evaluation, and how it is brought to the network's size.

A part is cropped before it is resized (bilinearly, with antialiasing), so that no pixel outside of it is computed.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Crop = Literal["shift", "scale", "area"]
# Szegedy et al. 2015, section 6: the area's share, and the aspect ratio, width over height.
AREA, ASPECT, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


class Box(NamedTuple):
    """Part of an image, in its own pixels."""

    left: float
    top: float
    right: float
    bottom: float


def uniform(seed: int, step: int, example: int, count: int) -> np.ndarray:
    """Return `count` numbers in [0, 1), those of (seed, step, example) alone: Philox's bits, on every platform."""
    raw = np.random.Philox(key=[(seed << 32) | step, example]).random_raw(count)
    return (raw >> np.uint64(11)) * 2.0**-53


def scaled_box(height: int, width: int, side: int, short: int, at: tuple[float, float]) -> Box:
    """Return the `side` x `side` crop of the image whose shorter side is brought to `short` pixels.

    at: the crop's corner, down and across, as a share of the free places, in [0, 1).
    """
    tall, wide = scaled_size(height, width, short)
    top, left = (math.floor(share * (free - side + 1)) for share, free in zip(at, (tall, wide), strict=True))
    return Box(left * width / wide, top * height / tall, (left + side) * width / wide, (top + side) * height / tall)


def scaled_size(height: int, width: int, short: int) -> tuple[int, int]:
    """Return (height, width) with the shorter side of `short` pixels and the aspect kept, rounded down."""
    return (short, short * width // height) if height <= width else (short * height // width, short)


def central_box(height: int, width: int, side: int, short: int) -> Box:
    """Return the central `side` x `side` crop of the image whose shorter side is brought to `short` pixels."""
    tall, wide = scaled_size(height, width, short)
    top, left = (tall - side) // 2, (wide - side) // 2
    return Box(left * width / wide, top * height / tall, (left + side) * width / wide, (top + side) * height / tall)


def area_box(height: int, width: int, random: np.ndarray) -> Box:
    """Return a crop of 8 to 100 % of the area with an aspect of 3/4 to 4/3 (Szegedy et al. 2015, section 6).

    random: `4 * TRIES` numbers in [0, 1). The aspect is uniform in its logarithm. After ten tries that do not fit in
    the image, the largest central part of an allowed aspect is taken.
    """
    low, high = (math.log(value) for value in ASPECT)
    for share, aspect, down, across in random.reshape(TRIES, 4).tolist():
        area, ratio = height * width * (AREA[0] + share * (AREA[1] - AREA[0])), math.exp(low + aspect * (high - low))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 1 <= wide <= width and 1 <= tall <= height:
            top, left = math.floor(down * (height - tall + 1)), math.floor(across * (width - wide + 1))
            return Box(left, top, left + wide, top + tall)
    wide, tall = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    top, left = (height - tall) // 2, (width - wide) // 2
    return Box(left, top, left + wide, top + tall)


def training_box(crop: Crop, height: int, width: int, side: int, scales: tuple[int, int], random: np.ndarray) -> Box:
    """Return the part that training sees. scales: least and greatest short side of crop "scale"; random as drawn."""
    if crop == "area":
        return area_box(height, width, random)
    short = scales[0] + math.floor(random[0] * (scales[1] - scales[0] + 1))
    return scaled_box(height, width, side, short, (random[1], random[2]))


def resized(image: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    """Return [height, width, c] uint8: the part `box` of an image [h, w, c] uint8, resized."""
    if all(float(edge).is_integer() for edge in box):
        left, top, right, bottom = map(int, box)
        image = image[top:bottom, left:right]
        if image.shape[:2] == (height, width):
            return image
        box = Box(0, 0, right - left, bottom - top)
    grey = image.shape[-1] == 1
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if grey else image))
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return pixels[..., None] if grey else pixels

"""Moments of training images: sums of whole numbers, and so exact, in whatever order and parts they are taken."""

import numpy as np

from classicnets.data.shards import Encoded

# Pixels that are summed at once: their products, in float64, stay far below 2**53.
PIXELS = 2**20


def sums(image: np.ndarray) -> np.ndarray:
    """Return [c + c (c + 1) / 2] int64 of pixels [..., c] uint8: each channel's sum, then that of each two's product.

    The products are those of channels (0, 0), (0, 1), ..., (1, 1), ...: the upper triangle, row by row.
    """
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)
    rows, columns = np.triu_indices(image.shape[-1])
    total = np.zeros(image.shape[-1] + len(rows), np.int64)
    for first in range(0, len(pixels), PIXELS):
        part = pixels[first : first + PIXELS]
        total += np.r_[part.sum(0), (part.T @ part)[rows, columns]].astype(np.int64)
    return total


def normalisation(images: np.ndarray | Encoded, count: int, normalise: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean, standard deviation) of the first `count` images [n, h, w, c] uint8, as float32.

    normalise: "channel" for a mean [1, 1, 1, c] over all pixels, "pixel" for one of each pixel [1, h, w, c]; the
    deviation is each channel's, [1, 1, 1, c].
    """
    total, pixels = _total(images, count)
    channels = _channels(len(total))
    mean = np.array([int(value) / pixels for value in total[:channels]])
    diagonal = [int(total[channels + row * channels - row * (row - 1) // 2]) for row in range(channels)]
    std = np.sqrt(np.array([value / pixels for value in diagonal]) - mean**2) + 1e-8
    if normalise == "pixel":
        mean = _pixel_mean(images, count)
    return mean.astype(np.float32).reshape(1, *mean.shape[:-1] or (1, 1), -1), std.astype(np.float32)[None, None, None]


def colour_axes(images: np.ndarray | Encoded, count: int) -> np.ndarray:
    """Return [3, 3] float32: the principal components of RGB over all pixels, a column each, times their deviation.

    Krizhevsky et al. 2012, section 4.1: p_i sqrt(lambda_i), in units of 0 to 255. Of each, whose sign is free, the
    greatest component is positive.
    """
    total, pixels = _total(images, count)
    mean = np.array([int(value) / pixels for value in total[:3]])
    products = np.zeros((3, 3))
    products[np.triu_indices(3)] = [int(value) / pixels for value in total[3:]]
    products = np.triu(products) + np.triu(products, 1).T
    variances, axes = np.linalg.eigh(products - np.outer(mean, mean))
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(3)])
    return (axes * np.sqrt(variances.clip(0))).astype(np.float32)


def _total(images: np.ndarray | Encoded, count: int) -> tuple[np.ndarray, int]:
    """Return (`sums` of the first `count` images, how many pixels they have)."""
    if isinstance(images, Encoded):
        return images.sums[:count].sum(0), int(images.sizes[:count].astype(np.int64).prod(1).sum())
    step = max(1, PIXELS // images[0, ..., 0].size)
    parts = [sums(images[first : min(first + step, count)]) for first in range(0, count, step)]
    return np.sum(parts, 0), images[:count, ..., 0].size


def _pixel_mean(images: np.ndarray | Encoded, count: int) -> np.ndarray:
    """[h, w, c] float64 of images of one size."""
    total = np.zeros(images[0].shape, np.int64)
    for first in range(0, count, 1024):
        last = min(first + 1024, count)
        if isinstance(images, Encoded):
            for i in range(first, last):
                total += images[i]
        else:
            total += images[first:last].sum(0, dtype=np.int64)
    return total / count


def _channels(length: int) -> int:
    return {2: 1, 5: 2, 9: 3, 14: 4}[length]

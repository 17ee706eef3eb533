"""The IDX files of mnist and fashion_mnist."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

# Debian's package dataset-fashion-mnist.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
DATASETS = ("fashion_mnist", "mnist")


def split(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """images [n, 28, 28] and labels [n], both uint8; ValueError in one sentence if the two files do not hold that."""
    images = _array(folder / f"{prefix}-images-idx3-ubyte.gz", 3)
    labels = _array(folder / f"{prefix}-labels-idx1-ubyte.gz", 1)
    if images.shape != (len(labels), 28, 28) or not len(labels):
        raise ValueError(f"{folder}/{prefix}-*: {len(labels)} labels do not fit images of shape {images.shape}")
    if labels.max() > 9:
        raise ValueError(f"{folder}/{prefix}-labels-idx1-ubyte.gz has a label {labels.max()}, more than 9")
    return images, labels


def _array(path: Path, rank: int) -> np.ndarray:
    """The unsigned bytes of a gzipped IDX file: 0, 0, 8, rank, then `rank` big-endian sizes, then the data."""
    try:
        with gzip.open(path) as file:
            header = file.read(4 + 4 * rank)
            if header[:4] != bytes([0, 0, 8, rank]) or len(header) < 4 + 4 * rank:
                raise ValueError(f"{path} is no IDX file of rank {rank}: it begins with {header[:4].hex(' ')}")
            shape = struct.unpack(f">{rank}I", header[4:])
            size = math.prod(shape)
            if size > 2**27:
                raise ValueError(f"{path} claims shape {shape}, more than 128 MiB")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if len(data) != size:
        raise ValueError(f"{path} claims shape {shape} and holds {'more' if len(data) > size else len(data)} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)

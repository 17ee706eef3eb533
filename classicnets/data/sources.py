"""Data sets by name, as uint8 arrays with a fixed train, validation and test split."""

import difflib
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np


@dataclass(frozen=True)
class DataConfig:
    """Which examples a run sees: `train_size` keeps the first of the training split, None all of them."""

    dataset: str = "digits"
    train_size: int | None = None
    augment: bool = True


@dataclass(frozen=True)
class Dataset:
    """images [n, h, w, c] uint8 and labels [n] int32: training, then validation, then test examples."""

    images: np.ndarray
    labels: np.ndarray
    sizes: dict[str, int]
    classes: int
    crop_padding: int
    flip: bool
    sha256: str

    def span(self, split: str) -> tuple[int, int]:
        """(start, size) of "train", "validation" or "test"."""
        starts = np.cumsum([0, *self.sizes.values()])
        return int(starts[list(self.sizes).index(split)]), self.sizes[split]


DIGITS_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


def digits() -> Dataset:
    """UCI optical recognition of handwritten digits, its test file: 1,797 images of 8x8, grey 0 to 16.

    Alpaydin & Kaynak 1998, https://doi.org/10.24432/C50P49, CC BY 4.0, in the row format of scikit-learn's
    copy (64 pixels, label). The order of the examples is by SHA-256 of their row number; the first 1,408
    (11 batches of 128) are for training, then 129 for validation and 260 for test. Crops are padded by 1.
    """
    packed = (resources.files("classicnets.data") / "digits.csv.gz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != DIGITS_SHA256:
        raise ValueError("the package's digits.csv.gz is damaged: its SHA-256 differs; install classicnets again")
    rows = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float64).astype(np.uint8)
    rows = rows[sorted(range(len(rows)), key=lambda i: hashlib.sha256(str(i).encode()).digest())]
    return Dataset(
        images=rows[:, :64].reshape(-1, 8, 8, 1),
        labels=rows[:, 64].astype(np.int32),
        sizes={"train": 1408, "validation": 129, "test": 260},
        classes=10,
        crop_padding=1,
        flip=False,
        sha256=DIGITS_SHA256,
    )


DATASETS: dict[str, Callable[[], Dataset]] = {"digits": cache(digits)}


def check(config: DataConfig) -> None:
    """Raises ValueError, in one sentence, if `config` names no data set or no possible subset."""
    if config.dataset not in DATASETS:
        match = difflib.get_close_matches(config.dataset, DATASETS, n=1) or sorted(DATASETS)
        raise ValueError(f"unknown data set {config.dataset!r}; choose {' or '.join(match)}")
    if config.train_size is not None and config.train_size < 1:
        raise ValueError(f"train_size must be at least 1, got {config.train_size}")


def load(config: DataConfig) -> Dataset:
    """The data set of `config`, its training split cut to `train_size`."""
    check(config)
    dataset = DATASETS[config.dataset]()
    if config.train_size is None:
        return dataset
    whole = dataset.sizes["train"]
    if config.train_size > whole:
        raise ValueError(f"train_size {config.train_size} is more than the {whole} training images of {config.dataset}")
    keep = np.r_[0 : config.train_size, whole : len(dataset.images)]
    return Dataset(
        images=dataset.images[keep],
        labels=dataset.labels[keep],
        sizes={**dataset.sizes, "train": config.train_size},
        classes=dataset.classes,
        crop_padding=dataset.crop_padding,
        flip=dataset.flip,
        sha256=dataset.sha256,
    )

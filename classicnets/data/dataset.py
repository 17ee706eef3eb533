"""Data sets by name, as uint8 arrays with a fixed train, validation and test split."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

import numpy as np

from classicnets.data import store
from classicnets.system import fields
from classicnets.system.words import nearest


@dataclass(frozen=True)
class DataConfig:
    """Which examples a run sees, and how.

    The validation split is the last `validation_size` of the examples that are not for test: None for the
    set's default, 0 to train on all of them. `train_size` keeps the first of the training split, None all.
    normalise: "channel" takes off the mean and divides by the standard deviation of each channel; "pixel"
    takes off the mean of each pixel, as He et al. 2015 do, and divides by the channel's standard deviation.
    image_size: side of the images that the network sees, resized bilinearly after augmentation; None for the set's own.
    """

    dataset: str = "digits"
    train_size: int | None = None
    validation_size: int | None = None
    augment: bool = True
    normalise: Literal["channel", "pixel"] = "channel"
    image_size: int | None = None

    def __post_init__(self):
        fields.conform(self)

    def check(self):
        """Raises ValueError, in one sentence, for a bad field, no such data set or no possible subset of it."""
        fields.check(self)
        require_known(self.dataset)
        _split(self, DATASETS[self.dataset].pool)
        if self.image_size is not None and not 1 <= self.image_size <= 4096:
            raise ValueError(f"image_size must be in [1, 4096], got {self.image_size}")


@dataclass(frozen=True)
class Dataset:
    """images [n, h, w, c] uint8 and labels [n] int32: training, then validation, then test examples.

    sha256 is of the whole set's content, whatever subset this is.
    """

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


@dataclass(frozen=True)
class Source:
    """One row of the table: `pool` examples that are not for test, the last `validation` of them for validation."""

    shape: tuple[int, int, int]
    classes: int
    pool: int
    validation: int
    test: int
    crop_padding: int
    flip: bool
    source: str


# Padding by 4 and flips: He et al. 2015, section 4.2, as is CIFAR's split into 45,000 and 5,000. Digits and house
# numbers are not flipped: a mirrored 2 is no digit.
DATASETS: dict[str, Source] = {
    # shape, classes, pool, validation, test, crop_padding, flip
    "cifar10": Source((32, 32, 3), 10, 50_000, 5_000, 10_000, 4, True, "Krizhevsky 2009, cs.toronto.edu/~kriz/cifar"),
    "cifar100": Source((32, 32, 3), 100, 50_000, 5_000, 10_000, 4, True, "Krizhevsky 2009, cs.toronto.edu/~kriz/cifar"),
    "digits": Source((8, 8, 1), 10, 1_537, 129, 260, 1, False, "Alpaydin & Kaynak 1998, doi.org/10.24432/C50P49"),
    "fashion_mnist": Source(
        (28, 28, 1), 10, 60_000, 5_000, 10_000, 4, True, "Xiao et al. 2017, arxiv.org/abs/1708.07747"
    ),
    "mnist": Source((28, 28, 1), 10, 60_000, 5_000, 10_000, 4, False, "LeCun et al. 1998, yann.lecun.com/exdb/mnist"),
    "svhn_cropped": Source(
        (32, 32, 3), 10, 73_257, 5_000, 26_032, 4, False, "Netzer et al. 2011, ufldl.stanford.edu/housenumbers"
    ),
}
DIGITS_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


@cache
def digits() -> store.Arrays:
    """UCI optical recognition of handwritten digits, its test file: 1,797 images of 8x8, grey 0 to 16.

    Alpaydin & Kaynak 1998, https://doi.org/10.24432/C50P49, CC BY 4.0, in the row format of scikit-learn's
    copy (64 pixels, label). The order of the examples is by SHA-256 of their row number; by default the first
    1,408 (11 batches of 128) are for training, then 129 for validation and 260 for test.
    """
    packed = (resources.files("classicnets.data") / "digits.csv.gz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != DIGITS_SHA256:
        raise ValueError("the package's digits.csv.gz is damaged: its SHA-256 differs; install classicnets again")
    rows = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float64).astype(np.uint8)
    rows = rows[sorted(range(len(rows)), key=lambda i: hashlib.sha256(str(i).encode()).digest())]
    images, labels = rows[:, :64].reshape(-1, 8, 8, 1), rows[:, 64].astype(np.int32)
    return store.Arrays(images, labels, DATASETS["digits"].pool, DIGITS_SHA256)


def require_known(name: str) -> None:
    """Raises ValueError with the nearest name if there is no data set `name`."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{nearest(str(name), DATASETS)}")


def check(config: DataConfig) -> None:
    """Raises ValueError, in one sentence, if `config` names no data set or no possible subset."""
    config.check()


def load(config: DataConfig) -> Dataset:
    """The data set of `config`; ValueError, in one sentence, if it is not prepared, damaged or has no such subset."""
    config.check()
    return _subset(config, _arrays(config.dataset).sha256)


def sizes(config: DataConfig) -> dict[str, int]:
    """Return the number of training, validation and test examples of `config`; nothing is copied."""
    config.check()
    images, _, pool, _ = _arrays(config.dataset)
    train, validation = _split(config, pool)
    return {"train": train, "validation": validation, "test": len(images) - pool}


def _arrays(name: str) -> store.Arrays:
    return digits() if name == "digits" else store.read(store.root() / name)


@lru_cache(maxsize=2)
def _subset(config: DataConfig, sha256: str) -> Dataset:
    """Return the data set of `config`, kept as long as its content is the same."""
    source, (images, labels, pool, _) = DATASETS[config.dataset], _arrays(config.dataset)
    train, validation = _split(config, pool)
    if train + validation < pool:
        keep = np.r_[0:train, pool - validation : len(images)]
        images, labels = images[keep], labels[keep]
    return Dataset(images, labels, sizes(config), source.classes, source.crop_padding, source.flip, sha256)


def listing() -> list[dict]:
    """A row a data set, for people and `--json`: its state (bundled, prepared, missing, damaged), shape and sizes.

    Nothing is hashed: "damaged" means a file that is gone, of another size, or no manifest.
    """
    rows = []
    for name, source in DATASETS.items():
        pool, test, state = source.pool, source.test, "bundled"
        if name != "digits":
            try:
                facts = store.manifest(name)
                state = "prepared" if facts else "missing"
                pool, test = facts["sizes"].values() if facts else (pool, test)
            except ValueError:
                state = "damaged"
        validation = min(source.validation, pool - 1)
        rows.append(
            {
                "name": name,
                "state": state,
                "shape": list(source.shape),
                "classes": source.classes,
                "train": pool - validation,
                "validation": validation,
                "test": test,
                "crop_padding": source.crop_padding,
                "flip": source.flip,
                "source": source.source,
                "command": f"classicnets data prepare {name}" if state in ("missing", "damaged") else None,
            }
        )
    return rows


def _split(config: DataConfig, pool: int) -> tuple[int, int]:
    """(training, validation) sizes out of `pool` examples; ValueError if there are no such."""
    validation = config.validation_size
    if validation is None:
        validation = DATASETS[config.dataset].validation
    if not 0 <= validation < pool:
        raise ValueError(f"validation_size must be in [0, {pool - 1}] for {config.dataset}, got {validation}")
    train = pool - validation if config.train_size is None else config.train_size
    if not 1 <= train <= pool - validation:
        raise ValueError(f"train_size must be in [1, {pool - validation}] for {config.dataset}, got {train}")
    return train, validation

"""Data sets by name, as uint8 arrays with a fixed train, validation and test split."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from classicnets.data import arrays, digits
from classicnets.system import fields
from classicnets.system.words import nearest


@dataclass(frozen=True)
class DataConfig:
    """Which examples a run sees, and how."""

    dataset: str = "digits"
    """Name of the data set, one of those that `classicnets data list` shows."""
    train_size: int | None = None
    """Number of examples to train on, the first of the training split; none for all of them."""
    validation_size: int | None = None
    """Number of examples held out for validation, the last of those that are not for test; 0 to train on all of them,
    none for the data set's own number."""
    augment: bool = True
    """Whether images are shifted, by up to 4 pixels where they have 28 or 32, and mirrored where the data set allows
    it, as in He et al. 2015, section 4.2."""
    normalise: Literal["channel", "pixel"] = "channel"
    """Which mean is taken off before dividing by each channel's standard deviation: the channel's, or that of each
    pixel (He et al. 2015, section 4.2)."""
    image_size: int | None = None
    """Side in pixels of the images that the network sees, resized bilinearly after augmentation; none for the data
    set's own."""

    def __post_init__(self):
        fields.conform(self)

    def check(self):
        """Raise ValueError, in one sentence, for a bad field, no such data set or no possible subset of it."""
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
        """Return (start, size) of "train", "validation" or "test"."""
        starts = np.cumsum([0, *self.sizes.values()])
        return int(starts[list(self.sizes).index(split)]), self.sizes[split]


@dataclass(frozen=True)
class Source:
    """One row of the table: `pool` examples that are not for test, the last `validation` of them for validation."""

    shape: tuple[int, int, int]
    pool: int
    test: int
    source: str
    classes: int = 10
    validation: int = 5_000
    crop_padding: int = 4
    flip: bool = False


# Padding by 4 and flips: He et al. 2015, section 4.2, as is CIFAR's split into 45,000 and 5,000. Digits and house
# numbers are not flipped: a mirrored 2 is no digit.
KRIZHEVSKY = "Krizhevsky 2009, cs.toronto.edu/~kriz/cifar"
DATASETS: dict[str, Source] = {
    "cifar10": Source(shape=(32, 32, 3), pool=50_000, test=10_000, flip=True, source=KRIZHEVSKY),
    "cifar100": Source(shape=(32, 32, 3), classes=100, pool=50_000, test=10_000, flip=True, source=KRIZHEVSKY),
    "digits": Source(
        shape=(8, 8, 1),
        pool=digits.POOL,
        validation=129,
        test=260,
        crop_padding=1,
        source="Alpaydin & Kaynak 1998, doi.org/10.24432/C50P49",
    ),
    "fashion_mnist": Source(
        shape=(28, 28, 1), pool=60_000, test=10_000, flip=True, source="Xiao et al. 2017, arxiv.org/abs/1708.07747"
    ),
    "mnist": Source(shape=(28, 28, 1), pool=60_000, test=10_000, source="LeCun et al. 1998, yann.lecun.com/exdb/mnist"),
    "svhn_cropped": Source(
        shape=(32, 32, 3), pool=73_257, test=26_032, source="Netzer et al. 2011, ufldl.stanford.edu/housenumbers"
    ),
}


def require_known(name: str) -> None:
    """Raise ValueError with the nearest name if there is no data set `name`."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{nearest(str(name), DATASETS)}")


def load(config: DataConfig) -> Dataset:
    """Return the data set of `config`; raise ValueError if it is not prepared, damaged or has no such subset."""
    config.check()
    return _subset(config, _arrays(config.dataset).sha256)


def sizes(config: DataConfig) -> dict[str, int]:
    """Return the number of training, validation and test examples of `config`; nothing is copied."""
    config.check()
    images, _, pool, _ = _arrays(config.dataset)
    train, validation = _split(config, pool)
    return {"train": train, "validation": validation, "test": len(images) - pool}


def _arrays(name: str) -> arrays.Arrays:
    return digits.read() if name == "digits" else arrays.read(arrays.root() / name)


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
    """Return a row a data set: its state (bundled, prepared, missing, damaged), shape and sizes.

    Nothing is hashed: "damaged" means a file that is gone, of another size, or no manifest.
    """
    rows = []
    for name, source in DATASETS.items():
        pool, test, state = source.pool, source.test, "bundled"
        if name != "digits":
            try:
                facts = arrays.manifest(name)
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
    """Return (training, validation) sizes out of `pool` examples; raise ValueError if there are no such."""
    validation = config.validation_size
    if validation is None:
        validation = DATASETS[config.dataset].validation
    if not 0 <= validation < pool:
        raise ValueError(f"validation_size must be in [0, {pool - 1}] for {config.dataset}, got {validation}")
    train = pool - validation if config.train_size is None else config.train_size
    if not 1 <= train <= pool - validation:
        raise ValueError(f"train_size must be in [1, {pool - validation}] for {config.dataset}, got {train}")
    return train, validation

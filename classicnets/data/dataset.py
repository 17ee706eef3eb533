"""Data sets by name, with a fixed train, validation and test split."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from classicnets.data import arrays, digits, store
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
        _split(self, source_of(self.dataset).pool)
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
    class_names: tuple[str, ...]
    crop_padding: int
    flip: bool
    sha256: str

    def span(self, split: str) -> tuple[int, int]:
        """Return (start, size) of "train", "validation" or "test"."""
        starts = np.cumsum([0, *self.sizes.values()])
        return int(starts[list(self.sizes).index(split)]), self.sizes[split]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[h, w, c] of its images."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels


@dataclass(frozen=True)
class Source:
    """What is known of a set before it is read: `pool` examples that are not for test, `validation` the last of them.

    sha256: of its content, None where no copy of it has been seen whose origin is sure.
    """

    shape: tuple[int, int, int]
    pool: int
    test: int
    source: str
    class_names: tuple[str, ...] = tuple("0123456789")
    validation: int = 5_000
    crop_padding: int = 4
    flip: bool = False
    sha256: str | None = None


# Padding by 4 and flips: He et al. 2015, section 4.2, as is CIFAR's split into 45,000 and 5,000. Digits and house
# numbers are not flipped: a mirrored 2 is no digit.
KRIZHEVSKY = "Krizhevsky 2009, cs.toronto.edu/~kriz/cifar"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm"""
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
DATASETS: dict[str, Source] = {
    "cifar10": Source(
        shape=(32, 32, 3),
        class_names=tuple(CIFAR10.split()),
        pool=50_000,
        test=10_000,
        flip=True,
        source=KRIZHEVSKY,
        sha256="3cf8c2a9526cfabc4017700dacc4d6c0e55661eb545b91a1fe2a4c10670f2a24",
    ),
    "cifar100": Source(
        shape=(32, 32, 3),
        class_names=tuple(CIFAR100.split()),
        pool=50_000,
        test=10_000,
        flip=True,
        source=KRIZHEVSKY,
    ),
    "digits": Source(
        shape=(8, 8, 1),
        pool=digits.POOL,
        validation=129,
        test=260,
        crop_padding=1,
        source="Alpaydin & Kaynak 1998, doi.org/10.24432/C50P49",
        sha256=digits.SHA256,
    ),
    "fashion_mnist": Source(
        shape=(28, 28, 1),
        class_names=tuple(FASHION.split(",")),
        pool=60_000,
        test=10_000,
        flip=True,
        source="Xiao et al. 2017, arxiv.org/abs/1708.07747",
        sha256="db65a23d2587cdfeb6766b625be8679206a6e5b4bcccd7d5b24d2b7be3577272",
    ),
    "mnist": Source(shape=(28, 28, 1), pool=60_000, test=10_000, source="LeCun et al. 1998, yann.lecun.com/exdb/mnist"),
    "svhn_cropped": Source(
        shape=(32, 32, 3), pool=73_257, test=26_032, source="Netzer et al. 2011, ufldl.stanford.edu/housenumbers"
    ),
}


def require_known(name: str) -> None:
    """Raise ValueError with the nearest name if no data set of the table is called `name`."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{nearest(str(name), DATASETS)}")


def source_of(name: str) -> Source:
    """Return what is known of a data set: the table's row, or of anyone's prepared images what their manifest says.

    Raise ValueError, with the nearest name, if there is no data set `name`.
    """
    if name in DATASETS:
        return DATASETS[name]
    facts = store.manifest(name) if name in store.prepared() else None
    if facts is None:
        raise ValueError(f"unknown data set {name!r}{nearest(str(name), [*DATASETS, *store.prepared()])}")
    sizes, shape = facts["sizes"], facts["shape"]
    return Source(
        shape=tuple(shape),
        class_names=tuple(facts["class_names"]),
        pool=sum(sizes.values()) - sizes["test"],
        test=sizes["test"],
        validation=sizes.get("validation", 0),
        flip=True,
        source=facts["source"],
    )


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
    return digits.read() if name == "digits" else arrays.read(name)


@lru_cache(maxsize=2)
def _subset(config: DataConfig, sha256: str) -> Dataset:
    """Return the data set of `config`, kept as long as its content is the same."""
    source, (images, labels, pool, _) = source_of(config.dataset), _arrays(config.dataset)
    train, validation = _split(config, pool)
    if train + validation < pool:
        keep = np.r_[0:train, pool - validation : len(images)]
        images, labels = images[keep], labels[keep]
    names, padding = source.class_names, source.crop_padding
    return Dataset(images, labels, sizes(config), len(names), names, padding, source.flip, sha256)


def listing() -> list[dict]:
    """Return a row a data set: its state, shape and sizes; None for what a damaged manifest does not say.

    States: bundled, prepared, missing, outdated (in the order of an earlier version), damaged (a file that is gone, of
    another size, or no manifest; nothing is hashed).
    """
    return [_row(name) for name in [*DATASETS, *(name for name in store.prepared() if name not in DATASETS)]]


def _row(name: str) -> dict:
    facts, state = None, "bundled"
    if name != "digits":
        try:
            facts = store.manifest(name)
            state = "missing" if facts is None else "prepared" if facts.get("order") == store.ORDER else "outdated"
        except ValueError:
            state = "damaged"
    source = DATASETS.get(name) or (source_of(name) if facts else None)
    sizes = facts["sizes"] if facts else {"train": source.pool, "test": source.test} if source else {}
    pool = sum(sizes.values()) - sizes.get("test", 0)
    validation = min(source.validation, pool - 1) if source else None
    return {
        "name": name,
        "state": state,
        "shape": list(source.shape) if source else None,
        "classes": len(source.class_names) if source else None,
        "train": None if validation is None else pool - validation,
        "validation": validation,
        "test": sizes.get("test"),
        "crop_padding": source.crop_padding if source else None,
        "flip": source.flip if source else None,
        "source": source.source if source else None,
        "sha256": facts["sha256"] if facts else source.sha256 if source else None,
        "command": None if state in ("bundled", "prepared") else f"classicnets data prepare {name}",
    }


def _split(config: DataConfig, pool: int) -> tuple[int, int]:
    """Return (training, validation) sizes out of `pool` examples; raise ValueError if there are no such."""
    validation = config.validation_size
    if validation is None:
        validation = source_of(config.dataset).validation
    if not 0 <= validation < pool:
        raise ValueError(f"validation_size must be in [0, {pool - 1}] for {config.dataset}, got {validation}")
    train = pool - validation if config.train_size is None else config.train_size
    if not 1 <= train <= pool - validation:
        raise ValueError(f"train_size must be in [1, {pool - validation}] for {config.dataset}, got {train}")
    return train, validation

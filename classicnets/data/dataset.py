"""Data sets by name, with a fixed train, validation and test split, and what a network sees of their images."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from classicnets.data import arrays, crops, digits, shards, store
from classicnets.data.sources import DATASETS, Source, source_of
from classicnets.system import fields

# Side of an image of a set whose images have none in common.
SIDE = 224


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
    """Whether training images are cropped at random, mirrored and coloured as the fields below say."""
    normalise: Literal["channel", "pixel"] = "channel"
    """Which mean is taken off before dividing by each channel's standard deviation: the channel's, or that of each
    pixel (He et al. 2016, CVPR, section 4.2)."""
    image_size: int | None = None
    """Side in pixels of the images that the network sees; none for the data set's own, or 224 where its images have
    several sizes."""
    crop: crops.Crop | None = None
    """What is seen of an image: shift, all of it, in training moved by up to 4 pixels (1 for digits; He et al. 2016,
    section 4.2); scale, a square of one whose shorter side is one of `scales` (Krizhevsky et al. 2012, Simonyan &
    Zisserman 2015); area, 8 to 100 % of it with an aspect of 3/4 to 4/3 (Szegedy et al. 2015). Evaluation sees all for
    shift, else the central square. None is shift for images of one size, else scale."""
    scales: tuple[int, ...] = ()
    """Shorter side of a training image of crop scale, or the least and the greatest (VGG: 256 512; ResNet: 256 480);
    none for test_side."""
    flip: bool | None = None
    """Whether training images are mirrored at random; none for what the data set allows (digits are not)."""
    colour: Literal["none", "pca", "photometric"] = "none"
    """Change of a training image's colours: pca, along the principal components of RGB (Krizhevsky et al. 2012,
    section 4.1); photometric, contrast, brightness and saturation (Howard 2013, which Szegedy et al. 2015 used)."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, in 0 to 255, that is taken off in place of the training images' own, with `deviation`: what
    weights of elsewhere were trained with; none for `normalise`."""
    deviation: tuple[float, ...] = ()
    """What each channel is divided by then."""
    test_side: int | None = None
    """Shorter side of an evaluated image, of which the central square is seen, for crops scale and area; none for
    256/224 of image_size."""

    def __post_init__(self):
        fields.conform(self)

    def check(self):
        """Raise ValueError, in one sentence, for a bad field, no such data set or no possible subset of it."""
        fields.check(self)
        _split(self, source_of(self.dataset).pool)
        if self.image_size is not None and not 1 <= self.image_size <= 4096:
            raise ValueError(f"image_size must be in [1, 4096], got {self.image_size}")
        self._check_view(view_of(self, source_of(self.dataset)), source_of(self.dataset))

    def _check_view(self, view: "View", source: Source) -> None:
        if None in source.shape and (view.crop == "shift" or self.normalise == "pixel"):
            field, value = ("crop", "shift") if view.crop == "shift" else ("normalise", "pixel")
            raise ValueError(f"{field} must not be {value} for {self.dataset}, whose images have several sizes")
        if view.crop != "shift" and self.normalise == "pixel":
            raise ValueError(f"normalise must be channel with crop {view.crop}, which sees parts of images, got pixel")
        for name in ("mean", "deviation"):
            if (values := getattr(self, name)) and len(values) != source.shape[2]:
                raise ValueError(f"{name} must be {source.shape[2]} numbers for {self.dataset}, got {values}")
        if bool(self.mean) != bool(self.deviation) or any(value <= 0 for value in self.deviation):
            raise ValueError(f"mean and deviation go together, the latter positive, got {self.mean}, {self.deviation}")
        if self.mean and self.normalise == "pixel":
            raise ValueError(f"normalise must be channel where mean is given, got pixel with {self.mean}")
        if self.colour != "none" and source.shape[2] != 3:
            raise ValueError(f"colour must be none for {self.dataset}, whose images are grey, got {self.colour!r}")
        if self.scales and view.crop != "scale":
            raise ValueError(f"scales must be empty unless crop is scale, got {self.scales} with {view.crop}")
        if self.test_side is not None and view.crop == "shift":
            raise ValueError(f"test_side must be none with crop shift, of which all is seen, got {self.test_side}")
        if len(self.scales) > 2 or (self.scales and not view.side <= self.scales[0] <= self.scales[-1] <= 4096):
            raise ValueError(f"scales must be one or two rising sides in [{view.side}, 4096], got {self.scales}")
        if not view.side <= view.test_side <= 8192:
            raise ValueError(f"test_side must be in [{view.side}, 8192], got {self.test_side}")


@dataclass(frozen=True)
class View:
    """What a network sees of a set's images: a configuration, with what it left to the set filled in.

    side: of a square that is cropped; scales: least and greatest shorter side in training; test_side: in evaluation.
    """

    crop: crops.Crop
    side: int
    scales: tuple[int, int]
    flip: bool
    colour: str
    test_side: int


def view_of(config: DataConfig, source: Source) -> View:
    """Return the view of `config` on a set of which `source` is known."""
    crop, side = _own_view(source)
    crop, side = config.crop or crop, config.image_size or side
    test_side = config.test_side or _test_side(side)
    scales = (config.scales[0], config.scales[-1]) if config.scales else (test_side, test_side)
    flip = source.flip if config.flip is None else config.flip
    return View(crop, side, scales, flip, config.colour, test_side)


def defaults(config: DataConfig) -> dict[str, Any]:
    """Return {field: its value where it is None, or () for scales} of the fields that `view_of` fills in."""
    source = source_of(config.dataset)
    crop, side = _own_view(source)
    view, is_square = view_of(config, source), source.shape[0] == source.shape[1]
    return {
        "crop": crop,
        "image_size": side if is_square or view.crop != "shift" else None,
        "scales": (view.test_side,),
        "flip": source.flip,
        "test_side": _test_side(view.side),
    }


def _own_view(source: Source) -> tuple[crops.Crop, int]:
    """Return (crop, side) of a set where a configuration says nothing."""
    height, width, _ = source.shape
    return ("scale", SIDE) if height is None or width is None else ("shift", min(height, width))


def _test_side(side: int) -> int:
    """Krizhevsky et al. 2012, section 4.1: 256 for 224."""
    return round(side * 256 / 224)


@dataclass(frozen=True, eq=False)
class Dataset:
    """images [n, h, w, c] uint8, or encoded, and labels [n] int32: training, then validation, then test examples.

    sha256 is of the whole set's content, whatever subset this is. view: what the network sees of an image.
    """

    images: np.ndarray | shards.Encoded
    labels: np.ndarray
    sizes: dict[str, int]
    class_names: tuple[str, ...]
    crop_padding: int
    view: View
    sha256: str

    def span(self, split: str) -> tuple[int, int]:
        """Return (start, size) of "train", "validation" or "test"."""
        starts = np.cumsum([0, *self.sizes.values()])
        return int(starts[list(self.sizes).index(split)]), self.sizes[split]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def is_resident(self) -> bool:
        """Whether the set lives on the devices: it is an array, of which whole images are seen."""
        return isinstance(self.images, np.ndarray) and self.view.crop == "shift"

    @property
    def shape(self) -> tuple[int, int, int]:
        """[h, w, c] of an image as a device is given it."""
        height, width, channels = self.images.shape[1:]
        return (height, width, channels) if self.view.crop == "shift" else (self.view.side, self.view.side, channels)

    def evaluated(self, example: int) -> np.ndarray:
        """Return the [h, w, c] uint8 that evaluation sees of an example: all of it, or its central square."""
        return self._cropped(example, None)

    def trained(self, example: int, seed: int, step: int, augment: bool = True) -> np.ndarray:
        """Return the [h, w, c] uint8 that a device is given of an example at a step of training.

        What a crop draws comes from (seed, step, example) alone; shifts, flips and colours are the device's work.
        """
        draws = crops.uniform(seed, step, example, 4 * crops.TRIES) if augment else None
        return self._cropped(example, draws)

    def shown(self, examples: Any) -> np.ndarray:
        """Return [n, h, w, c] uint8 of what evaluation sees of examples, given by their numbers."""
        if self.is_resident:
            return self.images[examples]  # pyright: ignore[reportReturnType]
        return np.stack([self.evaluated(int(i)) for i in examples])

    def _cropped(self, example: int, draws: np.ndarray | None) -> np.ndarray:
        image, view = self.images[example], self.view
        if view.crop == "shift":
            return image
        height, width = image.shape[:2]
        if draws is None:
            box = crops.central_box(height, width, view.side, view.test_side)
        else:
            box = crops.training_box(view.crop, height, width, view.side, view.scales, draws)
        return crops.resized(image, box, view.side, view.side)


def load(config: DataConfig) -> Dataset:
    """Return the data set of `config`; raise ValueError if it is not prepared, damaged or has no such subset."""
    config.check()
    return _subset(config, _stored(config.dataset).sha256)


def sizes(config: DataConfig) -> dict[str, int]:
    """Return the number of training, validation and test examples of `config`; nothing is copied."""
    config.check()
    _, labels, pool, _ = _stored(config.dataset)
    train, validation = _split(config, pool)
    return {"train": train, "validation": validation, "test": len(labels) - pool}


def _stored(name: str) -> arrays.Arrays | shards.Shards:
    """Return a set as it is stored, verified once a process."""
    if name == "digits":
        return digits.read()
    return shards.read(name) if store.required(name).get("store") == "shards" else arrays.read(name)


@lru_cache(maxsize=2)
def _subset(config: DataConfig, sha256: str) -> Dataset:
    """Return the data set of `config`, kept as long as its content is the same."""
    source, (images, labels, pool, _) = source_of(config.dataset), _stored(config.dataset)
    train, validation = _split(config, pool)
    if train + validation < pool:
        keep = np.r_[0:train, pool - validation : len(labels)]
        images = images.selected(keep) if isinstance(images, shards.Encoded) else images[keep]
        labels = labels[keep]
    view, names = view_of(config, source), source.class_names
    return Dataset(images, labels, sizes(config), names, source.crop_padding, view, sha256)


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

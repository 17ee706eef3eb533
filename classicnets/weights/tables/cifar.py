"""The CIFAR ResNets of two repositories.

    akamaster   akamaster/pytorch_resnet_cifar10: names of a state dict
    lasagne     Lasagne/Recipes, papers/deep_residual_learning: arrays in order; norms keep the inverse deviation

Both put half of a shortcut's new zero channels before the old ones and half after, and ours (as Facebook's Torch code)
all after. So the channels of the residual stream stand in another order there, which `stream` gives: without it a
trained network would be another.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path as FilePath

import numpy as np

from classicnets.models import input_size
from classicnets.models.network import Network
from classicnets.models.resnet import CifarResNet
from classicnets.models.stacks import Path
from classicnets.weights.convert import Arrays, Fit, Layout, Place, Source, convolution, epsilon_of, matrix
from classicnets.weights.preprocessing import IMAGENET, Preprocessing

# A unit's layers, in the order in which they compute, by our names and by akamaster's.
LAYERS = {"conv1": "conv1", "norm1": "bn1", "conv2": "conv2", "norm2": "bn2"}
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
COUNTERS = r"num_batches_tracked$"


def stream(stage: int, width: int = 16) -> np.ndarray:
    """Return where our channels of the residual stream of a stage, 1 to 3, stand in these repositories.

    P(1) = 0, ..., c - 1; P(s) = c / 2 + P(s - 1), then the others in their order; c: channels of the stage before.
    """
    if stage == 1:
        return np.arange(width)
    before = stream(stage - 1, width)
    old = len(before) // 2 + before
    return np.r_[old, np.setdiff1d(np.arange(2 * len(before)), old)]


def akamaster(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands in akamaster's state dict."""
    *outer, layer, leaf = path[1:]
    if layer == "logits":
        key = f"linear.{'weight' if leaf == 'kernel' else 'bias'}"
        return _reordered(path, model, matrix(key) if leaf == "kernel" else Place(key))
    prefix = f"layer{outer[0].removeprefix('block')}.{int(outer[1].removeprefix('unit_')) - 1}." if outer else ""
    name = LAYERS[layer] if outer else {"conv1": "conv1", "conv1_norm": "bn1"}[layer]
    key = f"{prefix}{name}.{NORM.get(leaf, 'weight')}"
    return _reordered(path, model, convolution(key) if leaf == "kernel" else Place(key))


def lasagne(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands among Lasagne's arrays: arr_0, arr_1, ..."""
    key, leaf = f"arr_{_order(_depth(model)).index(_rank(path))}", path[-1]
    if path[1] != "logits" and leaf == "kernel":
        return _reordered(path, model, convolution(key))
    return _reordered(path, model, _inverse_deviation(key, epsilon_of(model)) if leaf == "var" else Place(key))


def _depth(model: Network) -> int:
    if not isinstance(model, CifarResNet) or model.shortcut != "A":
        raise KeyError(type(model).__name__)
    return model.depth


@cache
def _order(depth: int) -> list[tuple[int, int, int, int]]:
    """Return the ranks of a network's arrays: layers as they compute, a norm's offset, scale, mean, deviation."""
    layers = [(0, 0, 0), (0, 0, 1)]
    layers += [(stage, unit, i) for stage in (1, 2, 3) for unit in range(1, depth // 6 + 1) for i in range(4)]
    ranks = [(*layer, leaf) for layer in layers for leaf in ((1, 2, 3, 4) if layer[2] % 2 else (0,))]
    return [*ranks, (9, 0, 0, 0), (9, 0, 0, 1)]


def _rank(path: Path) -> tuple[int, int, int, int]:
    *outer, layer, leaf = path[1:]
    of_leaf = ("kernel", "bias", "scale", "mean", "var").index(leaf)
    if layer == "logits":
        return (9, 0, 0, of_leaf)
    if not outer:
        return (0, 0, int(layer == "conv1_norm"), of_leaf)
    stage, unit = int(outer[0].removeprefix("block")), int(outer[1].removeprefix("unit_"))
    return (stage, unit, list(LAYERS).index(layer), of_leaf)


def _inverse_deviation(key: str, epsilon: float) -> Place:
    """1 / sqrt(variance + Lasagne's epsilon), ours the variance to which our epsilon is added; in float64."""

    def ours(inverse: np.ndarray) -> np.ndarray:
        return (inverse.astype(np.float64) ** -2 - epsilon).astype(inverse.dtype)

    def theirs(variance: np.ndarray) -> np.ndarray:
        return ((variance.astype(np.float64) + epsilon) ** -0.5).astype(variance.dtype)

    return Place(key, ours, theirs)


def _reordered(path: Path, model: Network, place: Place) -> Place:
    """Return the place with the stream's channels in the other order."""
    _depth(model)
    axis, order = _stream_of(path, model.scaled(16))
    if axis is None:
        return place

    def by(order: np.ndarray) -> Layout:
        return lambda array: np.take(array, order, axis)

    def ours(array: np.ndarray) -> np.ndarray:
        found = place.ours(array)
        if found.shape[axis] != len(order):
            raise ValueError("another width")
        return by(order)(found)

    return Place(place.key, ours, lambda array: place.theirs(by(np.argsort(order))(array)))


def _stream_of(path: Path, width: int) -> tuple[int | None, np.ndarray]:
    """Return (axis, order) of the channels of a leaf that are the stream's, (None, ...) if none are."""
    *outer, layer, leaf = path[1:]
    if layer == "logits" and leaf == "kernel":
        return 0, stream(3, width)
    if outer:
        stage, unit = int(outer[0].removeprefix("block")), int(outer[1].removeprefix("unit_"))
        if layer == "conv1":
            return 2, stream(max(1, stage - 1) if unit == 1 else stage, width)
        if layer in ("conv2", "norm2"):
            return -1, stream(stage, width)
    return None, np.arange(0)


def _guess(arrays: Arrays, classes: str) -> list[Fit]:
    """Return the CIFAR ResNet of as many arrays, 30 n + 7 for depth 6 n + 2; classes: the key of the last bias."""
    count = sum(not key.endswith("num_batches_tracked") for key in arrays)
    n, left = divmod(count - 7, 30)
    return (
        [Fit("cifar_resnet", {"depth": 6 * n + 2, "num_classes": len(arrays[classes])})] if n > 0 and not left else []
    )


def _guess_akamaster(arrays: Arrays) -> list[Fit]:
    return _guess(arrays, "linear.bias") if "linear.weight" in arrays and "layer1.0.conv1.weight" in arrays else []


def _guess_lasagne(arrays: Arrays) -> list[Fit]:
    return _guess(arrays, f"arr_{len(arrays) - 1}") if "arr_0" in arrays else []


def _imagenet_moments(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Akamaster's trainer.py has ImageNet's moments."""
    return Preprocessing(input_size(name), "whole", **IMAGENET)


def _pixel_means(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Lasagne's Deep_Residual_Learning_CIFAR-10.py takes off the mean of each pixel of the training images."""
    return Preprocessing(input_size(name), "whole", needs_pixel_mean=True)


AKAMASTER = Source("akamaster", "cifar_resnet", akamaster, _guess_akamaster, _imagenet_moments, COUNTERS, shared=True)
LASAGNE = Source("lasagne", "cifar_resnet", lasagne, _guess_lasagne, _pixel_means, shared=True)

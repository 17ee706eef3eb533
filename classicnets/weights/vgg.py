"""torchvision's vgg11, 13, 16 and 19, with and without batch norm."""

from collections.abc import Callable

import numpy as np

from classicnets.models.vgg import CONFIGURATIONS, VGG, WINDOW
from classicnets.weights.alexnet import kernel

DENSE = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def torchvision(path: tuple[str, ...], network: VGG) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Return (key in torchvision's state_dict, its array -> ours) of a leaf, ("params", "conv1_1", ...).

    torchvision numbers the modules of all stages in one list, convolution, (norm,) ReLU and pool each being one: the
    number of a layer depends on `network`.
    """
    _, layer, part, leaf = path
    where = DENSE.get(layer) or f"features.{_first(network)[layer] + (part == 'norm')}"
    return f"{where}.{LEAVES[leaf]}", kernel(layer, WINDOW) if leaf == "kernel" else np.asarray


def _first(network: VGG) -> dict[str, int]:
    """Return {convolution: its number in torchvision's list}."""
    numbers, number = {}, 0
    for stage, kernels in enumerate(CONFIGURATIONS[network.configuration], 1):
        for i in range(1, len(kernels) + 1):
            numbers[f"conv{stage}_{i}"] = number
            number += 3 if network.norm else 2
        number += 1
    return numbers

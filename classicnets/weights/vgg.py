"""torchvision's vgg11, 13, 16 and 19, with and without batch norm."""

from collections.abc import Callable

import numpy as np

from classicnets.models.vgg import CONFIGURATIONS, VGG, WINDOW
from classicnets.weights.alexnet import kernel

DENSE = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def torchvision(
    path: tuple[str, ...], index: int | None, network: VGG
) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """(key in torchvision's state_dict, the function from its array to ours) of a leaf, ("params", "conv1_1", ...).

    torchvision numbers the modules of all stages in one list, convolution, (norm,) ReLU and pool each being one: the
    number of a layer depends on `network`.
    """
    _, layer, part, leaf = path
    where = DENSE.get(layer) or f"features.{_first(network)[layer] + (part == 'norm')}"
    return f"{where}.{LEAVES[leaf]}", kernel(layer, WINDOW) if leaf == "kernel" else np.asarray


def _first(network: VGG) -> dict[str, int]:
    """{convolution: its number in torchvision's list}."""
    found, number = {}, 0
    for stage, kernels in enumerate(CONFIGURATIONS[network.configuration], 1):
        for i in range(1, len(kernels) + 1):
            found[f"conv{stage}_{i}"] = number
            number += 3 if network.norm else 2
        number += 1
    return found

"""torchvision's googlenet."""

from collections.abc import Callable

import numpy as np

from classicnets.models.inception_v1 import AUXILIARY, MODULES

# mixed_3b is inception3a, mixed_4b inception4a and so on.
LAYERS = {name: f"inception{name[6]}{chr(ord(name[7]) - 1)}" for name in MODULES} | {
    "conv2d_1a_7x7": "conv1",
    "conv2d_2b_1x1": "conv2",
    "conv2d_2c_3x3": "conv3",
    "logits": "fc",
}
BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
HEAD = {"conv": "conv", "fc": "fc1", "logits": "fc2"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def torchvision(path: tuple[str, ...]) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Return (key of the state_dict, function of its array that gives ours) of the leaf at `path` of our variables.

    Raise KeyError for a `path` that torchvision's network does not have.
    """
    _, layer, *inner, leaf = path
    if layer in AUXILIARY.values():
        part, *inner = inner
        name = f"{layer}.{HEAD[part]}"
    elif layer in MODULES:
        part, *inner = inner
        name = f"{LAYERS[layer]}.{BRANCHES[part]}"
    else:
        name = LAYERS[layer]
    # What remains of the path is a unit's convolution or its norm, or nothing in a dense layer.
    name = ".".join([name, *("bn" if part == "norm" else part for part in inner), LEAVES[leaf]])
    if leaf != "kernel":
        return name, lambda array: array
    if inner:
        return name, lambda array: array.transpose(2, 3, 1, 0)
    return name, _dense_after_map if name.endswith("fc1.weight") else np.transpose


def _dense_after_map(array: np.ndarray) -> np.ndarray:
    """[o, c * 4 * 4] -> [4 * 4 * c, o]: torch flattens the map of an auxiliary head channel by channel."""
    return array.reshape(len(array), -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, len(array))

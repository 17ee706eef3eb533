"""torchvision's inception_v3."""

from collections.abc import Callable

import numpy as np

LEAVES = {
    "kernel": "conv.weight",
    "scale": "bn.weight",
    "bias": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}
AUXILIARY = {"conv2d_1b_1x1": "conv0", "conv2d_2a_5x5": "conv1"}
# What "nxn" and "double" are called in the modules of each grid.
BRANCHES = {
    "mixed_5b": ("branch5x5", "branch3x3dbl"),
    "mixed_5c": ("branch5x5", "branch3x3dbl"),
    "mixed_5d": ("branch5x5", "branch3x3dbl"),
    "mixed_6a": ("branch3x3", "branch3x3dbl"),
    "mixed_6b": ("branch7x7", "branch7x7dbl"),
    "mixed_6c": ("branch7x7", "branch7x7dbl"),
    "mixed_6d": ("branch7x7", "branch7x7dbl"),
    "mixed_6e": ("branch7x7", "branch7x7dbl"),
    "mixed_7a": ("branch3x3", "branch7x7x3"),
    "mixed_7b": ("branch3x3", "branch3x3dbl"),
    "mixed_7c": ("branch3x3", "branch3x3dbl"),
}


def torchvision(path: tuple[str, ...]) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Return (key in torchvision's state_dict, its array -> ours) of a leaf, ("params", "mixed_5b", "nxn_2", ...)."""
    _, *modules, leaf = path
    if modules[-1] == "logits":
        head = "AuxLogits.fc" if modules[0] == "auxlogits" else "fc"
        return (f"{head}.weight", np.transpose) if leaf == "kernel" else (f"{head}.bias", np.asarray)
    modules = modules[:-1]  # conv or norm, which the leaf tells
    if modules[0] == "auxlogits":
        layer = f"AuxLogits.{AUXILIARY[modules[1]]}"
    elif modules[0] in BRANCHES:
        layer = f"{modules[0].capitalize()}.{_branch(*modules)}"
    else:
        layer = modules[0].capitalize()
    return f"{layer}.{LEAVES[leaf]}", _kernel if leaf == "kernel" else np.asarray


def _branch(module: str, layer: str) -> str:
    name, _, number = layer.partition("_")
    nxn, double = BRANCHES[module]
    named = {"1x1": "branch1x1", "nxn": nxn, "double": double, "pool": "branch_pool"}[name]
    return f"{named}_{number}" if number else named


def _kernel(weight: np.ndarray) -> np.ndarray:
    """OIHW -> HWIO"""
    return weight.transpose(2, 3, 1, 0)

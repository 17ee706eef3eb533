"""torchvision's names and layouts for the ResNets that it has: resnet18/34, resnet*_v1_5 and the wide ones."""

import re
from collections.abc import Callable

import numpy as np

_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_CONV = {"kernel": "weight", "bias": "bias"}


def torchvision(path: tuple[str, ...]) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Return (key in torchvision's state_dict, its array -> ours) of a leaf, ("params", "block1", "unit_2", ...)."""
    *outer, layer, leaf = path[1:]
    if layer == "logits":
        return f"fc.{_CONV[leaf]}", np.transpose
    prefix = ""
    if outer:
        stage, unit = outer
        prefix = f"layer{stage.removeprefix('block')}.{int(unit.removeprefix('unit_')) - 1}."
    if layer.startswith("shortcut"):
        name = "downsample.1" if layer.endswith("_norm") else "downsample.0"
    else:
        name = re.sub(r"^norm(\d)$|^conv(\d)_norm$", lambda match: f"bn{match[1] or match[2]}", layer)
    if "norm" in layer:
        return f"{prefix}{name}.{_NORM[leaf]}", np.asarray
    return f"{prefix}{name}.{_CONV[leaf]}", lambda kernel: np.transpose(kernel, (2, 3, 1, 0))

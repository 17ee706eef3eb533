"""torchvision's names and layouts for the ResNets that it has: resnet18/34, resnet*_v1_5 and the wide ones."""

import re
from collections.abc import Callable

import numpy as np

_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_CONV = {"kernel": "weight", "bias": "bias"}


def torchvision(path: tuple[str, ...], index: int | None) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """The key in torchvision's state_dict of one of our leaves, and the function that turns its array into ours.

    path: as in ("params", "block1", "units_2_3", "conv1", "kernel"). index: which unit of a stack, from 0, or None.
    """
    *outer, layer, leaf = path[1:]
    if layer == "logits":
        return f"fc.{_CONV[leaf]}", np.transpose
    prefix = ""
    if outer:
        stage, unit = outer
        first = int(re.findall(r"\d+", unit)[0])
        prefix = f"layer{stage.removeprefix('block')}.{first - 1 + (index or 0)}."
    if layer.startswith("shortcut"):
        name = "downsample.1" if layer.endswith("_norm") else "downsample.0"
    else:
        name = re.sub(r"^norm(\d)$|^conv(\d)_norm$", lambda match: f"bn{match[1] or match[2]}", layer)
    if "norm" in layer:
        return f"{prefix}{name}.{_NORM[leaf]}", np.asarray
    return f"{prefix}{name}.{_CONV[leaf]}", lambda kernel: np.transpose(kernel, (2, 3, 1, 0))

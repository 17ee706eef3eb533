"""tensorflow-vgg's .npy files (machrisaa/tensorflow-vgg: vgg16.npy, vgg19.npy): {layer: [kernel, bias]}.

Kernels are [h, w, i, o], dense ones [i, o]; fc6 reads a flattened map of 7x7x512. The first layer reads BGR.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from classicnets.models import input_size
from classicnets.models.network import Network
from classicnets.models.stacks import Path
from classicnets.models.vgg import VGG, WINDOW
from classicnets.weights.convert import Arrays, Fit, Place, Source
from classicnets.weights.preprocessing import VGG_MEAN, Preprocessing


def place(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands: "LAYER/0" is a kernel, "LAYER/1" a bias."""
    if not isinstance(model, VGG) or model.norm:
        raise KeyError(type(model).__name__)
    _, layer, _, leaf = path
    key = f"{layer}/{int(leaf == 'bias')}"
    if (layer, leaf) != ("fc6", "kernel"):
        return Place(key)
    return Place(
        key,
        lambda kernel: kernel.reshape(WINDOW, WINDOW, -1, kernel.shape[-1]),
        lambda kernel: kernel.reshape(-1, kernel.shape[-1]),
    )


def preprocessing(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Return its utils.load_image and the first lines of its networks."""
    return Preprocessing(input_size(name), "square", **VGG_MEAN)


def guess(arrays: Arrays) -> list[Fit]:
    """Return vgg16 or vgg19 by the number of layers."""
    if "conv1_1/0" not in arrays or "fc8/1" not in arrays:
        return []
    name = {16: "vgg16", 19: "vgg19"}.get(len(arrays) // 2)
    return [Fit(name, {"num_classes": len(arrays["fc8/1"])})] if name else []


def layers(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return {layer: {0: kernel, 1: bias}}, what its `save_npy` writes."""
    found: dict[str, Any] = {}
    for key, array in arrays.items():
        layer, _, number = key.rpartition("/")
        found.setdefault(layer, {})[int(number)] = array
    return found


SOURCE = Source("tensorflow-vgg", r"vgg1[69]", place, guess, preprocessing)

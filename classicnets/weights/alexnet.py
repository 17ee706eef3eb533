"""torchvision's alexnet for `alexnet_owt`."""

from collections.abc import Callable

import numpy as np

LAYERS = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
# The side of the map that fc6 sees.
WINDOW = 6


def torchvision(path: tuple[str, ...]) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Return (key in torchvision's state_dict, its array -> ours) of a leaf, ("params", "conv1", ...).

    Convolutions OIHW -> HWIO, dense kernels transposed, fc6's [o, c * h * w] -> [h, w, c, o].
    """
    _, layer, _, leaf = path
    if leaf == "bias":
        return f"{LAYERS[layer]}.bias", np.asarray
    return f"{LAYERS[layer]}.weight", kernel(layer, WINDOW)


def kernel(layer: str, window: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from torch's weight of `layer` to our kernel; fc6 sees a map of window x window positions."""

    def convert(weight: np.ndarray) -> np.ndarray:
        if layer == "fc6":
            weight = weight.reshape(len(weight), -1, window, window)
        return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T

    return convert

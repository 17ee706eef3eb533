"""An image beside the classes that a network sees in it, and the filters of its first layer, as PNG."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from classicnets.inference.net import Guess, Net, WeightsNet
from classicnets.models.features import first_kernel

# Images that one picture shows.
SHOWN = 8


def picture(net: Net, images: Sequence[tuple[Path, np.ndarray, list[Guess]]]) -> bytes:
    """Return a PNG: each image beside bars of its likeliest classes, below them the filters of the first layer."""
    from matplotlib.figure import Figure

    rows = images[:SHOWN]
    filters = first_filters(net)
    figure = Figure(figsize=(8, 2.6 * len(rows) + (2.6 if filters is not None else 0)), layout="constrained")
    grid: Any = figure.add_gridspec(len(rows) + int(filters is not None), 2, width_ratios=(1, 1.6))
    for row, (path, image, guesses) in enumerate(rows):
        left, right = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        left.imshow(image)
        left.set_title(path.name[-40:], fontsize=8)
        left.set_axis_off()
        right.barh(range(len(guesses))[::-1], [guess.probability for guess in guesses], color="C0")
        right.set_yticks(range(len(guesses))[::-1], [guess.name[:30] for guess in guesses], fontsize=8)
        right.set_xlim(0, 1)
        right.set_xlabel("probability", fontsize=8)
    if filters is not None:
        below = figure.add_subplot(grid[len(rows), :])
        below.imshow(filters, interpolation="nearest")
        below.set_title("filters of the first layer", fontsize=8)
        below.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def first_filters(net: Net) -> np.ndarray | None:
    """Return the first layer's kernels [h, w, 3, n] as one image of tiles, each from black to white of its own.

    None where they read no three colours.
    """
    flat: dict = flatten_dict(dict(net.variables["params"]))
    try:
        kernel = np.asarray(flat[first_kernel(net.variables["params"])], np.float64).transpose(3, 0, 1, 2)
    except ValueError:
        return None
    if kernel.ndim != 4 or kernel.shape[3] != 3:
        return None
    if isinstance(net, WeightsNet) and net.weights.preprocessing.channels == "bgr":
        kernel = kernel[..., ::-1]
    low, high = kernel.min((1, 2, 3), keepdims=True), kernel.max((1, 2, 3), keepdims=True)
    tiles = (kernel - low) / np.maximum(high - low, 1e-12)
    across = math.ceil(math.sqrt(4 * len(tiles)))
    down = math.ceil(len(tiles) / across)
    side = tiles.shape[1] + 1
    sheet = np.ones((down * side + 1, across * side + 1, 3))
    for i, tile in enumerate(tiles):
        top, left = i // across * side + 1, i % across * side + 1
        sheet[top : top + side - 1, left : left + side - 1] = tile
    return sheet

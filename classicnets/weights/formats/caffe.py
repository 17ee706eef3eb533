"""Caffe's .caffemodel without Caffe: {"LAYER.i": blob i of a layer}, in the order of the file.

A NetParameter (caffe.proto) holds its layers in one of three forms: LayerParameter (field 100), V1LayerParameter (2),
and V0LayerParameter inside the latter. A blob has its shape as a list or, before 2014, as four sides, of which those
that a matrix or a vector does not have are 1.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from classicnets.weights.formats.protobuf import Message, integer, message, messages, numbers, text

# Fields of a layer: its name, its type, its blobs, and where its batch norm's epsilon is.
NAME, TYPE, BLOBS, BATCH_NORM = 1, 2, 7, 139
V1_NAME, V1_TYPE, V1_BLOBS, V1_LAYER = 4, 5, 6, 1
V0_BLOBS = 50
INNER_PRODUCT = (14, "InnerProduct", "innerproduct")
EPSILON = 1e-5


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the blobs of all layers; raise ValueError for a file that is no network or whose blobs are not whole.

    A norm's epsilon is one more array, "LAYER.epsilon", float32, where the file says it.
    """
    net = message(path.read_bytes())
    layers = [_layer(layer) for layer in messages(net[100])] or [_layer_v1(layer) for layer in messages(net[2])]
    arrays: dict[str, np.ndarray] = {}
    for name, kind, blobs, epsilon in layers:
        held = {f"{name}.{i}": _blob(blob, f"{name}.{i}", kind) for i, blob in enumerate(blobs)}
        if blobs and epsilon is not None:
            held[f"{name}.epsilon"] = np.array(epsilon, np.float32)
        if twice := sorted(arrays.keys() & held.keys()):
            raise ValueError(f"two layers hold {twice[0]!r}")
        arrays |= held
    if not arrays:
        raise ValueError("it holds no layer with weights")
    return arrays


def _layer(layer: Message) -> tuple[str, Any, list[Message], float | None]:
    norms = messages(layer[BATCH_NORM])
    epsilon = numbers(norms[-1][3], np.float32) if norms else np.zeros(0)
    return (
        text(layer[NAME]),
        text(layer[TYPE]),
        messages(layer[BLOBS]),
        float(epsilon[-1]) if len(epsilon) else None,
    )


def _layer_v1(layer: Message) -> tuple[str, Any, list[Message], float | None]:
    if inner := messages(layer[V1_LAYER]):
        return text(inner[-1][NAME]), text(inner[-1][TYPE]), messages(inner[-1][V0_BLOBS]), None
    return text(layer[V1_NAME]), integer(layer[V1_TYPE]), messages(layer[V1_BLOBS]), None


def _blob(blob: Message, name: str, kind: Any) -> np.ndarray:
    values = numbers(blob[8], np.float64) if blob[8] else numbers(blob[5], np.float32)
    if blob[7]:
        (shape,) = messages(blob[7][-1:])
        sides = tuple(int(side) for side in numbers(shape[1], np.int64))
    else:
        sides = tuple(integer(blob[side], 1) for side in (1, 2, 3, 4))
        if min(sides) == 1 and sides[:3] == (1, 1, 1):
            sides = sides[3:]
        elif kind in INNER_PRODUCT and sides[:2] == (1, 1):
            sides = sides[2:]
    if len(sides) > 8 or any(not 0 <= side < 2**40 for side in sides) or math.prod(sides) != len(values):
        raise ValueError(f"{name!r} has {len(values):,} values for the shape {list(sides)}")
    if kind in INNER_PRODUCT and len(sides) == 4 and sides[:2] == (1, 1):
        sides = sides[2:]
    return values.reshape(sides).copy()

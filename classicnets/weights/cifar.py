"""Weights of the CIFAR ResNets of two repositories, exactly as ours and back.

    akamaster   akamaster/pytorch_resnet_cifar10: names of a state dict
    lasagne     Lasagne/Recipes, papers/deep_residual_learning: arrays in order; norms keep the inverse deviation

Both put half of a shortcut's new zero channels before the old ones and half after, and ours (as Facebook's Torch code)
all after. So the channels of the residual stream stand in another order there, which `stream` gives: without it a
trained network would be another.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from classicnets.models import create, stacks
from classicnets.models.norm import BatchNorm
from classicnets.models.stacks import Path
from classicnets.system.fields import require_choice

CLASSES, SIDE = 10, 32
SOURCES = ("akamaster", "lasagne")
# Lasagne's norms add their own epsilon before they take the inverse deviation; ours add this one to the variance.
EPSILON = BatchNorm.epsilon
# A unit's layers, in the order in which they compute, by our names and by akamaster's.
LAYERS = {"conv1": "conv1", "norm1": "bn1", "conv2": "conv2", "norm2": "bn2"}
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class Place(NamedTuple):
    """Where a leaf of ours stands in a source: key, and the conversions of its array there and back."""

    key: str
    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def depth_of(source: str, arrays: Mapping[str, np.ndarray]) -> int:
    """Return the depth, 6n+2, that a number of arrays of `source` implies; raise ValueError if it implies none."""
    require_choice("source", source, SOURCES)
    count = sum(not name.endswith("num_batches_tracked") for name in arrays)
    # Of a unit two convolutions, each with a norm of four arrays; of the rest the first ones, and the dense layer.
    units, left = divmod(count - 7, 10)
    if left or units < 3 or units % 3:
        raise ValueError(
            f"{count} arrays are those of no CIFAR ResNet of {source}, which has 30 n + 7 for depth 6 n + 2"
        )
    return 2 * units + 2


def variables(source: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the variables of `create("cifar_resnet", depth=...)` from the arrays of a repository, in float32.

    Raise ValueError, in one sentence, for an array that is missing, left over, or of another shape.
    """
    shapes = _shapes(depth_of(source, arrays))
    places, used, leaves = _places(source, shapes), set(), {}
    for path, shape in jax.eval_shape(stacks.split, shapes).items():
        place = places[path]
        if place.key not in arrays:
            raise ValueError(f"the weights of {source} lack {place.key!r}")
        used.add(place.key)
        leaves[path] = place.ours(np.asarray(arrays[place.key]))
        if leaves[path].shape != shape.shape:
            raise ValueError(f"{place.key} must have {shape.shape} as {'/'.join(path)}, got {leaves[path].shape}")
    left = sorted(name for name in arrays if name not in used and not name.endswith("num_batches_tracked"))
    if left:
        raise ValueError(f"the CIFAR ResNet of {source} has no place for {left[0]!r}")
    return unflatten_dict(stacks.join(_reordered(leaves, lambda order: order), shapes))


def arrays(source: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return what `variables` came from: {name: array} of a repository, by its names, in its order."""
    shapes = flatten_dict(dict(variables))
    leaves = _reordered(stacks.split(shapes), np.argsort)
    places = _places(source, shapes)
    held = {places[path].key: places[path].theirs(np.asarray(leaf)) for path, leaf in leaves.items()}
    return {key: held[key] for key in (f"arr_{i}" for i in range(len(held)))} if source == "lasagne" else held


def stream(stage: int, width: int = 16) -> np.ndarray:
    """Return where our channels of the residual stream of a stage, 1 to 3, stand in these repositories.

    P(1) = 0, ..., c - 1; P(s) = c / 2 + P(s - 1), then the others in their order; c: channels of the stage before.
    """
    if stage == 1:
        return np.arange(width)
    before = stream(stage - 1, width)
    old = len(before) // 2 + before
    return np.r_[old, np.setdiff1d(np.arange(2 * len(before)), old)]


def _reordered(leaves: Mapping[Path, np.ndarray], way: Callable[[np.ndarray], np.ndarray]) -> dict[Path, np.ndarray]:
    """Return the leaves with the stream's channels in the other order; way: of an order to itself or its inverse."""
    orders = {stage: way(stream(stage)) for stage in (1, 2, 3)}
    found = dict(leaves)
    for path, leaf in leaves.items():
        if path[1] == "logits" and path[2] == "kernel":
            found[path] = leaf[orders[3]]
        if not path[1].startswith("block"):
            continue
        stage, unit, layer = int(path[1].removeprefix("block")), int(path[2].removeprefix("unit_")), path[3]
        if layer == "conv1":
            found[path] = leaf[:, :, orders[max(1, stage - 1) if unit == 1 else stage]]
        elif layer in ("conv2", "norm2"):
            found[path] = leaf[..., orders[stage]]
    return found


def _shapes(depth: int) -> dict[Path, Any]:
    model = create("cifar_resnet", depth=depth, shortcut="A", num_classes=CLASSES)
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return flatten_dict(jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images))


def _places(source: str, shapes: Mapping[Path, Any]) -> dict[Path, Place]:
    paths = [unit for path in shapes for unit in stacks.units(path)]
    if source == "akamaster":
        return {path: Place(_name(path), *_layouts(path, transposed=True)) for path in paths}
    numbered = {path: f"arr_{i}" for i, path in enumerate(sorted(paths, key=_rank))}
    return {path: Place(numbered[path], *_layouts(path, transposed=False)) for path in paths}


def _name(path: Path) -> str:
    """Return akamaster's name of a leaf."""
    *outer, layer, leaf = path[1:]
    if layer == "logits":
        return f"linear.{'weight' if leaf == 'kernel' else 'bias'}"
    prefix = f"layer{outer[0].removeprefix('block')}.{int(outer[1].removeprefix('unit_')) - 1}." if outer else ""
    name = LAYERS[layer] if outer else {"conv1": "conv1", "conv1_norm": "bn1"}[layer]
    return f"{prefix}{name}.{NORM.get(leaf, 'weight')}"


def _rank(path: Path) -> tuple[int, ...]:
    """Return a leaf's place in Lasagne's order: layers as they compute, a norm's offset, scale, mean and deviation."""
    *outer, layer, leaf = path[1:]
    of_leaf = ("kernel", "bias", "scale", "mean", "var").index(leaf)
    if layer == "logits":
        return (9, 0, 0, of_leaf)
    if not outer:
        return (0, 0, int(layer == "conv1_norm"), of_leaf)
    stage, unit = (int(word.rpartition(end)[2]) for word, end in zip(outer, ("block", "unit_"), strict=True))
    return (stage, unit, list(LAYERS).index(layer), of_leaf)


def _layouts(path: Path, transposed: bool) -> tuple[Callable, Callable]:
    """Return (theirs -> ours, ours -> theirs) of a leaf's array. transposed: a dense kernel is [classes, features]."""
    layer, leaf = path[-2:]
    if layer == "logits" and leaf == "kernel":
        return (np.transpose, np.transpose) if transposed else (np.asarray, np.asarray)
    if leaf == "kernel":
        return lambda kernel: kernel.transpose(2, 3, 1, 0), lambda kernel: kernel.transpose(3, 2, 0, 1)
    if leaf == "var" and not transposed:
        return _variance, _inverse_deviation
    return np.asarray, np.asarray


def _variance(inverse: np.ndarray) -> np.ndarray:
    return (inverse.astype(np.float64) ** -2 - EPSILON).astype(np.float32)


def _inverse_deviation(variance: np.ndarray) -> np.ndarray:
    return ((variance.astype(np.float64) + EPSILON) ** -0.5).astype(np.float32)

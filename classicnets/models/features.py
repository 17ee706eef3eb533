"""The outputs of named layers, for feature extraction."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax.traverse_util import flatten_dict

from classicnets.models import stacks
from classicnets.system.words import nearest

# The layers that read the images.
FIRST = ("conv1", "conv1_1", "conv2d_1a_7x7", "conv2d_1a_3x3")


def features(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: jax.Array,
    names: Sequence[str],
    *,
    train: bool = False,
    rngs: dict[str, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """Return {name: output} of the layers `names`, paths of modules such as "mixed_5c" or "block1/unit_2/conv1".

    images [n, h, w, c]; rngs: {"dropout": key}, which training needs. Blocks that are scanned as one stack have their
    own names too: unit 2 of "units_2_3" is "unit_2". Under `jit` only what the wanted layers need is computed. Raise
    ValueError with the nearest name for a layer that is not there.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a sequence of names, got {names!r}")
    _, state = model.apply(
        variables, images, train=train, rngs=rngs, capture_intermediates=True, mutable=["intermediates", "batch_stats"]
    )
    calls: dict[stacks.Path, Any] = flatten_dict(state["intermediates"])
    outputs = {path[:-1]: values[0] for path, values in calls.items() if path[-1] == "__call__" and len(path) > 1}
    layers = {"/".join(path): output for path, output in {**outputs, **stacks.split(outputs)}.items()}
    for name in names:
        if name not in layers:
            raise ValueError(f"there is no layer {name!r}{nearest(name, layers)}")
    return {name: layers[name] for name in names}


def first_kernel(params: Mapping[str, Any]) -> stacks.Path:
    """Return the path of the kernel that reads the images, [h, w, colours, features], in a network's parameters.

    Raise ValueError if it has none of the names that first layers here have.
    """
    for path in flatten_dict(dict(params)):
        if path[0] in FIRST and path[-1] == "kernel":
            return path
    raise ValueError(f"no first layer is called {', '.join(FIRST)}")

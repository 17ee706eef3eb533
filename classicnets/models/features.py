"""The outputs of named layers, for feature extraction."""

from collections.abc import Sequence
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from classicnets.models.layers import nearest


def features(model, variables, images, names: Sequence[str], *, train: bool = False) -> dict[str, jax.Array]:
    """{name: output} of the layers `names`, paths of modules such as "mixed_5c" or "block1/unit_2/conv1".

    images [n, h, w, c]. Of blocks that are scanned as one stack "stage2", block i (from 0) is "stage2/i". Under `jit`
    only what the wanted layers need is computed. Raises ValueError with the nearest name for a layer that is not there.
    """
    _, state = model.apply(
        variables, images, train=train, capture_intermediates=True, mutable=["intermediates", "batch_stats"]
    )
    calls: dict[tuple[str, ...], Any] = flatten_dict(state["intermediates"])
    found = {"/".join(path[:-1]): made[0] for path, made in calls.items() if path[-1] == "__call__" and len(path) > 1}
    return {name: _layer(found, name) for name in names}


def _layer(found: dict, name: str):
    stack, _, index = name.rpartition("/")
    if name in found:
        return found[name]
    if stack in found and index.isdigit() and int(index) < len(found[stack]):
        return found[stack][int(index)]
    raise ValueError(f"there is no layer {name!r}{nearest(name, found)}")

"""The outputs of named layers, for feature extraction."""

import re
from collections.abc import Sequence
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from classicnets.system.words import nearest


def features(model, variables, images, names: Sequence[str], *, train: bool = False, rngs=None) -> dict[str, jax.Array]:
    """{name: output} of the layers `names`, paths of modules such as "mixed_5c" or "block1/unit_2/conv1".

    images [n, h, w, c]; rngs: {"dropout": key}, which training needs. Of blocks that are scanned as one stack, unit 2
    of "units_2_3" is "unit_2", and block i (from 0) of "stage2" is "stage2/i". Under `jit` only what the wanted layers
    need is computed. Raises ValueError with the nearest name for a layer that is not there.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a sequence of names, got {names!r}")
    _, state = model.apply(
        variables, images, train=train, rngs=rngs, capture_intermediates=True, mutable=["intermediates", "batch_stats"]
    )
    calls: dict[tuple[str, ...], Any] = flatten_dict(state["intermediates"])
    found = {"/".join(path[:-1]): made[0] for path, made in calls.items() if path[-1] == "__call__" and len(path) > 1}
    return {name: _layer(found, name) for name in names}


def _layer(found: dict, name: str):
    if name in found:
        return found[name]
    for path, outputs in found.items():
        stack = re.search(r"(^|/)(units_(\d+)_\d+|stage\d)(/|$)", path)
        if not stack or path.count("/") + (stack[3] is None) != name.count("/"):
            continue
        for i, output in enumerate(outputs):
            one = f"unit_{int(stack[3]) + i}" if stack[3] else f"{stack[2]}/{i}"
            if name == path[: stack.start(2)] + one + path[stack.end(2) :]:
                return output
    raise ValueError(f"there is no layer {name!r}{nearest(name, found)}")

"""Rematerialisation (Chen et al. 2016, "Training deep nets with sublinear memory cost"): less memory for more time.

What lies in the layers that are named is not kept for the backward pass, but computed again from their inputs.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
from flax import linen as nn

from classicnets.system.words import nearest


def rematerialised(forward: Callable[[], jax.Array], patterns: Sequence[str], differentiated: bool) -> jax.Array:
    """Return `forward()`, in whose backward pass the layers that fit one of the patterns are computed again.

    differentiated: whether there is one; without, the patterns are checked alone.

    Patterns are paths of modules, "block1", or with wildcards, "block*/unit*": of units that are one loop over stacked
    parameters each is computed again by itself. What lies in a layer that is computed again is so once, whatever else
    fits. Raise ValueError, with the nearest name, for a pattern that fits none.
    """
    seen: dict[str, None] = {}
    inside = False

    def call(method: Callable[..., Any], arguments: tuple, keywords: dict, context: Any) -> Any:
        nonlocal inside
        name = "/".join(context.module.path)
        if name:
            seen[name] = None
        fits = context.method_name == "__call__" and any(fnmatchcase(name, pattern) for pattern in patterns)
        # A wildcard fits what lies in a layer too, which would be computed once more for each layer around it.
        if not fits or inside or not differentiated:
            return method(*arguments, **keywords)
        inside = True
        try:
            return nn.remat(lambda module, *inputs: module(*inputs, **keywords))(context.module, *arguments)
        finally:
            inside = False

    with nn.intercept_methods(call):
        outputs = forward()
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in seen):
            raise ValueError(f"remat names {pattern!r}, which the network does not have{nearest(pattern, seen)}")
    return outputs

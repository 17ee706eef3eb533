"""The base of all networks."""

from contextlib import suppress
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn

from classicnets.system import fields

# What Flax adds to a module's fields.
FLAX_FIELDS = ("parent", "name")


class Network(nn.Module):
    """A network of ours: its fields' values have one form each, so that equal networks are equal, and one hash.

    kind: the word that names the class in a run's identity. It is frozen: it began as the class's import path, and
    stays what it is when the class moves, or every recorded run would have another name.
    """

    kind: ClassVar[str]

    def __post_init__(self):
        fields.conform(self, skip=FLAX_FIELDS)
        dtype = getattr(self, "dtype", None)
        if dtype is not None:  # which NumPy takes for float64
            with suppress(TypeError, ValueError):  # `check` refuses what names no type
                object.__setattr__(self, "dtype", jnp.dtype(dtype))
        super().__post_init__()  # after which Flax allows no field to be set

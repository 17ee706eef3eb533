"""What a network may be, checked before it is: each refusal is one sentence with the field, the value, the choices."""

from typing import Any

import jax
import jax.numpy as jnp

from classicnets.models.network import FLAX_FIELDS
from classicnets.system import fields


def check_fields(network) -> None:
    """Raises ValueError, in one sentence, for a bad value of a field that the families share."""
    fields.check(network, skip=FLAX_FIELDS)
    if not 0 < network.width <= 1000:
        raise ValueError(f"width must be positive and at most 1000, got {network.width}")
    if not 1 <= network.min_depth < 2**16:
        raise ValueError(f"min_depth must be in [1, 65535], got {network.min_depth}")
    if network.num_classes is not None and not 1 <= network.num_classes < 2**24:
        raise ValueError(f"num_classes must be None or in [1, 2**24), got {network.num_classes}")
    if dtype_of(network.dtype) not in (jnp.float32, jnp.bfloat16, jnp.float64):
        raise ValueError(f"dtype must be float32, bfloat16 or float64, got {dtype_of(network.dtype).name}")
    if network.dtype == jnp.float64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("dtype float64 needs jax_enable_x64, which is off")
    if hasattr(network, "dropout") and not 0 <= network.dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {network.dropout}")


def dtype_of(value) -> Any:
    """The NumPy type that `value` names; ValueError if it names none."""
    try:
        assert value is not None  # which NumPy takes for float64
        return jnp.dtype(value)
    except (TypeError, AssertionError):
        raise ValueError(f"dtype must be float32, bfloat16 or float64, got {value!r}") from None


def check_size(images, smallest: int) -> None:
    """Raises ValueError if images are not [n, h, w, c], plainly [n, c, h, w], or smaller than `smallest` in h or w."""
    if images.ndim != 4:
        raise ValueError(f"images must be [n, h, w, c], got {images.ndim} axes")
    _, height, width, channels = images.shape
    # A map of so few rows can be real (1x1x512, 3x3x64), but then it has no more columns.
    if height in (1, 3, 4) and min(width, channels) > 4 and (width == channels or height == 3):
        raise ValueError(f"images must be [n, h, w, c], got {list(images.shape)}; move the channels last")
    if min(height, width) < smallest:
        raise ValueError(f"images must be at least {smallest}x{smallest} pixels, got {height}x{width}")


def check_head(network) -> None:
    """Raises ValueError, in one sentence, for a head that does not agree with the other fields."""
    if network.head is None and network.num_classes is not None:
        raise ValueError(f"num_classes must be None where head is None, got {network.num_classes}")
    if network.global_pool and network.head != "convolutional":
        raise ValueError(f"global_pool must be False unless head is 'convolutional', got True with {network.head!r}")


def check_depth(depth: int, step: int, rest: int):
    """Raises ValueError unless depth = step * n + rest."""
    if depth < step + rest or depth % step != rest:
        nearest = max(1, round((depth - rest) / step)) * step + rest
        raise ValueError(f"depth must be {step}n+{rest} with n >= 1, got {depth}; the nearest is {nearest}")

"""What a network may be, checked before it is: each refusal is one sentence with the field, the value, the choices."""

import dataclasses
import difflib
from collections.abc import Collection
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import jax
import jax.numpy as jnp

from classicnets.models.conv import ConvMethod
from classicnets.models.layers import ACTIVATIONS, Head


def nearest(word: str, choices) -> str:
    """The end of an error sentence: the choice most like `word`, or all of them."""
    match = difflib.get_close_matches(word, list(choices), n=1)
    return f"; the nearest is {match[0]!r}" if match else f"; choose from {', '.join(sorted(choices))}"


def require_choice(field: str, value, choices: Collection) -> None:
    """Raises ValueError, in one sentence, with the nearest of `choices`."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
        end = f"; the nearest is {near[0]!r}" if near and near[0] != value else ""
        raise ValueError(f"{field} must be one of {', '.join(map(str, choices))}, got {value!r}{end}")


def check_types(network) -> None:
    """Raises ValueError, in one sentence, for a field whose value is not of its annotation's type."""
    for field in dataclasses.fields(network):
        kinds = get_args(field.type) if get_origin(field.type) in (Union, UnionType) else (field.type,)
        value = getattr(network, field.name)
        if field.init and field.name not in ("parent", "name") and not any(_is_of(value, kind) for kind in kinds):
            words = " or ".join(_word(kind) for kind in kinds)
            raise ValueError(f"{field.name} must be {words}, got {value!r}")


def _is_of(value, kind) -> bool:
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return isinstance(value, str | int) and not isinstance(value, bool)  # which ones, `require_choice` says
    if get_origin(kind) is tuple:
        return isinstance(value, tuple | list) and all(_is_of(one, get_args(kind)[0]) for one in value)
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _word(kind) -> str:
    if get_origin(kind) is tuple:
        return f"a tuple of {_word(get_args(kind)[0])}"
    words = {int: "an integer", float: "a number", bool: "True or False", str: "a string", NoneType: "None"}
    return words.get(kind) or ", ".join(map(repr, get_args(kind)))


def check_fields(network) -> None:
    """Raises ValueError, in one sentence, for a bad value of a field that the families share."""
    check_types(network)
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
    require_choice("conv", network.conv, get_args(ConvMethod))
    if hasattr(network, "activation"):
        require_choice("activation", network.activation, ACTIVATIONS)
    if hasattr(network, "norm"):
        require_choice("norm", network.norm, ("batch", None))
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
    """Raises ValueError if images are not [n, h, w, c], or smaller than `smallest` in height or width."""
    if images.ndim != 4:
        raise ValueError(f"images must be [n, h, w, c], got {images.ndim} axes")
    if min(images.shape[1:3]) < smallest:
        height, width = images.shape[1:3]
        raise ValueError(f"images must be at least {smallest}x{smallest} pixels, got {height}x{width}")


def check_head(network) -> None:
    """Raises ValueError, in one sentence, for a head that `classify` does not have."""
    require_choice("head", network.head, (*get_args(Head), None))
    if network.head is None and network.num_classes is not None:
        raise ValueError(f"num_classes must be None where head is None, got {network.num_classes}")
    if network.global_pool and network.head != "convolutional":
        raise ValueError(f"global_pool must be False unless head is 'convolutional', got True with {network.head!r}")


def check_depth(depth: int, step: int, rest: int):
    """Raises ValueError unless depth = step * n + rest."""
    if depth < step + rest or depth % step != rest:
        nearest = max(1, round((depth - rest) / step)) * step + rest
        raise ValueError(f"depth must be {step}n+{rest} with n >= 1, got {depth}; the nearest is {nearest}")

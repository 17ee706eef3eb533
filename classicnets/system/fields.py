"""Dataclass fields and their annotations: values brought to a field's type, and refused where they are of none.

A dataclass calls `conform` in `__post_init__`, so that one value has one form (1 and 1.0, a list and a tuple, NumPy's
numbers and Python's), and `check` where a bad value should be told.
"""

import ast
import dataclasses
import inspect
import math
import textwrap
from collections.abc import Collection
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from classicnets.system.words import near

WORDS = {int: "an integer", float: "a number", bool: "True or False", str: "a string", NoneType: "None"}


@cache
def documentation(cls: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass: the string literal that stands below it in the source.

    A field without one is left out. Bases count, and a class's own docstring of a field before theirs.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if names & inspect.get_annotations(base).keys():
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            for field, text in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as literal)):
                        texts[name] = " ".join(literal.split())
    return texts


def conform(instance: Any, skip: Collection[str] = ()) -> None:
    """Bring the fields of a dataclass, but for `skip`, to their types; what does not fit stays, for `check` to refuse.

    To be called in `__post_init__`, in frozen dataclasses too. Never raises.
    """
    for field in dataclasses.fields(instance):
        if field.name not in skip:
            object.__setattr__(instance, field.name, converted(getattr(instance, field.name), field.type))


def check(instance: Any, skip: Collection[str] = ()) -> None:
    """Raise ValueError, in one sentence, for a field, but for `skip`, whose value is not one of its annotation.

    That is of the type, among the choices of a Literal, and if a number, finite and within 2**31 if whole.
    """
    for field in dataclasses.fields(instance):
        if field.name not in skip:
            _check_value(field.name, getattr(instance, field.name), field.type)


def converted(value: Any, annotation: Any) -> Any:
    """Return `value` as the annotation's type if it is one of its values in another form, else as it is.

    NumPy's and jax's scalars become Python's, a whole number a float where floats are wanted, -0.0 becomes 0.0, and a
    list or an array of one axis a tuple. A bool is never a number, a float never an integer, a string nothing else.
    """
    if annotation is Any:
        return value
    value = _python(value)
    if get_origin(annotation) in (Union, UnionType):
        options = [(converted(value, kind), kind) for kind in get_args(annotation)]
        return next((option for option, kind in options if fits(option, kind)), value)
    if get_origin(annotation) is tuple and isinstance(value, tuple | list):
        return tuple(converted(item, get_args(annotation)[0]) for item in value)
    if annotation is float and (type(value) is float or (type(value) is int and abs(value) < 2**1023)):
        return float(value) + 0.0  # which makes 0.0 of -0.0
    return value


def fits(value: Any, annotation: Any) -> bool:
    """Whether `value` is of the annotation's type, and among the choices of a Literal."""
    if annotation is Any:
        return True
    if get_origin(annotation) in (Union, UnionType):
        return any(fits(value, kind) for kind in get_args(annotation))
    if get_origin(annotation) is Literal:
        return _among(value, get_args(annotation))
    if get_origin(annotation) is tuple:
        return isinstance(value, tuple) and all(fits(item, get_args(annotation)[0]) for item in value)
    return type(value) is annotation if annotation in WORDS else isinstance(value, annotation)


def require_choice(name: str, value: Any, choices: Collection) -> None:
    """Raise ValueError, in one sentence, with the nearest of `choices` if one is near."""
    if not _among(value, choices):
        match = near(value, map(str, choices)) if isinstance(value, str) else None
        end = f"; the nearest is {match!r}" if match and match != value else ""
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {_shown(value)}{end}")


def _check_value(name: str, value: Any, annotation: Any) -> None:
    choices = _choices(annotation)
    if choices:
        require_choice(name, value, choices)
    if get_origin(annotation) is tuple and isinstance(value, tuple) and _choices(get_args(annotation)[0]):
        for item in value:
            require_choice(name, item, _choices(get_args(annotation)[0]))
    if not fits(value, annotation):
        raise ValueError(f"{name} must be {' or '.join(map(_word, _kinds(annotation)))}, got {_shown(value)}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"{name} must be finite, got {number}")
        if isinstance(number, int) and abs(number) >= 2**31:
            bound = "less than 2**31" if number > 0 else "more than -2**31"
            raise ValueError(f"{name} must be {bound}, got {_shown(number)}")


def _python(value: Any) -> Any:
    """The Python value of a NumPy or jax scalar, the list of an array's values along one axis, or `value` itself."""
    if isinstance(value, type) or not hasattr(value, "__array__"):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # a tracer has no value yet
        return value
    if array.ndim:
        return list(array) if array.ndim == 1 else value
    plain = array.item()
    return _shortest(array, float(plain)) if isinstance(plain, float | np.floating) else plain


def _shortest(scalar: np.ndarray, value: float) -> float:
    """The number of fewest digits that `scalar`'s type rounds to it: 0.1 of np.float32(0.1), which is 0.100000001..."""
    with np.errstate(over="ignore"):
        numbers = (float(f"{value:.{digits}g}") for digits in range(1, 17))
        return next((number for number in numbers if np.asarray(number).astype(scalar.dtype) == scalar), value)


def _among(value: Any, choices: Collection) -> bool:
    """Whether `value` is one of `choices`, where True is not 1 and 5.0 is not 5."""
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _kinds(annotation: Any) -> tuple:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _choices(annotation: Any) -> tuple:
    """A Literal's values, with None where it is optional; none for other annotations."""
    kinds = _kinds(annotation)
    values = tuple(value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind))
    return (*values, None) if values and NoneType in kinds else values


def _word(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"a tuple of {_word(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return ", ".join(map(repr, get_args(kind)))
    return WORDS.get(kind) or f"a {kind.__name__}"


def _shown(value: Any) -> str:
    """`value` on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."

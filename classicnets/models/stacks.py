"""Stacked units: those of equal shapes are one module, "units_2_5", whose arrays hold units 2 to 5 along axis 0.

Only this file knows how they are named, split into "unit_2" to "unit_5" and joined again. Trees are flat here:
{path: array}, a path being a tuple of names, ("params", "block2", "units_2_5", "conv1", "kernel").
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Path = tuple[str, ...]


def name_of(first: int, last: int) -> str:
    """Return the name of the module of the units `first` to `last`."""
    return f"unit_{first}" if first == last else f"units_{first}_{last}"


def units(path: Path) -> list[Path]:
    """Return the path of each unit's own array, in order; `path` itself if it is none of a stack."""
    for i, part in enumerate(path):
        if stack := re.fullmatch(r"units_(\d+)_(\d+)", part):
            numbers = range(int(stack[1]), int(stack[2]) + 1)
            return [(*path[:i], name_of(number, number), *path[i + 1 :]) for number in numbers]
    return [path]


def split(tree: Mapping[Path, Any]) -> dict[Path, Any]:
    """Return the tree with each unit of a stack under its own path."""
    apart = {}
    for path, array in tree.items():
        paths = units(path)
        apart |= {path: array} if paths == [path] else dict(zip(paths, array, strict=True))
    return apart


def join(tree: Mapping[Path, Any], paths: Iterable[Path]) -> dict[Path, Any]:
    """Return the tree whose arrays have the given `paths`, stacked where these say so: what `split` undoes."""
    return {
        path: tree[path] if units(path) == [path] else np.stack([tree[unit] for unit in units(path)]) for path in paths
    }

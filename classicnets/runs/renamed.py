"""What the layers of the CIFAR networks were called under NUMERICS 2, whose checkpoints are still read."""

import re
from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

# What a path holds now -> what it held there. Units of equal shapes were stacked, one alone too.
NAMES = (
    (r"^conv1(_norm)?/", r"stem\1/"),
    (r"^block1/units?_1(_\d+)?/", r"stage1/"),
    (r"^block(\d)/unit_1/", r"stage\1_first/"),
    (r"^block(\d)/units?_2(_\d+)?/", r"stage\1/"),
    (r"/shortcut(_norm)?/", r"/projection\1/"),
    (r"^logits/", "head/"),
)


def renamed(arrays: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tree `arrays` under the names of the tree of shapes `wanted`, or as it is if it has no older names."""
    old: dict[str, Any] = flatten_dict(arrays, sep="/")
    shapes: dict[str, Any] = flatten_dict(wanted, sep="/")
    former = {path: _former(path) for path in shapes}
    if old.keys() == shapes.keys() or old.keys() != set(former.values()):
        return arrays
    alone = re.compile(r"^(block1/unit_1|block\d/unit_2)/")
    new = {path: old[name][0] if alone.match(path) else old[name] for path, name in former.items()}
    return unflatten_dict(new, sep="/")


def _former(path: str) -> str:
    for now, then in NAMES:
        path = re.sub(now, then, path)
    return path

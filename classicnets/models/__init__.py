"""The networks by name: `create(name, **fields)`."""

import dataclasses
import re
from typing import Any

import jax.numpy as jnp

from classicnets.models import alexnet, inception_v1, inception_v2, inception_v3, resnet, resnet_v2, vgg
from classicnets.models.network import FLAX_FIELDS, Entry, Network
from classicnets.models.peers import ours
from classicnets.system.words import near, nearest

FAMILIES = (alexnet, vgg, inception_v1, inception_v2, inception_v3, resnet, resnet_v2)
ENTRIES: dict[str, Entry] = {name: entry for family in FAMILIES for name, entry in family.ENTRIES.items()}


def create(name: str, **fields: Any) -> Network:
    """Return the network `name` with `fields` set; raise ValueError with the nearest valid name, field or value."""
    known = [field for field, _, _ in fields_of(name)]
    for field in fields:
        if field not in known:
            raise ValueError(f"{name} has no field {field!r}{nearest(field, known)}")
    entry = ENTRIES[name]
    model = entry.network(**{**entry.fields, **fields})
    model.check()
    return model


def fields_of(name: str) -> list[tuple[str, Any, Any]]:
    """Return (name, type, default) of what can be set of a network; raise ValueError with the nearest name."""
    if name not in ENTRIES:
        raise ValueError(f"unknown model {name!r}; {_hint(str(name))}")
    entry = ENTRIES[name]
    return [
        (f.name, f.type, entry.fields.get(f.name, f.default))
        for f in dataclasses.fields(entry.network)
        if f.name not in FLAX_FIELDS
    ]


def input_size(name: str) -> int:
    """Return the height and width in pixels of the images that the network's paper uses."""
    return ENTRIES[name].size


def is_named(facts: dict[str, Any]) -> bool:
    """Return whether a run's record tells of one of these networks, by its kind."""
    return facts.get("module") in {entry.network.kind for entry in ENTRIES.values()}


def from_facts(facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return (name, fields) for `create`, of a network's identity in a run's record.

    Of several names that a network could have, the one that says most about it. Raise ValueError for a foreign module.
    """
    if not is_named(facts):
        raise ValueError(
            f"{facts['module']} is not one of classicnets' own networks: build it in Python and call train"
        )
    names = [name for name, entry in ENTRIES.items() if entry.network.kind == facts["module"]]

    def differing(name: str) -> int:
        return sum(f in facts and facts[f] != _recorded(default) for f, _, default in fields_of(name))

    name = min(names, key=lambda name: (differing(name), len(ENTRIES[name].fields), name))
    return name, {f: tuple(v) if isinstance(v, list) else v for f, v in facts.items() if f != "module"}


def _recorded(default: Any) -> Any:
    """Return a field's default as it is in a record."""
    if isinstance(default, tuple):
        return [_recorded(value) for value in default]
    return default.__name__ if default is jnp.float32 else default


def _hint(name: str) -> str:
    """Return what an unknown name may mean: a peer's network, or a misspelt one of ours.

    Names of one family differ in their numbers, so that one with another number is no misspelling, and neither is one
    with a suffix: resnet50d is another network.
    """
    network, fields = ours(name) or ("", {})
    if network in ENTRIES:
        call = "".join(f", {field}={value!r}" for field, value in fields.items())
        options = "".join(f" --{field} {value}" for field, value in fields.items())
        more = f": create({network!r}{call}), on the command line {network}{options}" if fields else ""
        return f"it is {network!r} here{more}"
    digits = re.findall(r"\d+", name)
    alike = [n for n in ENTRIES if not digits or (re.findall(r"\d+", n) == digits and not name.startswith(n))]
    match = near(name, alike)
    return f"the nearest is {match!r}" if match else "it is not among the networks, which 'classicnets models' lists"

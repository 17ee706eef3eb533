"""The networks by name."""

import dataclasses
import re
from functools import partial
from typing import Any

import jax.numpy as jnp

from classicnets.models import alexnet, inception_v1, inception_v2, inception_v3, resnet, resnet_v2, vgg
from classicnets.models.checks import dtype_of
from classicnets.models.peers import ours
from classicnets.system.words import near, nearest

FAMILIES: tuple[Any, ...] = (alexnet, vgg, inception_v1, inception_v2, inception_v3, resnet, resnet_v2)
MODELS: dict[str, Any] = {name: network for family in FAMILIES for name, network in family.NETWORKS.items()}
# Height and width of the images that the papers use, where they are not 224.
INPUT_SIZES: dict[str, int] = {k: v for family in FAMILIES for k, v in getattr(family, "INPUT_SIZES", {}).items()}


def create(name: str, **fields):
    """The network `name` with `fields` set; raises ValueError naming the nearest valid name or field."""
    known = [field for field, _, _ in fields_of(name)]
    for field in fields:
        if field not in known:
            raise ValueError(f"{name} has no field {field!r}{nearest(field, known)}")
    if isinstance(fields.get("dtype"), str):
        fields["dtype"] = dtype_of(fields["dtype"])
    fields = {field: tuple(value) if isinstance(value, list) else value for field, value in fields.items()}
    if isinstance(fields.get("branches"), tuple):
        order = {field: default for field, _, default in fields_of(name)}["branches"]
        if set(fields["branches"]) <= set(order):  # their order makes no other network
            fields["branches"] = tuple(sorted(fields["branches"], key=order.index))
    model = MODELS[name](**fields)
    model.check()
    return model


def fields_of(name: str) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of what can be set of a network; ValueError with the nearest name for an unknown one."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; {_hint(str(name))}")
    constructor, given = _opened(MODELS[name])
    return [
        (f.name, f.type, given.get(f.name, f.default))
        for f in dataclasses.fields(constructor)
        if f.init and f.name not in ("parent", "name")
    ]


def _hint(name: str) -> str:
    """Return what an unknown name may mean: a peer's network, or a misspelt one of ours.

    Names of one family differ in their numbers, so that one with another number is no misspelling, and neither is one
    with a suffix: resnet50d is another network.
    """
    network, fields = ours(name) or ("", {})
    if network in MODELS:
        call = "".join(f", {field}={value!r}" for field, value in fields.items())
        options = "".join(f" --{field} {value}" for field, value in fields.items())
        more = f": create({network!r}{call}), on the command line {network}{options}" if fields else ""
        return f"it is {network!r} here{more}"
    digits = re.findall(r"\d+", name)
    alike = [n for n in MODELS if not digits or (re.findall(r"\d+", n) == digits and not name.startswith(n))]
    match = near(name, alike)
    return f"the nearest is {match!r}" if match else "it is not among the networks, which 'classicnets models' lists"


def input_size(name: str) -> int:
    """Height and width of the images that the network's paper uses."""
    return INPUT_SIZES.get(name, 224)


def is_named(facts: dict) -> bool:
    """Return whether a run's record tells of one of these networks, by its kind."""
    return facts.get("module") in {_opened(network)[0].kind for network in MODELS.values()}


def from_facts(facts: dict) -> tuple[str, dict]:
    """(name, fields) for `create`, of a network's identity in a run's record; ValueError for a foreign module.

    Of several names that a network could have, the one that says most about it.
    """
    found = []
    for name, network in MODELS.items():
        constructor, given = _opened(network)
        if facts["module"] == constructor.kind:
            differing = [f for f, _, default in fields_of(name) if f in facts and facts[f] != _plain(default)]
            found.append((len(differing), len(given), name))
    if not found:
        raise ValueError(
            f"{facts['module']} is not one of classicnets' own networks: build it in Python and call train"
        )
    fields = {field: tuple(v) if isinstance(v, list) else v for field, v in facts.items() if field != "module"}
    return min(found)[2], fields


def _opened(network) -> tuple[Any, dict]:
    """(class, fields that the name fixes) of a class or a `partial` of one."""
    return (network.func, network.keywords) if isinstance(network, partial) else (network, {})


def _plain(value):
    """A default as it is in a record."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value.__name__ if value is jnp.float32 else value

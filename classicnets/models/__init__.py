"""The networks by name."""

import dataclasses
import difflib

import jax
import jax.numpy as jnp

from classicnets.models.resnet import CifarResNet

MODELS = {"cifar_resnet": CifarResNet}


def create(name: str, **fields):
    """The network `name` with `fields` set; raises ValueError naming the nearest valid name or field."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{nearest(name, MODELS)}")
    constructor = MODELS[name]
    known = [f.name for f in dataclasses.fields(constructor) if f.init and f.name not in ("parent", "name")]
    for field in fields:
        if field not in known:
            raise ValueError(f"{name} has no field {field!r}{nearest(field, known)}")
    if isinstance(fields.get("dtype"), str):
        fields["dtype"] = _dtype(fields["dtype"])
    model = constructor(**fields)
    model.check()
    return model


def from_facts(facts: dict) -> tuple[str, dict]:
    """(name, fields) for `create`, of a network's identity in a run's record; ValueError for a foreign module."""
    for name, constructor in MODELS.items():
        if facts["module"] == f"{constructor.__module__}:{constructor.__qualname__}":
            return name, {field: value for field, value in facts.items() if field != "module"}
    raise ValueError(f"{facts['module']} is not one of classicnets' own networks: build it in Python and call train")


def _dtype(name: str):
    try:
        return jnp.dtype(name)
    except TypeError:
        raise ValueError(f"dtype must be float32, bfloat16 or float64, got {name!r}") from None


def nearest(word: str, choices) -> str:
    """The end of an error sentence: the choice most like `word`, or all of them."""
    match = difflib.get_close_matches(word, list(choices), n=1)
    return f"; the nearest is {match[0]!r}" if match else f"; choose from {', '.join(sorted(choices))}"


def parameters(model, shape=(32, 32, 3)) -> int:
    """How many numbers are trained, for images of `shape`; nothing is compiled."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

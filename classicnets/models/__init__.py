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
    model = constructor(**fields)
    model.check()
    return model


def nearest(word: str, choices) -> str:
    """The end of an error sentence: the choice most like `word`, or all of them."""
    match = difflib.get_close_matches(word, list(choices), n=1)
    return f"; the nearest is {match[0]!r}" if match else f"; choose from {', '.join(sorted(choices))}"


def parameters(model, shape=(32, 32, 3)) -> int:
    """How many numbers are trained, for images of `shape`; nothing is compiled."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

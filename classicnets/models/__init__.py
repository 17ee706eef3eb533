"""The networks by name."""

import dataclasses
import difflib

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

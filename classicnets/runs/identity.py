"""What names a run: everything that decides its numbers, and nothing else.

    facts = {"numerics", "model", "data", "recipe", "seed"}, with "devices", "settings" and "parent" where they count
    name  = <label>-<the first 12 hexadecimal digits of SHA-256 over the facts as canonical JSON>

A network of ours is told by its `kind`, a word that never changes, and its fields; NUMERICS speaks for its code. Anyone
else's Flax module is told by a digest of the program that it computes (`training.program`): where its class lies, what
it is called and how it is written are recorded beside that, for building it again, and name nothing.

What cannot act on a run is no part of its name: it is recorded as the value in FIXED. A field that comes to a network
or a recipe is listed in ADDED with the value that the code before it implied, under a new SCHEMA. So a record of an
earlier version is read as what it computed, and a run keeps its name while the field has that value.
"""

import dataclasses
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from classicnets.runs import modules

# Bumped by hand when a change of the code alters the results of an unchanged configuration. 3: the layers of
# `cifar_resnet` have the names of the other residual networks', by which initial parameters are drawn; no other network
# computes anything else than under 2. 4: convolutions of a CPU and their gradients, and max pools', in another order.
NUMERICS = 4
# The version of a run's config.json.
SCHEMA = 7
# schema -> part of the record, or kind of the network -> field -> the value that was implied before.
ADDED: dict[int, dict[str, dict]] = {
    2: {
        "recipe": {"label_smoothing": 0.0, "auxiliary_weight": 0.3},
        "classicnets.models.resnet:CifarResNet": {
            "norm": "batch",
            "activation": "relu",
            "dropout": 0.0,
            "zero_init": False,
            "head": "pooled",
        },
    },
    3: {"data": {"image_size": None}},
    5: {
        "recipe": {
            "optimizer": "sgd",
            "decay_every": 2,
            "power": 0.5,
            "plateau_epochs": 5,
            "warmup_epochs": 0,
            "rmsprop_decay": 0.9,
            "rmsprop_epsilon": 1.0,
            "adam_b1": 0.9,
            "adam_b2": 0.999,
            "adam_epsilon": 1e-8,
            "rates": [],
            "ema_decay": None,
        }
    },
    6: {"data": {"crop": None, "scales": [], "flip": None, "colour": "none", "test_side": None}},
    7: {
        "data": {"mean": [], "deviation": []},
        "classicnets.models.alexnet:AlexNet": {"lrn_constants": "paper"},
        "classicnets.models.inception_v1:InceptionV1": {"lrn_constants": "paper"},
    },
}
# What a field that cannot act is recorded as: the defaults of the recipe when the first runs were named.
FIXED = {
    "epochs": 20,
    "step_factor": 0.1,
    "warmup_rate": 0.01,
    "momentum": 0.9,
    "nesterov": False,
    "decay": "all",
    "auxiliary_weight": 0.3,
    "decay_every": 2,
    "power": 0.5,
    "plateau_epochs": 5,
    "rmsprop_decay": 0.9,
    "rmsprop_epsilon": 1.0,
    "adam_b1": 0.9,
    "adam_b2": 0.999,
    "adam_epsilon": 1e-8,
}
# Keys of a record's "model" that are no field of the network.
BESIDE_FIELDS = ("module", "source_sha256", "program_sha256", "jax", "constructor")


def facts(
    model: dict,
    data: dict,
    recipe: dict,
    seed: int,
    devices: int | None = None,
    settings: Mapping[str, Any] | None = None,
    parent: dict | None = None,
    start: dict | None = None,
) -> dict:
    """Return all that decides a run's numbers, as JSON.

    model: from `describe`; data and recipe: from `acting_data` and `acting_recipe`. devices: their number where it
    changes the algorithm; settings: those of the process that may change numbers and are not the default; parent: the
    checkpoint that the run starts from; start: its weights of elsewhere, and layers taken, left fresh or frozen.
    """
    decided = {"numerics": NUMERICS, "model": model, "data": data, "recipe": recipe, "seed": seed}
    beside = {"devices": devices, "settings": settings, "parent": parent, "start": start}
    return json.loads(json.dumps({**decided, **{key: value for key, value in beside.items() if value}}))


def digest(facts: dict) -> str:
    """Return the first 12 hexadecimal digits of SHA-256 over what decides, without what was implied before."""
    facts = deciding(facts)
    for fields, part in _added(facts, 0):
        for field, implied in fields.items():
            if field in part and json.dumps(part[field]) == json.dumps(implied):
                del part[field]
    return _sha256(facts)


def deciding(facts: dict) -> dict:
    """Return a copy of `facts` without what is only recorded: of a module that its program names, all but that."""
    facts = {key: dict(part) if isinstance(part, dict) else part for key, part in facts.items()}
    if "program_sha256" in facts.get("model", {}):
        facts["model"] = {"program_sha256": facts["model"]["program_sha256"]}
    return facts


def belongs(facts: dict, name: str) -> bool:
    """Return whether a run of `facts` bears `name`; some of the first schema are named by all of their fields."""
    return any(name.endswith(f"-{named(facts)}") for named in (digest, _sha256))


def migrated(config: dict) -> dict:
    """Return `config` as this version writes it; raise ValueError for a schema that this version does not know."""
    schema = config.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ValueError(f"has schema {schema!r}, this version reads 1 to {SCHEMA}")
    config = {key: dict(part) if isinstance(part, dict) else part for key, part in config.items()}
    for fields, part in _added(config, schema):
        for field, implied in fields.items():
            part.setdefault(field, implied)
    return {**config, "schema": SCHEMA}


def is_ours(model) -> bool:
    """Return whether NUMERICS speaks for a network: its class is of this package and has a `kind` of its own.

    A subclass, or a copy of one of our files elsewhere, may compute anything.
    """
    cls = type(model)
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0] and "kind" in vars(cls)


def describe(model, program_sha256: str | None = None) -> dict:
    """Return what a record holds of a Flax module: {"module": kind, fields} of ours.

    Of any other {"module": import path, fields, "program_sha256", "jax": the version that traced the program,
    "constructor": what builds it again, None if nothing can}, of which `program_sha256` alone decides the name.
    """
    skip = {"parent", "name", "axis_name"}
    fields = {
        f.name: _plain(getattr(model, f.name))
        for f in dataclasses.fields(model)
        if f.init and f.name not in skip and not f.metadata.get("execution")
    }
    if is_ours(model):
        return {"module": model.kind, **fields}
    traced = {"program_sha256": program_sha256, "jax": version("jax"), "constructor": modules.constructor(model)}
    return {"module": modules.import_path(type(model)), **fields, **traced}


def acting_data(data: dict, own: Mapping[str, Any], crop: str) -> dict:
    """Return `data` with None, () for scales, for each field that cannot act or equals what that means.

    own: {field: its value where it is None}, of the data set; crop: what is seen of an image, the set's own or not.
    """
    scales = tuple(dict.fromkeys(data["scales"]))  # from a side to the same side is that side
    data = {**data, "scales": () if scales == own["scales"] else scales}
    if not data["augment"] and crop == "area":
        data["crop"] = "scale"  # whose central square is the same
    acts = {
        "scales": data["augment"] and crop == "scale",
        "flip": data["augment"],
        "colour": data["augment"],
        "test_side": crop != "shift",
    }
    blank = {"scales": (), "colour": "none"}
    return {
        field: blank.get(field) if not acts.get(field, True) or (field in own and value == own[field]) else value
        for field, value in data.items()
    }


def acting_recipe(recipe: dict, auxiliary: bool) -> dict:
    """Return `recipe` with FIXED values for what cannot act. auxiliary: whether the network has auxiliary heads."""
    schedule, optimizer = recipe["schedule"], recipe["optimizer"]
    acts = {
        "epochs": recipe["steps"] is None,
        "step_factor": schedule in ("step", "exponential", "plateau"),
        "decay_every": schedule == "exponential",
        "power": schedule == "polynomial",
        "plateau_epochs": schedule == "plateau",
        "warmup_rate": recipe["warmup_steps"] > 0,
        "momentum": optimizer != "adam",
        "nesterov": optimizer != "adam" and recipe["momentum"] > 0,
        **dict.fromkeys(("rmsprop_decay", "rmsprop_epsilon"), optimizer == "rmsprop"),
        **dict.fromkeys(("adam_b1", "adam_b2", "adam_epsilon"), optimizer == "adam"),
        "decay": recipe["weight_decay"] > 0,
        "auxiliary_weight": auxiliary,
    }
    return {field: value if acts.get(field, True) else FIXED[field] for field, value in recipe.items()}


def source_sha256(thing) -> str:
    """Return SHA-256 over the text of a class or function and of what it names in its own file.

    Runs of anyone's modules were named by it up to schema 3. Raise ValueError for a text that cannot be read.
    """
    texts: dict[str, str] = {}

    def add(thing) -> None:
        if thing.__qualname__ in texts:
            return
        texts[thing.__qualname__] = inspect.getsource(thing)
        if thing.__name__ == "<lambda>":  # a line can hold several
            code = thing.__code__
            texts[thing.__qualname__] += repr((code.co_code, code.co_consts, code.co_names))
        names = set(re.findall(r"[A-Za-z_]\w*", texts[thing.__qualname__]))
        for name, other in sorted(vars(sys.modules[thing.__module__]).items()):
            here = inspect.isclass(other) or inspect.isfunction(other)
            if name in names and here and other.__module__ == thing.__module__:
                add(other)

    try:
        add(thing)
    except (OSError, TypeError):
        raise ValueError(f"the source of {thing.__qualname__} cannot be read") from None
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def _plain(value) -> Any:
    """Return a field's value as JSON: what is more than a number or a word by its name."""
    import numpy as np

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if type(value).__name__ == "_ScalarMeta":  # jnp.float32 and its like
        return value.__name__
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, partial):
        return {"partial": [_plain(part) for part in (value.func, value.args, value.keywords)]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name not in ("parent", "name")}
        return {"module": modules.import_path(type(value)), **{name: _plain(v) for name, v in fields.items()}}
    return modules.import_path(value)


def _sha256(facts: dict) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _added(facts: dict, since: int):
    """Yield (fields that came after schema `since`, the part of `facts` that holds them)."""
    model = facts.get("model", {})
    parts = {"recipe": facts.get("recipe"), "data": facts.get("data"), model.get("module"): model}
    for schema, added in ADDED.items():
        for where, fields in added.items():
            if schema > since and isinstance(parts.get(where), dict):
                yield fields, parts[where]

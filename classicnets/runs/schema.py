"""The version of a run's config.json, what earlier versions lack, and the name that follows from it.

A field that comes to a network or a recipe is listed here with the value that the code before it implied, under a new
SCHEMA. So a record of an earlier version is read as what it computed, and a run keeps its name while the field has
that value: nothing is trained again.
"""

import hashlib
import json

SCHEMA = 3
# schema -> part of the record, or class of the network -> field -> the value that was implied before.
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
}


def identity(facts: dict) -> str:
    """The first 12 hexadecimal digits of SHA-256 over `facts` as canonical JSON, without what was implied before."""
    facts = {key: dict(part) if isinstance(part, dict) else part for key, part in facts.items()}
    for fields, part in _added(facts, 0):
        for field, implied in fields.items():
            if field in part and json.dumps(part[field]) == json.dumps(implied):
                del part[field]
    return _digest(facts)


def belongs(facts: dict, name: str) -> bool:
    """Whether a run of `facts` bears `name`; some of the first schema are named by all of their fields."""
    return any(name.endswith(f"-{digest(facts)}") for digest in (identity, _digest))


def migrated(config: dict) -> dict:
    """`config` as this version writes it; ValueError for a schema that this version does not know."""
    schema = config.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ValueError(f"has schema {schema!r}, this version reads 1 to {SCHEMA}")
    config = {key: dict(part) if isinstance(part, dict) else part for key, part in config.items()}
    for fields, part in _added(config, schema):
        for field, implied in fields.items():
            part.setdefault(field, implied)
    return {**config, "schema": SCHEMA}


def _digest(facts: dict) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _added(facts: dict, since: int):
    """(fields that came after schema `since`, the part of `facts` that holds them)."""
    model = facts.get("model", {})
    parts = {"recipe": facts.get("recipe"), "data": facts.get("data"), model.get("module"): model}
    for schema, added in ADDED.items():
        for where, fields in added.items():
            if schema > since and isinstance(parts.get(where), dict):
                yield fields, parts[where]

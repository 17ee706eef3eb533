"""Weights that were imported, in one file: safetensors with our names, and all that belongs to them in its metadata.

    params/block1/unit_1/conv1/kernel   a leaf, units apart
    extras/bn1.num_batches_tracked      what our variables do not give back of the source's arrays
    preprocessing/pixel_mean            of those whose images lose each pixel's mean

The metadata, under "classicnets", is JSON: the network and its fields, the source and the SHA-256 of its file, the
names and types of its arrays in order, preprocessing, classes, and the SHA-256 of all that and of the arrays.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save

from classicnets.models import create, stacks
from classicnets.models.features import first_kernel
from classicnets.system import writing
from classicnets.weights import convert, files
from classicnets.weights.classes import classes_of
from classicnets.weights.preprocessing import Preprocessing
from classicnets.weights.sources import SOURCES, recognise

METADATA, FORM, CHECKSUM = "classicnets", 1, "checksum"
PIXEL_MEAN = "preprocessing/pixel_mean"


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a network: its name and fields, variables, where they come from, and what they go with."""

    name: str
    fields: Mapping[str, Any]
    variables: Mapping[str, Any] = field(repr=False)
    source: str
    sha256: str
    """Of the source's file."""
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None = field(default=None, repr=False)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def facts(self) -> dict[str, Any]:
        """Return what is told beside every result."""
        return {
            "model": self.name,
            "fields": dict(self.fields),
            "source": self.source,
            "sha256": self.sha256,
            "preprocessing": self.preprocessing.facts(),
        }

    def arrays(self, source: str | None = None) -> dict[str, np.ndarray]:
        """Return the arrays of a source, by default that which they came from, of which they are the arrays to the bit.

        Where only the order of colours differs, the first layer is turned. Raise ValueError for a source that does not
        have the network, or gives it other images than these weights were trained for.
        """
        if source in (None, self.source):
            table, kept = SOURCES[self.source], {"extras": self.extras, "keys": self.keys}
            return convert.arrays(table, self.name, self.variables, **kept, **self.fields)
        table = SOURCES[source]
        table.require(self.name)
        there = table.preprocessing(self.name, "")
        turned = there.channels != self.preprocessing.channels
        if self.preprocessing.needs_pixel_mean or moments(there, turned) != moments(self.preprocessing, False):
            raise ValueError(
                f"{source} gives its networks other images ({there.sentence()}) than these weights of {self.source} "
                f"were trained for ({self.preprocessing.sentence()})"
            )
        variables = with_turned_colours(self.variables) if turned else self.variables
        return convert.arrays(table, self.name, variables, **self.fields)


def moments(before: Preprocessing, turned: bool) -> tuple[tuple[float, ...], ...]:
    """Return what pixels lose and are divided by, in 0 to 255; turned: in the other order of colours."""
    scaled = (tuple(round(value * before.divisor, 3) for value in of) for of in (before.mean, before.deviation))
    return tuple(of[::-1] if turned else of for of in scaled)


def with_turned_colours(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables whose first kernel reads its three colours in the other order."""
    flat: dict[Any, Any] = flatten_dict(dict(variables))
    path = ("params", *first_kernel(variables["params"]))
    return unflatten_dict({**flat, path: flat[path][..., ::-1, :]})


def load(path: Path, source: str | None = None, model: str | None = None, **fields: Any) -> Weights:
    """Return the weights in a file: one that `store` wrote, or a source's.

    source, model, fields: what is known of it, needed where names and shapes do not tell. Raise ValueError, in one
    sentence, for a file that cannot be read, or whose network is not told or not one of ours.
    """
    path = files.located(path)
    if path.suffix == ".safetensors" and path.is_file() and (stored := _metadata(path)) is not None:
        return _stored(path, stored, source, model, fields)
    arrays = files.read(path)
    sha256 = files.sha256(path)
    try:
        found = recognise(arrays, sha256, source, model, **fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Weights(
        found.name,
        found.fields,
        jax.tree.map(np.float32, found.imported.variables),
        found.source.name,
        sha256,
        found.source.preprocessing(found.name, sha256, path.parent),
        classes_of(found.name, create(found.name, **found.fields).num_classes),
        found.imported.extras,
        found.imported.keys,
    )


def store(weights: Weights, path: Path) -> None:
    """Write weights to one file; raise ValueError for another suffix, WriteFailed where it cannot be written."""
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are stored as .safetensors, got {path}")
    leaves = stacks.split(flatten_dict(dict(weights.variables)))
    arrays: dict[str, np.ndarray] = {"/".join(leaf): np.asarray(array, np.float32) for leaf, array in leaves.items()}
    arrays |= {f"extras/{key}": np.asarray(array) for key, array in weights.extras.items()}
    if weights.preprocessing.pixel_mean is not None:
        arrays[PIXEL_MEAN] = weights.preprocessing.pixel_mean.astype(np.float64)
    facts = {**weights.facts(), "form": FORM, "classes": weights.classes, "keys": weights.keys}
    arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    content = save(arrays, {METADATA: json.dumps({**facts, CHECKSUM: _checksum(facts, arrays)})})
    path.parent.mkdir(parents=True, exist_ok=True)
    writing.replace(path, content)


def _metadata(path: Path) -> dict[str, Any] | None:
    """Return what `store` wrote beside the arrays, None for somebody else's file."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(METADATA)
    except Exception as error:
        raise ValueError(f"{path} was refused: {str(error).splitlines()[0][:200]}") from None
    if text is None:
        return None
    try:
        facts = json.loads(text)
        if facts["form"] != FORM:
            raise ValueError(f"form {facts['form']!r}")
        return facts
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} was refused: its metadata is damaged ({error})") from None


def _stored(
    path: Path, facts: Mapping[str, Any], source: str | None, model: str | None, fields: Mapping[str, Any]
) -> Weights:
    arrays = files.read(path)
    signed = {key: value for key, value in facts.items() if key != CHECKSUM}
    if facts.get(CHECKSUM) != _checksum(signed, arrays):
        raise ValueError(f"{path} was refused: its checksum does not match")
    try:
        name, known, origin = str(facts["model"]), _tuples(facts["fields"]), str(facts["source"])
        for what, given, told in (("source", source, origin), ("model", model, name)):
            if given not in (None, told):
                raise ValueError(f"{what} is {told!r} in this file, got {given!r}")
        if wrong := next((key for key, value in fields.items() if known.get(key) != value), None):
            raise ValueError(f"{wrong} is {known.get(wrong)!r} in this file, got {fields[wrong]!r}")
        if origin not in SOURCES:
            raise ValueError(f"its source {origin!r} is unknown")
        shapes = convert.shapes_of(name, known)
        paths = {path for stack in shapes for path in stacks.units(stack)}
        leaves = {path: arrays.pop("/".join(path)) for path in paths if "/".join(path) in arrays}
        if missing := sorted("/".join(path) for path in paths - leaves.keys()):
            raise ValueError(f"it lacks {missing[0]}")
        extras = {key.removeprefix("extras/"): arrays.pop(key) for key in list(arrays) if key.startswith("extras/")}
        before = Preprocessing.of_facts(facts["preprocessing"], arrays.pop(PIXEL_MEAN, None))
        if arrays:
            raise ValueError(f"it has no place for {next(iter(arrays))!r}")
        joined = stacks.join(leaves, shapes)
        for leaf, shape in shapes.items():
            if joined[leaf].shape != shape.shape or joined[leaf].dtype != np.float32:
                raise ValueError(f"{'/'.join(leaf)} must be float32 {list(shape.shape)}")
            if not np.isfinite(joined[leaf]).all():
                raise ValueError(f"{'/'.join(leaf)} holds numbers that are not finite")
        classes = facts["classes"]
        return Weights(
            name,
            known,
            unflatten_dict(joined),
            origin,
            str(facts["sha256"]),
            before,
            tuple(map(str, classes)) if classes is not None else None,
            extras,
            {str(key): str(kind) for key, kind in facts["keys"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} was refused: its metadata is damaged ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _checksum(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of what is told, as canonical JSON, and of the arrays by name with types and shapes."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    # JSON has lists where Python has tuples, and the order of keys counts.
    digest.update(json.dumps(list(facts.get("keys", ()))).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}

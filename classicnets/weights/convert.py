"""Another library's arrays as variables of our networks, and back, to the bit.

A `Source` is a library: where each leaf of a network of ours stands among its arrays (`Place`), and which networks its
names could be. This file does the rest: units are split and stacked, what is left over, missing or of another shape is
an error that names it, and what our variables cannot give back (a counter of batches, a variance whose last bit an
epsilon takes) is kept beside them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from classicnets.models import ENTRIES, create, input_size, stacks
from classicnets.models.inception import InceptionNetwork
from classicnets.models.network import Network
from classicnets.models.norm import BatchNorm
from classicnets.models.stacks import Path
from classicnets.system.words import nearest
from classicnets.weights.preprocessing import Preprocessing

Arrays = Mapping[str, np.ndarray]
Layout = Callable[[np.ndarray], np.ndarray]
# How many names a sentence gives of those that are wrong.
SHOWN = 3
# What `Imported.keys` says of an array that has no place.
KEPT = "kept"


class Place(NamedTuple):
    """Where a leaf of ours stands in a source: the key, and what makes of its array ours and of ours its."""

    key: str
    ours: Layout = np.asarray
    theirs: Layout = np.asarray


class Fit(NamedTuple):
    """A network that arrays could be: its name here and the fields that set it so."""

    name: str
    fields: dict[str, Any]


def nothing(arrays: Arrays) -> Arrays:
    """Return the arrays as they are."""
    return arrays


@dataclass(frozen=True)
class Source:
    """A library whose weights are read.

    name: what it is called. networks: a pattern of our names of those that it has. place: the Place of a leaf, by its
    path, unit by unit, the network and the source's keys. guess: the networks that arrays could be, by their names.
    preprocessing: what its images go through, by our name, the SHA-256 of the file and its folder. ignored: a pattern
    of keys that no network of ours has a place for and that change no output. prepared: what is computed between arrays
    before they have places. keeps: whether networks of ours can be written in its form. shared: whether others use its
    names with other moments, so that a file that is not a known one must be told to be its own.
    """

    name: str
    networks: str
    place: Callable[[Path, Network, Sequence[str]], Place]
    guess: Callable[[Arrays], list[Fit]]
    preprocessing: Callable[..., Preprocessing]
    ignored: str = "$."
    prepared: Callable[[Arrays], Arrays] = nothing
    keeps: bool = True
    shared: bool = False

    def has(self, name: str) -> bool:
        """Return whether the weights of our network `name` are read from this source."""
        return bool(re.fullmatch(self.networks, name))

    def require(self, name: str) -> None:
        """Raise ValueError, with the nearest name, for a network that the source does not have."""
        if not self.has(name):
            raise ValueError(f"{self.name} has no {name!r}{nearest(name, [n for n in ENTRIES if self.has(n)])}")


class Imported(NamedTuple):
    """What an import gives: variables of ours, and what these do not give back of the source's arrays.

    extras: arrays. keys: all names in order, with the type of an array that has another than ours, KEPT for one without
    a place, else "".
    """

    variables: dict[str, Any]
    extras: dict[str, np.ndarray]
    keys: dict[str, str]


def shapes_of(name: str, fields: Mapping[str, Any]) -> dict[Path, Any]:
    """Return {path: shape and type} of a network's variables, stacks as they are; nothing is computed."""
    hashable = {field: tuple(value) if isinstance(value, list) else value for field, value in fields.items()}
    return dict(_shapes(name, tuple(sorted(hashable.items()))))


@lru_cache
def _shapes(name: str, fields: tuple[tuple[str, Any], ...]) -> dict[Path, Any]:
    model, size = create(name, **dict(fields)), input_size(name)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return flatten_dict(jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images))


def variables(source: Source, name: str, arrays: Arrays, **fields: Any) -> Imported:
    """Return the variables of `create(name, **fields)` from a source's arrays, which keep float32 and float64.

    Raise ValueError, in one sentence that names them, for arrays that are missing, left over, of another shape, not
    finite or of integers.
    """
    source.require(name)
    shapes = shapes_of(name, fields)
    places = _places(source, create(name, **fields), shapes, tuple(arrays))
    try:
        prepared = source.prepared(arrays)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"these are not {source.name}'s weights of {name}: {error}") from None
    missing = sorted(place.key for place in places.values() if place.key not in prepared)
    used = {place.key for place in places.values()}
    unplaced = prepared.keys() - used
    unused = sorted(key for key in unplaced if not re.search(source.ignored, key))
    leaves, odd = {}, []
    for path, shape in jax.eval_shape(stacks.split, shapes).items():
        key, ours, _ = places[path]
        if key not in prepared:
            continue
        leaf = _converted(ours, np.asarray(prepared[key]))
        if leaf is None or leaf.shape != shape.shape:
            odd.append(f"{key!r} {list(np.shape(prepared[key]))} for {'/'.join(path)} {list(shape.shape)}")
        else:
            leaves[path] = _numbers(key, leaf)
    told = [
        f"{what} {', '.join(map(str, names[:SHOWN]))}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
        for what, names in (
            ("missing", [repr(key) for key in missing]),
            ("without a place", [repr(key) for key in unused]),
            ("of another shape", odd),
        )
        if names
    ]
    if told:
        raise ValueError(f"these are not {source.name}'s weights of {name}: {'; '.join(told)}")
    # Of what our variables are stored as.
    back = {places[path].key: places[path].theirs(leaf.astype(np.float32)) for path, leaf in leaves.items()}
    keys = {
        key: KEPT if key in unplaced else "" if array.dtype == np.float32 else array.dtype.name
        for key, array in arrays.items()
    }
    extras = {
        key: array
        for key, array in arrays.items()
        if key not in back or not _same(back[key].astype(array.dtype), np.asarray(array))
    }
    return Imported(unflatten_dict(stacks.join(leaves, shapes)), extras, keys)


def arrays(
    source: Source,
    name: str,
    variables: Mapping[str, Any],
    extras: Arrays | None = None,
    keys: Mapping[str, str] | None = None,
    **fields: Any,
) -> dict[str, np.ndarray]:
    """Return a source's arrays from variables of `create(name, **fields)`: what `Imported` came from, in its order.

    extras, keys: of the import; an extra counts as long as the variables are what was made of it. Raise ValueError for
    a network that the source does not have.
    """
    keys, extras = keys or {}, dict(extras or {})
    if not source.keeps and not keys:
        raise ValueError(f"{source.name}'s form is read and not written")
    source.require(name)
    flat = flatten_dict(dict(variables))
    places = _places(source, create(name, **fields), flat, tuple(keys))
    leaves, held = stacks.split(flat), {}
    for path, leaf in leaves.items():
        place = places[path]
        array = np.ascontiguousarray(place.theirs(np.asarray(leaf)))
        narrow = array.astype(np.dtype(keys.get(place.key) or array.dtype))
        # Variables that were changed since may not be numbers of the type that the source had.
        held[place.key] = narrow if np.array_equal(narrow.astype(array.dtype), array) else array
    prepared = source.prepared(_in_order(held | extras, keys))
    for path, leaf in leaves.items():
        key, ours, _ = places[path]
        if not np.array_equal(np.float32(ours(np.asarray(prepared[key]))), np.float32(leaf)):
            if source.prepared is not nothing:
                raise ValueError(f"{'/'.join(path)} is not what was imported, and {source.name}'s form is not written")
            extras.pop(key, None)
    return _in_order(held | extras, keys)


def _in_order(arrays: Arrays, keys: Mapping[str, str]) -> dict[str, np.ndarray]:
    return {key: arrays[key] for key in keys if key in arrays} | dict(arrays)


def _places(source: Source, model: Network, shapes: Mapping[Path, Any], keys: tuple[str, ...]) -> dict[Path, Place]:
    """Return the Place of each leaf; raise ValueError for a network that the source does not have."""
    places = {}
    for path in (unit for stack in shapes for unit in stacks.units(stack)):
        try:
            places[path] = source.place(path, model, keys)
        except (KeyError, IndexError, AttributeError):
            raise ValueError(f"{source.name} has no place for {'/'.join(path)} of {type(model).__name__}") from None
    return places


def _converted(layout: Layout, array: np.ndarray) -> np.ndarray | None:
    """Return the array in our layout, None where its number of axes or its size do not allow that."""
    try:
        return layout(array)
    except (ValueError, IndexError, TypeError):
        return None


def _numbers(key: str, array: np.ndarray) -> np.ndarray:
    """Return an array of finite numbers in float32 at least."""
    if array.dtype.kind not in "fV" and array.dtype.name != "bfloat16":
        raise ValueError(f"{key!r} must hold floating-point numbers, got {array.dtype}")
    wide = array.astype(np.float64 if array.dtype == np.float64 else np.float32)
    if not np.isfinite(wide).all():
        raise ValueError(f"{key!r} holds {np.size(wide) - np.isfinite(wide).sum():,} numbers that are not finite")
    return wide


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == np.ascontiguousarray(b).tobytes()


def epsilon_of(model: Network) -> float:
    """Return what our batch norms of a network add to the variance."""
    return 1e-3 if isinstance(model, InceptionNetwork) else BatchNorm.epsilon


def folded(key: str, theirs: float, ours: float) -> Place:
    """Return the place of a variance to which the source adds `theirs` and we `ours`; computed in float64."""
    if theirs == ours:
        return Place(key)

    def moved(by: float) -> Layout:
        return lambda var: (np.asarray(var, np.float64) + by).astype(var.dtype)

    return Place(key, moved(theirs - ours), moved(ours - theirs))


def convolution(key: str) -> Place:
    """Return the place of a kernel [o, i, h, w], ours [h, w, i, o]."""
    return Place(key, lambda kernel: kernel.transpose(2, 3, 1, 0), lambda kernel: kernel.transpose(3, 2, 0, 1))


def matrix(key: str) -> Place:
    """Return the place of a dense kernel [o, i], ours [i, o]."""
    return Place(key, _transposed, _transposed)


def after_map(key: str, window: int) -> Place:
    """Return the place of a dense kernel [o, c * h * w] after a map of window x window, ours [h, w, c, o]."""

    def theirs(kernel: np.ndarray) -> np.ndarray:
        return kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)

    return Place(key, lambda weight: weight.reshape(len(weight), -1, window, window).transpose(2, 3, 1, 0), theirs)


def _transposed(weight: np.ndarray) -> np.ndarray:
    if weight.ndim != 2:
        raise ValueError("a matrix has two axes")
    return weight.T

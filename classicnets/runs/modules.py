"""A Flax module as JSON, and built again: for the worker of a sweep, or from the record of a run.

A value that is more than a number or a word is an object with one key, which says what it is: {"tuple": [...]},
{"dict": ...}, {"dtype": name}, {"run": directory}, {"partial": [function, arguments, keywords]},
{"import": "module:name"}, and {"call": [class, {field: value}]} of a module or another dataclass.
"""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Where the functions that a record may name lie, beside the user's own code: activations, initialisers, operations.
LIBRARIES = ("jax.nn", "jax.numpy", "jax.lax", "jax._src.nn", "jax._src.numpy", "jax._src.lax", "flax.linen")


def import_path(thing: Any) -> str:
    """Return "module:name" of a class or function, or of a value's type."""
    if not isinstance(getattr(thing, "__module__", None), str):
        thing = type(thing)
    return f"{thing.__module__}:{getattr(thing, '__qualname__', getattr(thing, '__name__', type(thing).__qualname__))}"


def written(value: Any) -> Any:
    """Return a module, or a value of one of its fields, as JSON.

    Raise ValueError for what another process could not build.
    """
    import numpy as np

    from classicnets.runs.run import Run  # which names runs by what this module writes

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return {type(value).__name__: [written(v) for v in value]}
    if isinstance(value, Mapping):
        return {"dict": {k: written(v) for k, v in value.items()}}
    if isinstance(value, functools.partial):
        return {"partial": [written(part) for part in (value.func, value.args, value.keywords)]}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, Run):
        return {"run": str(value.path.absolute())}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        if "parent" in fields:  # a Flax module's place in another one
            fields = [name for name in fields if name not in ("parent", "name")]
        return {"call": [written(type(value)), {name: written(getattr(value, name)) for name in fields}]}
    if type(value).__name__ == "_ScalarMeta":  # jnp.float32 and its like
        return {"dtype": value.__name__}
    path = import_path(value)
    try:
        importable = not path.startswith("__main__:") and _imported(path) is value
    except (ImportError, AttributeError, ValueError):
        importable = False
    if not importable:
        what = "class" if inspect.isclass(value) else "value"
        raise ValueError(f"the {what} {path} cannot be imported by a worker: put it in a file of its own")
    return {"import": path}


def built(value: Any) -> Any:
    """Return what `written` wrote, importing what it names: for text of one's own, as a sweep's worker has it."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](built(v) for v in content)
    if kind == "dict":
        return {k: built(v) for k, v in content.items()}
    if kind == "partial":
        function, arguments, keywords = map(built, content)
        return functools.partial(function, *arguments, **keywords)
    if kind == "dtype":
        return getattr(importlib.import_module("jax.numpy"), content)
    if kind == "run":
        return importlib.import_module("classicnets.runs.run").Run(Path(content))
    if kind == "call":
        return built(content[0])(**{name: built(v) for name, v in content[1].items()})
    return _imported(content)


def constructor(model: Any) -> dict | None:
    """Return what builds `model` again, None for a class or a value that has no place to import it from."""
    try:
        return written(model)
    except ValueError:
        return None


def rebuilt(facts: Mapping[str, Any], run: str) -> Any:
    """Return the Flax module of somebody's own that a record tells of; `run`: whose it is.

    A record may come from a stranger, so it chooses nothing but a Flax module on the reader's own sys.path, with fields
    of numbers, words, dataclasses and functions of the reader's own files, of jax and of flax. What is imported is told
    first. Raise ValueError, in one sentence, for anything else.
    """
    module = str(facts.get("module"))
    text = facts["constructor"] if "constructor" in facts else _of_fields(facts)
    if module.startswith("__main__:") or text is None:
        raise ValueError(
            f"{module} of {run} was defined where nothing can be imported from (a script that ran as __main__, a "
            "notebook, a function): put the class in a file of its own, import it from there and train it again"
        )
    try:
        cls, own = text["call"][0]["import"], module.partition(":")[0].partition(".")[0]
        paths = list(_paths(text))
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, RecursionError):
        raise ValueError(f"the constructor in the record of {run} is damaged") from None
    origin = _origin(cls, run)
    for path in paths[1:]:
        _require_own(path, own, run)
    warnings.warn(f"importing {cls} from {origin}, which the record of {run} names", stacklevel=2)
    from flax import linen as nn

    try:
        found = _imported(cls)
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise ValueError(f"{cls}, which the record of {run} names, is not a Flax module")
        for path in _calls(text):
            if not (isinstance(_imported(path), type) and dataclasses.is_dataclass(_imported(path))):
                raise ValueError(f"{path}, which the record of {run} names, is not a dataclass")
        return built(text)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"{cls}, which the record of {run} names, cannot be built here: {error}") from None


def _of_fields(facts: Mapping[str, Any]) -> dict | None:
    """Return a constructor from the fields of a record that has none, if they are numbers, words and lists of them."""
    beside = ("module", "source_sha256", "program_sha256", "jax", "constructor")
    fields = {name: value for name, value in facts.items() if name not in beside}

    def simple(value: Any) -> bool:
        return value is None or isinstance(value, bool | int | float | str)

    if "<locals>" in str(facts.get("module")) or not all(
        simple(v) or (isinstance(v, list) and all(map(simple, v))) for v in fields.values()
    ):
        return None
    values = {name: {"tuple": v} if isinstance(v, list) else v for name, v in fields.items()}
    return {"call": [{"import": facts["module"]}, values]}


def _paths(value: Any) -> Iterator[str]:
    """Yield every import path of a text, in order."""
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "import":
            yield str(content)
        elif kind == "call":
            yield from _paths(content[0])
            for one in content[1].values():
                yield from _paths(one)
        elif kind == "dict":
            for one in content.values():
                yield from _paths(one)
        elif kind in ("tuple", "list", "partial"):
            for one in content:
                yield from _paths(one)
        elif kind != "dtype":
            raise ValueError(kind)


def _calls(value: Any) -> Iterator[str]:
    """Yield the import path of every class that a text calls."""
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "call":
            yield content[0]["import"]
            content = list(content[1].values())
        for one in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
            yield from _calls(one)


def _origin(path: str, run: str) -> str:
    """Return where the top-level package of an import path lies; raise ValueError if it is nowhere, or Python's own."""
    top = path.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(top) if top and top != "__main__" else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ValueError(
            f"{path}, which the record of {run} names, cannot be imported here: start in its folder with 'python -m "
            "classicnets', or name that folder in PYTHONPATH"
        )
    if top in sys.stdlib_module_names:
        raise ValueError(f"{path}, which the record of {run} names, is of Python itself and no Flax module")
    return spec.origin or ", ".join(spec.submodule_search_locations or [top])


def _require_own(path: str, own: str, run: str) -> None:
    """Raise ValueError unless an import path is of the package `own`, of LIBRARIES, or of a file that is no library."""
    module = path.partition(":")[0]
    if module.partition(".")[0] in (own, "classicnets") or module.startswith(LIBRARIES):
        return
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    origin = Path(_origin(path, run)).resolve()
    if any(origin.is_relative_to(place) for place in installed):
        raise ValueError(f"{path}, which the record of {run} names, is neither of jax, of flax nor your own code")


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))

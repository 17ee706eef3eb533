"""A job is one run to be trained, a task one or several packed, and its text travels to the process that trains it."""

import dataclasses
import functools
import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from classicnets.data import load
from classicnets.runs import Run
from classicnets.training import Config, Execution, facts
from classicnets.training.pack import SCALARS
from classicnets.training.step import require_batch

# One device a run: a sweep is parallel over its runs, and the device count must not hang on which machine trains one.
ALONE = Execution(devices=1)


@dataclass(frozen=True)
class Job:
    """One run: a Flax module and its configuration, under `<runs>/<experiment>/<name>-<hash>`."""

    model: Any
    config: Config
    name: str
    experiment: str = "sweep"
    execution: Execution = field(default=ALONE)

    def run(self, root: Path) -> Run:
        """The run, whether it has begun or not; ValueError for a bad configuration."""
        self.config.check()
        self.execution.check()
        require_batch(self.config.recipe, load(self.config.data))
        return Run.of(root, self.experiment, self.name, facts(self.model, self.config, self.execution))


def text(task: Sequence[Job]) -> str:
    """The jobs of a task as one line of JSON; ValueError for a module that another process could not build."""
    return json.dumps([_written(job) for job in task], allow_nan=False)


def read(line: str) -> list[Job]:
    """The jobs of a task's text."""
    return [_built(job) for job in json.loads(line)]


def packable(job: Job) -> str:
    """What jobs have in common that can be one pack: all but name, seed and SCALARS of the recipe."""
    recipe = dataclasses.replace(job.config.recipe, **dict.fromkeys(SCALARS, 0.0))
    return text([dataclasses.replace(job, config=dataclasses.replace(job.config, seed=0, recipe=recipe), name="")])


def _written(value: Any) -> Any:
    """A field's value as JSON: what is more than a number or a word is an object with one key, that says what it is."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_written(v) for v in value]}
    if isinstance(value, Mapping):
        return {"dict": {k: _written(v) for k, v in value.items()}}
    if isinstance(value, functools.partial):
        return {"partial": [_written(part) for part in (value.func, value.args, value.keywords)]}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        if "parent" in fields:  # a Flax module's place in another one
            fields = [name for name in fields if name not in ("parent", "name")]
        return {"call": [_written(type(value)), {name: _written(getattr(value, name)) for name in fields}]}
    path = f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', getattr(value, '__name__', None))}"
    if type(value).__name__ == "_ScalarMeta":  # jnp.float32 and its like
        return {"dtype": value.__name__}
    try:
        importable = not path.startswith("__main__:") and _imported(path) is value
    except (ImportError, AttributeError, ValueError):
        importable = False
    if not importable:
        what = "class" if inspect.isclass(value) else "value"
        raise ValueError(f"the {what} {path} cannot be imported by a worker: put it in a file of its own")
    return {"import": path}


def _built(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](_built(v) for v in content)
    if kind == "dict":
        return {k: _built(v) for k, v in content.items()}
    if kind == "partial":
        function, arguments, keywords = map(_built, content)
        return functools.partial(function, *arguments, **keywords)
    if kind == "dtype":
        return getattr(importlib.import_module("jax.numpy"), content)
    if kind == "call":
        return _built(content[0])(**{name: _built(v) for name, v in content[1].items()})
    return _imported(content)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))

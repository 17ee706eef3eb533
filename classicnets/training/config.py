"""What decides a run's numbers, and what only decides how it is run."""

import dataclasses
import hashlib
import inspect
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np

from classicnets.data import DataConfig
from classicnets.data import check as check_data
from classicnets.runs import Run, events

# Bumped by hand when a change of the code alters the results of an unchanged configuration.
NUMERICS = 2


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum, a schedule, and L2 decay added to the gradient.

    The step is `v = momentum * v + g + weight_decay * w; w -= rate * v`: the rate multiplies the velocity
    as it is used (Optax, PyTorch), where Caffe multiplies each gradient as it enters; the two differ only in
    the steps after a change of rate. `decay` says which parameters decay: "all", as Caffe and PyTorch do, or
    "kernels" only. The length is `epochs`, or `steps` if that is given; the rate of schedule "step" is
    multiplied by `step_factor` at each of `boundaries`, in the unit of the length. A warm-up holds
    `warmup_rate` for `warmup_steps` steps (He et al. 2015, section 4.2). Batch norm takes its statistics
    over the whole batch ("synchronised") or over each device's share ("per_replica", a different
    algorithm on each number of devices, which then is part of the run's identity). The loss is the cross-entropy,
    against 1 - label_smoothing on the label and the rest spread over all classes (Szegedy et al. 2016, section 7: 0.1),
    plus `auxiliary_weight` times that of each auxiliary head (Szegedy et al. 2015, section 5: 0.3).
    """

    epochs: int = 20
    steps: int | None = None
    batch_size: int = 128
    learning_rate: float = 0.1
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    boundaries: tuple[int, ...] = ()
    step_factor: float = 0.1
    warmup_steps: int = 0
    warmup_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: Literal["all", "kernels"] = "all"
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.3
    batch_norm: Literal["synchronised", "per_replica"] = "synchronised"

    def __post_init__(self):
        _whole_to_float(self)

    def total_steps(self, per_epoch: int) -> int:
        return self.epochs * per_epoch if self.steps is None else self.steps

    def check(self):
        """Raises ValueError, in one sentence, naming the field and the value."""
        _check_numbers(self)
        for name in ("epochs", "batch_size"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(self.steps is None or self.steps >= 1, "steps", "at least 1", self.steps)
        for name in ("learning_rate", "warmup_rate", "step_factor"):
            _require(0 < getattr(self, name) < float("inf"), name, "positive and finite", getattr(self, name))
        for name in ("weight_decay", "warmup_steps", "auxiliary_weight"):
            _require(0 <= getattr(self, name) < float("inf"), name, "at least 0", getattr(self, name))
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        _require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        for name in ("schedule", "decay", "batch_norm"):
            choices = get_args(Recipe.__dataclass_fields__[name].type)
            _require(getattr(self, name) in choices, name, " or ".join(choices), getattr(self, name))
        rising = all(a < b for a, b in pairwise((0, *self.boundaries)))
        _require(rising, "boundaries", "positive and rising", self.boundaries)
        _require(
            not self.boundaries or self.schedule == "step",
            "boundaries",
            "empty unless schedule is step",
            self.boundaries,
        )
        positive = self.clip_norm is None or self.clip_norm > 0
        _require(positive, "clip_norm", "positive or None", self.clip_norm)


@dataclass(frozen=True)
class Config:
    """One run, but for its network: data, recipe and seed."""

    data: DataConfig = field(default_factory=DataConfig)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    def check(self):
        check_data(self.data)
        self.recipe.check()
        _check_numbers(self)
        _require(0 <= self.seed < 2**31, "seed", "in [0, 2**31)", self.seed)


@dataclass(frozen=True)
class Execution:
    """How a run is run; no part of its identity.

    devices: how many of the local devices, None for all. steps_per_dispatch: training steps in one call.
    checkpoint_seconds: least time between two checkpoints. evaluate_every: epochs between evaluations. Of the
    checkpoints the newest `keep` stay, the one of the least validation error (keep_best), and one every `keep_every`
    epochs. tensorboard: whether the log is also written as TensorBoard events, below the run's directory.
    """

    devices: int | None = None
    steps_per_dispatch: int = 64
    checkpoint_seconds: float = 30.0
    evaluate_every: int = 1
    keep: int = 2
    keep_best: bool = True
    keep_every: int | None = None
    tensorboard: bool = False

    def __post_init__(self):
        _whole_to_float(self)

    def check(self):
        _check_numbers(self)
        _require(self.devices is None or self.devices >= 1, "devices", "at least 1", self.devices)
        _require(self.steps_per_dispatch >= 1, "steps_per_dispatch", "at least 1", self.steps_per_dispatch)
        _require(self.checkpoint_seconds >= 0, "checkpoint_seconds", "at least 0", self.checkpoint_seconds)
        _require(self.evaluate_every >= 1, "evaluate_every", "at least 1", self.evaluate_every)
        _require(self.keep >= 1, "keep", "at least 1", self.keep)
        _require(self.keep_every is None or self.keep_every >= 1, "keep_every", "at least 1", self.keep_every)
        if self.tensorboard:
            events.require()


def config_of(run: Run) -> Config:
    """The configuration in a run's record; ValueError if this version does not know a field of it."""
    record = run.config
    return Config(
        _recorded(DataConfig, run, {k: v for k, v in record["data"].items() if k != "sha256"}),
        _recorded(Recipe, run, record["recipe"]),
        record["seed"],
    )


def _recorded(cls, run: Run, found: dict) -> Any:
    odd = sorted(set(found) ^ {f.name for f in dataclasses.fields(cls)})
    if odd:
        raise ValueError(f"the record of {run.id} and this version differ in the field {odd[0]!r}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in found.items()})


def describe_model(model) -> dict:
    """The identity of a Flax module: its import path and the fields that decide what it computes.

    NUMERICS speaks for our own code; a foreign module is told apart by its text and by that of what it uses of its own
    file (not of other files). Raises ValueError for a field that cannot be told apart from others of its kind.
    """
    skip = {"parent", "name", "axis_name"}
    fields = {
        f.name: _plain(f.name, getattr(model, f.name))
        for f in dataclasses.fields(model)
        if f.init and f.name not in skip and not f.metadata.get("execution")
    }
    cls = type(model)
    facts = {"module": f"{cls.__module__}:{cls.__qualname__}", **fields}
    if not cls.__module__.startswith("classicnets."):
        facts["source_sha256"] = _source_sha256(cls)
    return facts


def _plain(field: str, value) -> Any:
    """A field's value as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if type(value).__name__ == "_ScalarMeta":  # jnp.float32 and its like
        return value.__name__
    if isinstance(value, tuple | list):
        return [_plain(field, v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(field, v) for k, v in value.items()}
    if isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
        return {"partial": [_plain(field, part) for part in parts]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return describe_model(value)
    if inspect.isfunction(value) or inspect.isclass(value):
        path = f"{value.__module__}:{value.__qualname__}"
        ours = value.__module__.split(".")[0] in ("classicnets", "flax", "jax", "optax")
        return path if ours and "<" not in path else {"code": path, "sha256": _source_sha256(value)}
    path = f"{getattr(value, '__module__', None)}:{getattr(value, '__name__', None)}"
    if "None" in path:
        raise ValueError(f"{field} must be of numbers, words, functions and modules, got {value!r}")
    return path  # a compiled function such as jax.nn.relu


def _source_sha256(thing) -> str:
    """SHA-256 over the text of a class or function and of what it names in its own file."""
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
        raise ValueError(f"the source of {thing.__qualname__} cannot be read, which its identity needs") from None
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def _whole_to_float(config) -> None:
    """1 and 1.0 are one value of a field of floats, and so one identity."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if f.type in (float, float | None) and isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(config, f.name, float(value))


def _check_numbers(config) -> None:
    """Numbers are of the field's type, finite and below 2**31."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        for kind in (bool, int, float):
            if f.type is kind or (f.type == kind | None and value is not None):
                _check_number(f.name, kind, value)
        if isinstance(value, tuple):
            for one in value:
                _check_number(f.name, int, one)


def _check_number(name: str, kind: type, value: Any) -> None:
    _require(type(value) is kind, name, f"of type {kind.__name__}", value)
    _require(math.isfinite(value), name, "finite", value)
    _require(kind is not int or abs(value) < 2**31, name, "less than 2**31", value)


def _require(holds: bool, name: str, what: str, value):
    if not holds:
        raise ValueError(f"{name} must be {what}, got {value!r}")

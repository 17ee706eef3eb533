"""What decides a run's numbers, and what only decides how it is run."""

import dataclasses
import hashlib
import inspect
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np

from classicnets.data import DataConfig
from classicnets.data import check as check_data
from classicnets.runs import Run

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
    algorithm on each number of devices, which then is part of the run's identity).
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
    batch_norm: Literal["synchronised", "per_replica"] = "synchronised"

    def total_steps(self, per_epoch: int) -> int:
        return self.epochs * per_epoch if self.steps is None else self.steps

    def check(self):
        """Raises ValueError, in one sentence, naming the field and the value."""
        for name in ("epochs", "batch_size"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(self.steps is None or self.steps >= 1, "steps", "at least 1", self.steps)
        for name in ("learning_rate", "warmup_rate", "step_factor"):
            _require(0 < getattr(self, name) < float("inf"), name, "positive and finite", getattr(self, name))
        for name in ("weight_decay", "warmup_steps"):
            _require(0 <= getattr(self, name) < float("inf"), name, "at least 0", getattr(self, name))
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
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
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "positive", self.clip_norm)


@dataclass(frozen=True)
class Config:
    """One run, but for its network: data, recipe and seed."""

    data: DataConfig = field(default_factory=DataConfig)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    def check(self):
        check_data(self.data)
        self.recipe.check()
        _require(0 <= self.seed < 2**31, "seed", "in [0, 2**31)", self.seed)


@dataclass(frozen=True)
class Execution:
    """How a run is run; no part of its identity.

    devices: how many of the local devices, None for all. steps_per_dispatch: training steps in one call.
    checkpoint_seconds: least time between two checkpoints. evaluate_every: epochs between evaluations.
    """

    devices: int | None = None
    steps_per_dispatch: int = 64
    checkpoint_seconds: float = 30.0
    evaluate_every: int = 1

    def check(self):
        _require(self.devices is None or self.devices >= 1, "devices", "at least 1", self.devices)
        _require(self.steps_per_dispatch >= 1, "steps_per_dispatch", "at least 1", self.steps_per_dispatch)
        _require(self.checkpoint_seconds >= 0, "checkpoint_seconds", "at least 0", self.checkpoint_seconds)
        _require(self.evaluate_every >= 1, "evaluate_every", "at least 1", self.evaluate_every)


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
    """The identity of a Flax module: its import path and the fields that decide what it computes."""
    skip = {"parent", "name", "axis_name"}
    fields = {
        f.name: _plain(getattr(model, f.name))
        for f in dataclasses.fields(model)
        if f.init and f.name not in skip and not f.metadata.get("execution")
    }
    cls = type(model)
    facts = {"module": f"{cls.__module__}:{cls.__qualname__}", **fields}
    if not cls.__module__.startswith("classicnets."):
        # NUMERICS speaks for our own code; anybody else's is told apart by its text.
        facts["source_sha256"] = hashlib.sha256(inspect.getsource(cls).encode()).hexdigest()
    return facts


def _plain(value):
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return getattr(value, "__name__", None) or str(value)


def _require(holds: bool, name: str, what: str, value):
    if not holds:
        raise ValueError(f"{name} must be {what}, got {value!r}")

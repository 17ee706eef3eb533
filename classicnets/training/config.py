"""What decides a run's numbers, and what only decides how it is run."""

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from classicnets.data import DataConfig
from classicnets.exports import tensorboard as events
from classicnets.runs import Run
from classicnets.system import fields


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
        fields.conform(self)

    def total_steps(self, per_epoch: int) -> int:
        return self.epochs * per_epoch if self.steps is None else self.steps

    def check(self):
        """Raises ValueError, in one sentence, naming the field and the value."""
        fields.check(self)
        for name in ("epochs", "batch_size"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(self.steps is None or self.steps >= 1, "steps", "at least 1", self.steps)
        for name in ("learning_rate", "warmup_rate", "step_factor"):
            _require(getattr(self, name) > 0, name, "positive", getattr(self, name))
        for name in ("weight_decay", "warmup_steps", "auxiliary_weight"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        _require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        rising = all(a < b for a, b in pairwise((0, *self.boundaries)))
        _require(rising, "boundaries", "positive and rising", self.boundaries)
        _require(
            not self.boundaries or self.schedule == "step",
            "boundaries",
            "empty unless schedule is step",
            self.boundaries,
        )
        if self.schedule == "step" and not self.boundaries:
            raise ValueError("boundaries must not be empty where schedule is step")
        positive = self.clip_norm is None or self.clip_norm > 0
        _require(positive, "clip_norm", "positive or None", self.clip_norm)


@dataclass(frozen=True)
class Config:
    """One run, but for its network: data, recipe and seed."""

    data: DataConfig = field(default_factory=DataConfig)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    def __post_init__(self):
        fields.conform(self)

    def check(self):
        fields.check(self)
        self.data.check()
        self.recipe.check()
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
        fields.conform(self)

    def check(self):
        fields.check(self)
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
    record = run.facts
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


def _require(holds: bool, name: str, what: str, value):
    if not holds:
        raise ValueError(f"{name} must be {what}, got {value!r}")

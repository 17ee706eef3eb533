"""What decides a run's numbers, and what only decides how it is run."""

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from classicnets.data import DataConfig
from classicnets.runs import Run
from classicnets.system import fields


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: length, optimiser, schedule, decay and loss.

    SGD's step is `v = momentum * v + g + weight_decay * w; w -= rate * v`: the rate multiplies the velocity as it is
    used (Optax, PyTorch), where Caffe multiplies each gradient as it enters; the two differ only in the steps after a
    change of rate. Decay is added to the gradient whatever the optimiser, as in the papers (L2, not decoupled).
    """

    epochs: int = 20
    """Length in passes over the training images; without effect where `steps` is given."""
    steps: int | None = None
    """Length in steps instead of epochs (He et al. 2016, section 4.2: 64,000); none for `epochs`."""
    batch_size: int = 128
    """Images of one step, over all devices (He et al. 2016, section 4.2: 128)."""
    optimizer: Literal["sgd", "rmsprop", "adam"] = "sgd"
    """sgd with momentum; rmsprop as TensorFlow's (Szegedy et al. 2016, section 8); adam (Kingma & Ba 2015)."""
    learning_rate: float = 0.1
    """The rate that the schedule starts from (He et al. 2016: 0.1 for CIFAR)."""
    schedule: Literal["cosine", "step", "constant", "linear", "polynomial", "exponential", "plateau"] = "cosine"
    """How the rate falls: cosine, linear and polynomial to 0 at the end; step at each of `boundaries`; exponential
    every `decay_every`; plateau when the validation error stops improving; or constant."""
    boundaries: tuple[int, ...] = ()
    """Where schedule step multiplies the rate by `step_factor`, in epochs, or in steps where `steps` is given."""
    step_factor: float = 0.1
    """What schedules step, exponential and plateau multiply the rate by (GoogLeNet: 0.96; Inception v3: 0.94)."""
    decay_every: int = 2
    """Between two drops of schedule exponential, in the unit of the length (Szegedy et al. 2016, section 8: 2 epochs;
    Szegedy et al. 2015, section 6: 8)."""
    power: float = 0.5
    """Exponent of schedule polynomial, rate * (1 - t / length) ** power (Caffe's GoogLeNet: 0.5)."""
    plateau_epochs: int = 5
    """Epochs without a lower validation error after which schedule plateau drops the rate (Krizhevsky et al. 2012,
    section 5, divide by 10 by hand, and give no number)."""
    warmup_steps: int = 0
    """Steps at `warmup_rate` before the schedule's own (He et al. 2016, section 4.2: about 400 for ResNet-110)."""
    warmup_rate: float = 0.01
    """The rate of the first `warmup_steps`."""
    warmup_epochs: int = 0
    """Epochs in which the rate rises from 0 to `learning_rate` in equal parts (Goyal et al. 2017, section 2.2: 5)."""
    momentum: float = 0.9
    """Of sgd and rmsprop: how much of the last step's velocity stays (0.9 in all papers here)."""
    nesterov: bool = False
    """Look ahead along the velocity (Sutskever et al. 2013), in sgd and rmsprop."""
    rmsprop_decay: float = 0.9
    """How much of the mean square stays a step in rmsprop (Szegedy et al. 2016, section 8: 0.9)."""
    rmsprop_epsilon: float = 1.0
    """Added to the mean square, under the root, in rmsprop (Szegedy et al. 2016, section 8: 1.0)."""
    adam_b1: float = 0.9
    """Decay of adam's mean of gradients (Kingma & Ba 2015: 0.9)."""
    adam_b2: float = 0.999
    """Decay of adam's mean of squares (Kingma & Ba 2015: 0.999)."""
    adam_epsilon: float = 1e-8
    """Added to the root of adam's mean of squares (Kingma & Ba 2015: 1e-8; slim's Inception uses 1.0)."""
    weight_decay: float = 1e-4
    """Times each decaying weight, added to its gradient (He et al. 2016: 0.0001; AlexNet and VGG: 0.0005)."""
    decay: Literal["all", "kernels"] = "all"
    """What decays: all parameters, as in Caffe and PyTorch, or kernels only: no bias, scale or offset."""
    rates: tuple[str, ...] = ()
    """Factors of the rate by parameter or layer, NAME=FACTOR: bias=2 is Caffe's doubled rate of biases, head=10 that of
    a new head; NAME ends a parameter's path or begins it, and factors multiply."""
    clip_norm: float | None = None
    """Greatest Euclidean norm of all gradients together (Szegedy et al. 2016, section 8: 2.0); none for no limit."""
    ema_decay: float | None = None
    """Evaluate an exponential moving average of the parameters, of which this much stays a step (slim's Inception:
    0.9999); none for the parameters themselves."""
    label_smoothing: float = 0.0
    """Share of each label spread over all classes (Szegedy et al. 2016, section 7: 0.1)."""
    auxiliary_weight: float = 0.3
    """Weight of each auxiliary head's loss (Szegedy et al. 2015, section 5: 0.3), where the network has such heads."""
    batch_norm: Literal["synchronised", "per_replica"] = "synchronised"
    """Statistics over the whole batch, or over each device's share, a different algorithm on each number of devices
    (which then is part of the run's name)."""

    def __post_init__(self):
        fields.conform(self)

    def total_steps(self, per_epoch: int) -> int:
        """Return the length in steps, of which an epoch has `per_epoch`."""
        return self.epochs * per_epoch if self.steps is None else self.steps

    @property
    def factors(self) -> dict[str, float]:
        """`rates` as {name: factor}; raise ValueError for what is not NAME=FACTOR."""
        factors = {}
        for text in self.rates:
            name, _, factor = text.partition("=")
            try:
                factors[name] = float(factor)
            except ValueError:
                factors[name] = -1.0
            if not name or not 0 <= factors[name] < float("inf"):
                raise ValueError(f"rates must be NAME=FACTOR with a factor of at least 0, got {text!r}")
        return factors

    def check(self) -> None:
        """Raise ValueError, in one sentence, naming the field and the value."""
        fields.check(self)
        for name in ("epochs", "batch_size", "decay_every", "plateau_epochs"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(self.steps is None or self.steps >= 1, "steps", "at least 1", self.steps)
        for name in ("learning_rate", "warmup_rate", "step_factor", "power", "rmsprop_epsilon", "adam_epsilon"):
            _require(getattr(self, name) > 0, name, "positive", getattr(self, name))
        for name in ("weight_decay", "warmup_steps", "warmup_epochs", "auxiliary_weight"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("momentum", "label_smoothing", "rmsprop_decay", "adam_b1", "adam_b2"):
            _require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))
        _require(self.ema_decay is None or 0 < self.ema_decay < 1, "ema_decay", "in (0, 1) or None", self.ema_decay)
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "positive or None", self.clip_norm)
        rising = all(a < b for a, b in pairwise((0, *self.boundaries)))
        _require(rising, "boundaries", "positive and rising", self.boundaries)
        needs = "not be empty where" if self.schedule == "step" else "be empty unless"
        if (self.schedule == "step") != bool(self.boundaries):
            raise ValueError(f"boundaries must {needs} schedule is step, got {self.boundaries!r}")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError(f"warmup_epochs must be 0 beside warmup_steps, got {self.warmup_epochs}")
        _ = self.factors


@dataclass(frozen=True)
class Config:
    """One run, but for its network: data, recipe and seed."""

    data: DataConfig = field(default_factory=DataConfig)
    """Which examples are trained on, and how they are prepared."""
    recipe: Recipe = field(default_factory=Recipe)
    """How the network is trained."""
    seed: int = 0
    """Of the initial weights, the order of examples, augmentation and dropout."""

    def __post_init__(self):
        fields.conform(self)

    def check(self) -> None:
        """Raise ValueError, in one sentence, naming the field and the value."""
        fields.check(self)
        self.data.check()
        self.recipe.check()
        _require(0 <= self.seed < 2**31, "seed", "in [0, 2**31)", self.seed)
        if self.recipe.schedule == "plateau" and self.data.validation_size == 0:
            raise ValueError("validation_size must be at least 1 for schedule plateau, which needs it, got 0")


@dataclass(frozen=True)
class Execution:
    """How a run is run; no part of its identity."""

    devices: int | None = None
    """How many of the devices here share each batch; none for all."""
    steps_per_dispatch: int = 64
    """Training steps in one call of the compiled program."""
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints, in seconds."""
    evaluate_every: int = 1
    """Epochs between two evaluations of all splits."""
    keep: int = 2
    """How many of the newest checkpoints stay."""
    keep_best: bool = True
    """Whether the checkpoint of the least validation error stays too."""
    keep_every: int | None = None
    """Epochs between two checkpoints that stay whatever comes later; none for no such."""
    tensorboard: bool = False
    """Whether the log is also written as TensorBoard events, below the run's directory."""

    def __post_init__(self):
        fields.conform(self)

    def check(self) -> None:
        """Raise ValueError, in one sentence, naming the field and the value."""
        fields.check(self)
        for name in ("devices", "steps_per_dispatch", "evaluate_every", "keep", "keep_every"):
            _require(getattr(self, name) is None or getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(self.checkpoint_seconds >= 0, "checkpoint_seconds", "at least 0", self.checkpoint_seconds)


def config_of(run: Run) -> Config:
    """Return the configuration in a run's record; raise ValueError if this version does not know a field of it."""
    record = run.facts
    return Config(
        _recorded(DataConfig, run, {k: v for k, v in record["data"].items() if k != "sha256"}),
        _recorded(Recipe, run, record["recipe"]),
        record["seed"],
    )


def _recorded(cls: type, run: Run, values: dict) -> Any:
    odd = sorted(set(values) ^ {f.name for f in dataclasses.fields(cls)})
    if odd:
        raise ValueError(f"the record of {run.id} and this version differ in the field {odd[0]!r}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _require(holds: bool, name: str, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {what}, got {value!r}")

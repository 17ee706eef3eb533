"""A claim: what is said and by whom, the runs that put it to the test, and the criterion that decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classicnets.claims.criteria import Criterion, Explored
from classicnets.system.fields import require_choice

if TYPE_CHECKING:
    from classicnets.data import DataConfig
    from classicnets.runs import Run
    from classicnets.sweeps import Job
    from classicnets.training import Recipe, Start

# A run's or a measurement's row; a run's holds its configuration, flat, and its results.
Row = Mapping[str, Any]
# From all rows: numbers, arrays of one number a seed, or {condition: such numbers and arrays}.
Statistic = Callable[[Sequence[Row]], dict[str, Any]]
# From a run's log, numbers that its row keeps beside its last errors; None of each from an empty log.
Observation = Callable[[Sequence[Mapping[str, Any]]], dict[str, float | None]]
# Draws to a file from the rows, each with the run's log as "log", and the statistics.
Figure = Callable[[Path, Sequence[Row], Mapping[str, Any]], None]


@dataclass(frozen=True)
class Case:
    """What is trained on each seed."""

    name: str
    """What the names of its runs begin with."""
    net: Any
    """A Flax module."""
    data: "DataConfig"
    """The images, and how they are augmented."""
    recipe: "Recipe"
    """How it is trained."""
    source: str | None = None
    """The case whose run of the same seed comes first, for `start`."""
    start: Callable[["Run"], "Start"] | None = None
    """What it starts from, out of that run; ValueError where it cannot. None for its seed alone."""


@dataclass(frozen=True)
class Preset:
    """One way to put a claim to the test: a sweep, or a measurement where nothing is trained."""

    cases: Sequence[Case] | None = None
    """What is trained, once on each seed."""
    every: int = 1
    """Epochs between two evaluations of what is trained."""
    seeds: Sequence[int] = range(5)
    """Those of the sweep, or of the measurement; other ones put the claim to the test anew."""
    measure: Callable[[], Sequence[Row]] | None = None
    """Return the rows that are judged, where nothing is drawn."""
    of_seed: Callable[[int], Sequence[Row]] | None = None
    """From a seed, return its rows, where nothing is trained."""
    note: str = ""
    """How it was chosen, and what a reader must know of it."""
    sentence: str | None = None
    """What it can show, where that is not the claim itself, as with a short budget."""
    statistic: Statistic | None = None
    """The numbers judged, where they are not the claim's."""
    criterion: Criterion | None = None
    """The rule, where it is not the claim's."""
    figure: Figure | None = None
    """The figure, where it is not the claim's."""
    observe: Observation | None = None
    """What is judged of a run beside its last errors, where it is not the claim's."""

    def __post_init__(self) -> None:
        if [self.cases, self.measure, self.of_seed].count(None) != 2:
            raise ValueError("a preset has cases, measure or of_seed")
        before: set[str | None] = {None}
        for case in self.cases or ():
            if case.name in before:
                raise ValueError(f"the cases of a preset have different names, got {case.name} twice")
            if case.source not in before:
                raise ValueError(f"the source of case {case.name} must be a case before it, got {case.source}")
            if (case.source is None) != (case.start is None):
                raise ValueError(f"case {case.name} must have both a source and a start from it, or neither")
            before.add(case.name)


@dataclass(frozen=True)
class Claim:
    """One statement of the literature as a program; `claims.main` runs it."""

    name: str
    """The module's below `experiments`."""
    sentence: str
    """What is claimed."""
    source: str
    """Who claims it, and where."""
    presets: Mapping[str, Preset]
    """By name; the first is the default."""
    statistic: Statistic
    """The numbers judged; its docstring says what they are."""
    criterion: Criterion
    """What they must be, committed before the runs."""
    figure: Figure | None = None
    """What the record shows of the logs."""
    observe: Observation | None = None
    """What is judged of a run beside its last errors."""
    stated: str = ""
    """The source's own number for the first statistic of the criterion."""

    def trial(self, name: str, seeds: Sequence[int] | None = None) -> "Trial":
        """Return the claim under a preset, on other seeds if they are given.

        Raise ValueError, naming the nearest, if there is no preset of that name, and for seeds that are fewer than its
        own, of which the criterion was chosen, are not all different, or are given for a measurement.
        """
        require_choice("preset", name, self.presets)
        preset = self.presets[name]
        if seeds is not None:
            if preset.measure:
                raise ValueError(f"preset {name} is a measurement, which has no seeds, got seeds {_listed(seeds)}")
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"seeds must be different, got seeds {_listed(seeds)}")
            if len(seeds) < len(preset.seeds):
                raise ValueError(f"preset {name} needs at least {len(preset.seeds)} seeds, got seeds {_listed(seeds)}")
            preset = replace(preset, seeds=tuple(seeds))
        return Trial(
            claim=self,
            name=name,
            preset=preset,
            sentence=preset.sentence or self.sentence,
            statistic=preset.statistic or self.statistic,
            criterion=preset.criterion or self.criterion,
            figure=None if isinstance(preset.criterion, Explored) else preset.figure or self.figure,
            observe=preset.observe or self.observe,
        )


@dataclass(frozen=True)
class Trial:
    """A claim under one of its presets, whose own parts stand in place of the claim's."""

    claim: Claim
    name: str
    preset: Preset
    sentence: str
    statistic: Statistic
    criterion: Criterion
    figure: Figure | None
    observe: Observation | None

    @property
    def jobs(self) -> list["Job"]:
        """One run for each case that starts from its seed alone, and each seed, named CASE-DATASET-sSEED."""
        return list(self.jobs_after({}).values())

    @property
    def cases(self) -> list[str]:
        """The case of each run, in the order of a record."""
        return [case.name for case in self.preset.cases or () for _ in self.preset.seeds]

    def jobs_after(self, ended: Mapping[tuple[str, int], "Run"]) -> dict[tuple[str, int], "Job"]:
        """Return {(case, seed): job} of what can begin where the runs of some (case, seed) have ended, without these.

        Raise ValueError where one cannot start from the run that it needs.
        """
        from classicnets.sweeps import Job
        from classicnets.training import Config, Execution

        execution = Execution(devices=1, evaluate_every=self.preset.every, keep_best=False)
        return {
            (case.name, seed): Job(
                case.net,
                Config(case.data, case.recipe, seed),
                name=f"{case.name}-{case.data.dataset}-s{seed}",
                experiment=self.claim.name,
                execution=execution,
                start=_start(case, ended[case.source, seed]) if case.source else None,
            )
            for case in self.preset.cases or ()
            for seed in self.preset.seeds
            if (case.name, seed) not in ended and (case.source is None or (case.source, seed) in ended)
        }

    @property
    def title(self) -> str:
        """Such as "Degradation, quick"."""
        words = self.claim.name.replace("_", " ")
        return f"{words.capitalize()}, {self.name}"

    @property
    def command(self) -> str:
        """What a reader types."""
        seeds = self.preset.seeds
        other = f" --seeds {_listed(seeds)}" if seeds != self.claim.presets[self.name].seeds else ""
        return f"python -m experiments.{self.claim.name} --preset {self.name}{other}"


def _start(case: Case, run: "Run") -> "Start | None":
    if run.status["state"] != "complete":
        raise ValueError(f"{case.name} cannot start from {run.id}, which is {run.status['state']}")
    return case.start(run) if case.start else None


def _listed(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds)) or "none"


def seeds(rows: Sequence[Row]) -> list[int]:
    """Return the seeds of the rows, each once, in their order; none for measurements."""
    return list(dict.fromkeys(row["seed"] for row in rows if "seed" in row))


def by_seed(rows: Sequence[Row], metric: str, missing: float | None = None, **fields: Any) -> np.ndarray:
    """Return [seeds]: `metric` of the rows that have `fields`, or `missing` where it is None.

    Raise ValueError for a seed that has not one row.
    """
    values: dict[int, list[Any]] = {seed: [] for seed in seeds(rows)}
    for row in rows:
        if all(row[field] == value for field, value in fields.items()):
            values[row["seed"]].append(missing if row[metric] is None else row[metric])
    if not values or any(len(of_one_seed) != 1 for of_one_seed in values.values()):
        counts = {seed: len(of_one_seed) for seed, of_one_seed in values.items()}
        raise ValueError(f"a statistic needs one run a seed with {fields}, got (seed: runs) {counts}")
    return np.array([value for (value,) in values.values()])


def steps_to(level: float, log: Sequence[Mapping[str, Any]], metric: str = "train_error") -> dict[str, float | None]:
    """Return {"steps to LEVEL %": the step at which `metric` first was `level` or less}, None if it never was.

    Between two evaluations by a straight line; before the first there is none.
    """
    before = None
    for record in log:
        value = record.get(metric)
        if value is None:
            continue
        if value <= level:
            step = record["step"]
            if before is not None:
                step -= (step - before[0]) * (level - value) / (before[1] - value)
            return {f"steps to {level:g} %": float(step)}
        before = record["step"], value
    return {f"steps to {level:g} %": None}


def by_condition(rows: Sequence[Row], fields: Sequence[str], statistic: Statistic) -> dict[str, dict[str, Any]]:
    """Return {"field value, field value": statistic of the rows that have these values} in the order of the rows."""
    conditions: dict[tuple, list[Row]] = {}
    for row in rows:
        conditions.setdefault(tuple(row[field] for field in fields), []).append(row)
    return {
        ", ".join(f"{field} {value}" for field, value in zip(fields, values, strict=True)): statistic(own)
        for values, own in conditions.items()
    }

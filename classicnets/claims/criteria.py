"""Forms of criteria: what the statistics of a claim must be for it to hold."""

import hashlib
import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

SIGNS = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "=": operator.eq}


@dataclass(frozen=True)
class Criterion(ABC):
    """A rule over bounds: {statistic: such as "> 5"}; a record tells it by its form, version and bounds."""

    bounds: Mapping[str, str]
    # Of the rule: bumped by hand when `judge` decides otherwise for the same bounds.
    version: ClassVar[int] = 1

    @abstractmethod
    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return the outcome in a few words; raise ValueError for statistics that cannot be judged."""

    @property
    def facts(self) -> dict:
        """What a record holds of it."""
        return {"form": type(self).__name__, "version": self.version, "bounds": dict(self.bounds)}

    @property
    def sha256(self) -> str:
        """Of the facts as canonical JSON, however the form's source reads."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def missed(self, statistics: Mapping[str, Any]) -> list[str]:
        """Return the bounds that statistics of one number each miss, with their names."""
        numbers = {name: value for name, value in statistics.items() if isinstance(value, int | float)}
        missed = [name for name in self.bounds if name in numbers and not self.holds(name, numbers[name])]
        return [f"{name} {self.bounds[name]}" for name in missed]

    def holds(self, name: str, value: float, sense: int = 1) -> bool:
        """Return whether a value is within its bound, or with sense -1 whether minus the value is."""
        sign, bound = self.bounds[name].split()
        return SIGNS[sign](sense * value, float(bound))


@dataclass(frozen=True)
class EverySeed(Criterion):
    """Reproduced if on every seed every statistic is within its bound; refuted if minus the first of them is.

    Else undecided. All must hold at once, so nothing is corrected; with 5 seeds the smallest of 5 values bounds the
    median from below at 1 - 2**-5 = 97 %.
    """

    version = 2

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "reproduced", "refuted" or "undecided" for one value a seed of each statistic."""
        values = {name: statistics[name] for name in self.bounds}
        _require_paired(values)
        if all(self.holds(name, value) for name, of_seeds in values.items() for value in of_seeds):
            return "reproduced"
        first = next(iter(self.bounds))
        return "refuted" if all(self.holds(first, value, -1) for value in values[first]) else "undecided"

    @property
    def facts(self) -> dict:
        """What a record holds of it."""
        return {**super().facts, "refuted by": next(iter(self.bounds))}


@dataclass(frozen=True)
class Survival(Criterion):
    """Survives if on every seed, under every condition, every statistic is within its bound.

    Vanishes if under some condition the first of them is so on no seed. Else undecided.
    """

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "survives", "vanishes" or "undecided" for {"conditions": {name: one value a seed of each}}."""
        conditions, first = statistics["conditions"], next(iter(self.bounds))
        _require_paired({f"{name}, {at}": values[name] for at, values in conditions.items() for name in self.bounds})
        held = {
            (at, name): [self.holds(name, value) for value in values[name]]
            for at, values in conditions.items()
            for name in self.bounds
        }
        if all(all(of_seeds) for of_seeds in held.values()):
            return "survives"
        return "undecided" if all(any(held[at, first]) for at in conditions) else "vanishes"


@dataclass(frozen=True)
class Limits(Criterion):
    """Each bound holds or is missed by itself, and the outcome is how many hold."""

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "K of N bounds hold" for one number of each statistic."""
        return f"{sum(self.holds(name, statistics[name]) for name in self.bounds)} of {len(self.bounds)} bounds hold"


@dataclass(frozen=True)
class Exact(Criterion):
    """Reproduced if every number is within its bound, else refuted: for what is counted, not sampled.

    A bound such as = 3.8 is met at the digits that it shows: by what rounds to 3.8, or is 3.8 when cut there.
    """

    version = 2

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "reproduced" or "refuted" for one number of each statistic."""
        return "reproduced" if all(self.holds(name, statistics[name]) for name in self.bounds) else "refuted"

    def holds(self, name: str, value: float, sense: int = 1) -> bool:
        """Return whether a number is within its bound, an equal one at the digits that the bound shows."""
        from classicnets.models.papers import Printed

        sign, bound = self.bounds[name].split()
        if sign != "=":
            return super().holds(name, value, sense)
        return Printed("outputs", bound, 1.0, "").judge(sense * value) != "differs"


@dataclass(frozen=True)
class Explored(Criterion):
    """Nothing is decided: what was seen chooses the rates of other presets."""

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "explored"."""
        return "explored"


def _require_paired(values: Mapping[str, Sequence[float]]) -> None:
    counts = {name: len(of_seeds) for name, of_seeds in values.items()}
    if len(set(counts.values())) != 1 or not all(counts.values()):
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"a verdict needs one value a seed of each statistic, got {told or 'none'}")

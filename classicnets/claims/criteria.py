"""Forms of criteria: what the statistics of a claim must be for it to hold."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Criterion(ABC):
    """A rule and its constants, told by the name of the form, its version and the constants."""

    # Of the rule: bumped by hand when `judge` decides otherwise for the same constants.
    version: ClassVar[int] = 1

    @abstractmethod
    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return the outcome in a word or two; raise ValueError for statistics that cannot be judged."""

    @property
    @abstractmethod
    def bounds(self) -> dict[str, str]:
        """The bound on each statistic, such as "> 5"."""

    @property
    def facts(self) -> dict:
        """What a record holds of it: {"form", "version", its constants}."""
        return {"form": type(self).__name__, "version": self.version, **asdict(self)}

    @property
    def sha256(self) -> str:
        """Of the facts as canonical JSON, whatever the form's source text."""
        text = json.dumps(self.facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EverySeed(Criterion):
    """Reproduced if on every seed each statistic of `above` exceeds its bound and each of `below` is under its.

    Refuted if on every seed the mirror holds: each of `above` under minus its bound, each of `below` over minus its.
    Else undecided. All must hold at once, so nothing is corrected; with 5 seeds the smallest of 5 values bounds the
    median from below at 1 - 2**-5 = 97 %.
    """

    above: Mapping[str, float]
    below: Mapping[str, float]

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "reproduced", "refuted" or "undecided" for one value a seed of each statistic."""
        values = {name: statistics[name] for name in (*self.above, *self.below)}
        _require_paired(values)
        over = [(value, bound) for name, bound in self.above.items() for value in values[name]]
        under = [(value, bound) for name, bound in self.below.items() for value in values[name]]
        if all(value > bound for value, bound in over) and all(value < bound for value, bound in under):
            return "reproduced"
        if all(value < -bound for value, bound in over) and all(value > -bound for value, bound in under):
            return "refuted"
        return "undecided"

    @property
    def bounds(self) -> dict[str, str]:
        """ "> bound" or "< bound" of each statistic."""
        return {**_signed(">", self.above), **_signed("<", self.below)}


@dataclass(frozen=True)
class Survival(Criterion):
    """Survives if on every seed, under every condition, each statistic of `above` exceeds its bound.

    Vanishes if under some condition the first of them exceeds it on no seed. Else undecided.
    """

    above: Mapping[str, float]

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "survives", "vanishes" or "undecided" for {"conditions": {name: one value a seed of each}}."""
        conditions = {
            f"{condition}: {name}": [value > bound for value in values[name]]
            for condition, values in statistics["conditions"].items()
            for name, bound in self.above.items()
        }
        _require_paired(conditions)
        if all(all(exceeds) for exceeds in conditions.values()):
            return "survives"
        first = [exceeds for i, exceeds in enumerate(conditions.values()) if i % len(self.above) == 0]
        return "undecided" if all(any(exceeds) for exceeds in first) else "vanishes"

    @property
    def bounds(self) -> dict[str, str]:
        """ "> bound" of each statistic."""
        return _signed(">", self.above)


@dataclass(frozen=True)
class Limits(Criterion):
    """One limit a figure, each of which holds or is missed by itself; the outcome is how many hold."""

    at_least: Mapping[str, float]
    at_most: Mapping[str, float]

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "K of N limits hold" for one number each."""
        holds = [statistics[name] >= limit for name, limit in self.at_least.items()]
        holds += [statistics[name] <= limit for name, limit in self.at_most.items()]
        return f"{sum(holds)} of {len(holds)} limits hold"

    @property
    def bounds(self) -> dict[str, str]:
        """ ">= limit" or "<= limit" of each figure."""
        return {**_signed(">=", self.at_least), **_signed("<=", self.at_most)}


@dataclass(frozen=True)
class Equality(Criterion):
    """Reproduced if each statistic equals what the source prints, else refuted: for counts, sizes and fields."""

    printed: Mapping[str, float]

    def judge(self, statistics: Mapping[str, Any]) -> str:
        """Return "reproduced" or "refuted" for one number each."""
        return "reproduced" if all(statistics[name] == value for name, value in self.printed.items()) else "refuted"

    @property
    def bounds(self) -> dict[str, str]:
        """ "= value" of each statistic."""
        return _signed("=", self.printed)


def _signed(sign: str, bounds: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{sign} {bound:.12g}" for name, bound in bounds.items()}


def _require_paired(values: Mapping[str, list]) -> None:
    counts = {name: len(of_each_seed) for name, of_each_seed in values.items()}
    if len(set(counts.values())) != 1 or not all(counts.values()):
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"a verdict needs one value a seed of each statistic, got {told or 'none'}")

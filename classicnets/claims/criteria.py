"""The verdict on a claim that deeper plain nets train worse and residual nets do not."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Outcome = Literal["reproduced", "refuted", "undecided"]
Survival = Literal["survives", "vanishes", "undecided"]


@dataclass(frozen=True)
class Criterion:
    """Per seed, D = train error at the deepest minus at the shallowest depth, in points of percent.

    reproduced: every D_plain > plain, every D_residual < residual and every D_plain - D_residual > gap.
    refuted: the mirror, every D_plain < -plain, every D_residual > -residual, every difference < -gap.
    Else undecided. All conditions must hold at once, so nothing is corrected; with 5 seeds the smallest of
    the 5 bounds the median from below at 1 - 2**-5 = 97 %.
    """

    plain: float = 5.0
    residual: float = 1.0
    gap: float = 5.0

    def judge(self, plain: Sequence[float], residual: Sequence[float]) -> Outcome:
        """The outcome for one D a seed; raises ValueError if the seeds are not paired or there are none."""
        pairs = _paired(plain, residual)
        if all(p > self.plain and r < self.residual and p - r > self.gap for p, r in pairs):
            return "reproduced"
        if all(p < -self.plain and r > -self.residual and p - r < -self.gap for p, r in pairs):
            return "refuted"
        return "undecided"

    def facts(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class SurvivalCriterion:
    """Does the gap, D_plain - D_residual in points of train error, survive other rates and longer training?

    survives: every seed's gap > bound under every condition, by running and by batch statistics.
    vanishes: under some condition, by running statistics, no seed's gap > bound. Else undecided.
    """

    bound: float = 5.0

    def judge(self, running: Sequence[Sequence[float]], batch: Sequence[Sequence[float]]) -> Survival:
        """running, batch: one list of gaps a condition, one gap a seed."""
        if not running or not all(running) or [len(g) for g in running] != [len(g) for g in batch]:
            raise ValueError("a verdict needs gaps of the same seeds under every condition")
        if all(gap > self.bound for gaps in (*running, *batch) for gap in gaps):
            return "survives"
        if any(all(gap <= self.bound for gap in gaps) for gaps in running):
            return "vanishes"
        return "undecided"

    def facts(self) -> dict:
        return asdict(self)


def paired_p(plain: Sequence[float], residual: Sequence[float]) -> float:
    """One-sided p-value of the paired t-test that `plain` exceeds `residual` in the mean; 1 for a single pair."""
    from scipy import stats

    differences = [p - r for p, r in _paired(plain, residual)]
    if len(differences) == 1:
        return 1.0
    if max(differences) == min(differences):
        # No spread: the statistic is infinite, or 0 / 0.
        return 0.0 if differences[0] > 0 else 1.0
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return float(stats.t.sf(statistics.mean(differences) / error, len(differences) - 1))


def _paired(plain: Sequence[float], residual: Sequence[float]) -> list[tuple[float, float]]:
    if len(plain) != len(residual) or not plain:
        raise ValueError(f"a verdict needs as many plain as residual seeds, got {len(plain)} and {len(residual)}")
    return list(zip(plain, residual, strict=True))

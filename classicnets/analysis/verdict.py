"""The verdict on a claim that deeper plain nets train worse and residual nets do not."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Outcome = Literal["reproduced", "refuted", "undecided"]


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
        if len(plain) != len(residual) or not plain:
            raise ValueError(f"a verdict needs as many plain as residual seeds, got {len(plain)} and {len(residual)}")
        pairs = list(zip(plain, residual, strict=True))
        if all(p > self.plain and r < self.residual and p - r > self.gap for p, r in pairs):
            return "reproduced"
        if all(p < -self.plain and r > -self.residual and p - r < -self.gap for p, r in pairs):
            return "refuted"
        return "undecided"

    def facts(self) -> dict:
        return asdict(self)

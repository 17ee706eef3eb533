"""How often a criterion errs, and how often it decides, on numbers drawn like those of a record."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from classicnets.claims.criteria import Criterion


def power(criterion: Criterion, statistics: Mapping[str, Any], draws: int = 10_000) -> dict[str, float]:
    """Return in how many percent of `draws` of as many seeds the criterion decides, by what is true.

    Statistics are drawn from the normal distribution with the covariance that theirs have over seeds: around zero, no
    effect, and around plus and minus the mean that they have, the effect seen and that of swapped sides.
    """
    values = np.array([statistics[name] for name in criterion.bounds], np.float64)
    n, means = values.shape[1], values.mean(1)
    # Sums of the seeds' deviations with normal weights have their covariance, also where it is singular.
    noise = np.random.default_rng(0).standard_normal((draws, n, n)) @ (values.T - means) / np.sqrt(n - 1)

    def percent(outcome: str, around: np.ndarray) -> float:
        judged = (criterion.judge(dict(zip(criterion.bounds, one.T, strict=True))) for one in noise + around)
        return 100 * sum(found == outcome for found in judged) / draws

    return {
        "reproduced, no effect": percent("reproduced", 0 * means),
        "refuted, no effect": percent("refuted", 0 * means),
        "reproduced, as seen": percent("reproduced", means),
        "refuted, swapped": percent("refuted", -means),
    }

"""The statistics of paired runs: one test for the whole project, its correction, and an interval to be shown."""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

import numpy as np

Alternative = Literal["two-sided", "greater", "less"]
# Of the interval of the mean.
LEVEL = 0.95
# Differences in points of percent that spread less are equal but for their rounding.
ROUNDING = 1e-9
# Sign patterns that are looked at: all 2**n of up to 13 differences, as many drawn at random of more.
PATTERNS = 2**13


def paired(differences: Sequence[float] | np.ndarray, alternative: Alternative = "two-sided") -> dict:
    """Return {"mean", "low", "high", "p", "n"} of paired differences, tested against a distribution symmetric about 0.

    p: of the exact sign-flip test of the mean (Fisher 1935; scipy's `permutation_test`), None for one difference, which
    says nothing of chance. low, high: the 95 % interval of Student's t, shown beside it and never deciding; None where
    the differences have no spread.
    """
    values = [float(difference) for difference in differences]
    n, mean = len(values), statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(n) if n > 1 else 0.0
    low = high = None
    if error >= ROUNDING:
        reach = _quantile(n - 1) * error
        low, high = mean - reach, mean + reach
    p = _sign_flip_p(values, alternative) if n > 1 else None
    return {"mean": mean, "low": low, "high": high, "p": p, "n": n}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p-values: max over i <= k of (m - i + 1) p_(i), at most 1 (Scand. J. Statist. 6, 1979)."""
    adjusted, floor = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}


def _sign_flip_p(differences: Sequence[float], alternative: Alternative) -> float:
    from scipy.stats import permutation_test

    test = permutation_test(
        (np.asarray(differences),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=PATTERNS,
        alternative=alternative,
        rng=0,
    )
    return float(test.pvalue)


@cache
def _quantile(freedom: int) -> float:
    """Return the t beyond which, up and down, 1 - LEVEL of Student's distribution lies."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))

"""The paired test, its correction for many, and the interval beside it."""

import itertools
import statistics

import pytest

from classicnets.compare.statistics import holm, paired


@pytest.mark.parametrize(
    ("differences", "two_sided", "greater", "less"),
    [
        ([1, 2, 3, 4, 5], 2 / 32, 1 / 32, 1),
        ([-1, 2, 3, 4, 5], 4 / 32, 2 / 32, 31 / 32),
        ([4, 4, 4], 2 / 8, 1 / 8, 1),
        ([0, 0, 0], 1, 1, 1),
        ([0.3 - 0.1, 0.2], 0.5, 0.25, 1),
    ],
)
def test_the_paired_p_value_counts_sign_patterns(differences, two_sided, greater, less):
    assert paired(differences)["p"] == pytest.approx(two_sided)
    assert paired(differences, "greater")["p"] == pytest.approx(greater)
    assert paired(differences, "less")["p"] == pytest.approx(less)


def test_it_is_the_share_of_sign_patterns_with_as_large_a_mean():
    differences = [0.4, -1.5, 2.0, 3.1, -0.2, 1.0, 2.2]
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in itertools.product((1, -1), repeat=7)
    ]
    share = sum(total >= sum(differences) - 1e-12 for total in sums) / len(sums)
    assert paired(differences, "greater")["p"] == pytest.approx(share)


def test_more_differences_than_can_be_flipped_exactly_give_the_same_p_again():
    differences = [(-1) ** i * i + 1.5 for i in range(20)]
    p = paired(differences)["p"]
    assert 0.3 < p < 1 and paired(differences)["p"] == p


def test_the_interval_is_students():
    # t = 2.776445 with 4 degrees of freedom, standard error sqrt(2.5 / 5)
    told = paired([1, 2, 3, 4, 5])
    assert (told["mean"], told["n"]) == (3, 5)
    assert (told["low"], told["high"]) == (pytest.approx(3 - 1.963243, abs=1e-5), pytest.approx(4.963243, abs=1e-5))


def test_what_has_no_spread_has_no_interval_and_one_difference_no_p():
    assert paired([1.5]) == {"mean": 1.5, "low": None, "high": None, "p": None, "n": 1}
    equal = paired([0.3 - 0.1, 0.2])
    assert (equal["low"], equal["high"], equal["mean"]) == (None, None, pytest.approx(0.2))
    with pytest.raises(statistics.StatisticsError):
        paired([])


def test_holm_corrects_the_smallest_most_and_keeps_the_order():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}

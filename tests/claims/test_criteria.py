"""Forms of criteria decide as their docstrings say, and are told by their constants."""

import pytest

from classicnets.claims import Preset, by_condition, by_seed, steps_to
from classicnets.claims.criteria import EverySeed, Exact, Limits, Survival

BOUNDS = EverySeed({"gap": "> 5", "plain": "> 5", "residual": "< 1"})
SURVIVAL = Survival({"running": "> 5", "batch": "> 5"})


@pytest.mark.parametrize(
    ("plain", "residual", "outcome"),
    [
        ([6.0, 40.0], [0.9, -3.0], "reproduced"),
        ([5.0, 40.0], [-1.0, 0.0], "undecided"),
        ([50.0, 40.0], [1.0, 0.0], "undecided"),
        ([5.5, 40.0], [0.9, 0.9], "undecided"),
        ([-6.0, -40.0], [-0.9, 3.0], "refuted"),
        ([0.0, 0.0], [40.0, 5.1], "refuted"),  # the sides swapped: the first statistic decides, and no other need
        ([0.0, 0.0], [40.0, 5.0], "undecided"),
        ([0.0, 0.0], [0.0, 0.0], "undecided"),
        ([-5.1, -4.0], [-0.9, 3.0], "undecided"),
        ([-5.1, -6.0], [-0.9, -0.9], "undecided"),
        ([-6.0, -40.0], [-1.0, 3.0], "undecided"),
    ],
)
def test_every_seed_must_pass_every_bound(plain, residual, outcome):
    gap = [p - r for p, r in zip(plain, residual, strict=True)]
    assert BOUNDS.judge({"plain": plain, "residual": residual, "gap": gap}) == outcome


@pytest.mark.parametrize(
    ("running", "batch", "outcome"),
    [
        ([[5.1, 9.0], [6.0, 7.0]], [[5.1, 9.0], [6.0, 7.0]], "survives"),
        ([[5.1, 9.0], [6.0, 7.0]], [[5.0, 9.0], [6.0, 7.0]], "undecided"),
        ([[5.1, 9.0], [6.0, 7.0]], [[5.0, 1.0], [6.0, 7.0]], "undecided"),
        ([[5.0, 9.0], [6.0, 7.0]], [[5.1, 9.0], [6.0, 7.0]], "undecided"),
        ([[5.0, -1.0], [60.0, 70.0]], [[5.1, 9.0], [6.0, 7.0]], "vanishes"),
    ],
)
def test_a_gap_survives_only_everywhere(running, batch, outcome):
    conditions = {str(i): {"running": r, "batch": b} for i, (r, b) in enumerate(zip(running, batch, strict=True))}
    assert SURVIVAL.judge({"conditions": conditions}) == outcome


@pytest.mark.parametrize(
    ("criterion", "statistics"),
    [
        (BOUNDS, {"plain": [], "residual": [], "gap": []}),
        (BOUNDS, {"plain": [9.0], "residual": [0.0, 0.0], "gap": [9.0]}),
        (SURVIVAL, {"conditions": {}}),
        (SURVIVAL, {"conditions": {"a": {"running": [9.0], "batch": [9.0]}, "b": {"running": [], "batch": []}}}),
        (SURVIVAL, {"conditions": {"a": {"running": [9.0], "batch": [9.0, 9.0]}}}),
    ],
)
def test_unpaired_or_no_seeds_are_refused(criterion, statistics):
    with pytest.raises(ValueError, match="one value a seed of each statistic, got"):
        criterion.judge(statistics)


def test_limits_hold_each_by_itself():
    limits = Limits({"a": ">= 1.4", "b": ">= 1.4", "c": "<= 2", "d": "<= 2"})
    assert limits.judge({"a": 1.4, "b": 1.3, "c": 2.0, "d": 2.1}) == "2 of 4 bounds hold"


def test_a_count_is_reproduced_to_the_unit():
    criterion = Exact({"parameters": "= 11689512", "depth": "= 18"})
    assert criterion.judge({"parameters": 11_689_512, "depth": 18}) == "reproduced"
    assert criterion.judge({"parameters": 11_689_513, "depth": 18}) == "refuted"


@pytest.mark.parametrize(
    ("bound", "value", "held"),
    [
        ("= 3.8", 3.858, True),  # cut
        ("= 11.3", 11.282, True),  # rounded
        ("= 3.8", 3.749, False),
        ("= 3.8", 3.9, False),
        ("= 60", 60.97, True),
        ("= 60", 61.0, False),
        ("= 650", 659.3, False),
        ("= 5", 5.4, True),
        ("= 5", 5.6, False),  # one digit is no cut of anything
        ("= 27", 27, True),
        ("< 1", 1, False),
    ],
)
def test_a_number_is_judged_at_the_digits_that_are_printed(bound, value, held):
    assert Exact({"a": bound}).judge({"a": value}) == ("reproduced" if held else "refuted")


def test_a_criterion_is_told_by_its_form_bounds_and_version(monkeypatch):
    assert SURVIVAL.facts == {"form": "Survival", "version": 1, "bounds": {"running": "> 5", "batch": "> 5"}}
    assert SURVIVAL.sha256 == "dbb8b03e817c0430119ac19bdb4a30c6df3a0139611f1a7ad8cf49059cc90015"
    digests = {SURVIVAL.sha256, EverySeed(SURVIVAL.bounds).sha256, Survival({"running": "> 5"}).sha256}
    assert EverySeed({"a": "> 5", "b": "> 5"}).sha256 != EverySeed({"b": "> 5", "a": "> 5"}).sha256
    monkeypatch.setattr(Survival, "version", 2)
    assert len(digests | {SURVIVAL.sha256}) == 4


ROWS = [{"seed": seed, "depth": depth, "error": depth + seed} for depth in (20, 56) for seed in (3, 1)]


def test_values_come_in_the_order_of_the_seeds():
    assert by_seed(ROWS, "error", depth=56).tolist() == [59, 57]
    conditions = by_condition(ROWS, ("depth",), lambda rows: {"error": by_seed(rows, "error").tolist()})
    assert conditions == {"depth 20": {"error": [23, 21]}, "depth 56": {"error": [59, 57]}}


@pytest.mark.parametrize("rows", [ROWS[:-1], [*ROWS, ROWS[-1]], []])
def test_a_seed_without_its_one_run_is_refused(rows):
    with pytest.raises(ValueError, match="one run a seed"):
        by_seed(rows, "error", depth=56)


def test_a_preset_is_a_sweep_or_a_measurement():
    for parts in ({}, {"cases": [], "measure": list}, {"measure": list, "of_seed": list}):
        with pytest.raises(ValueError, match="a preset has cases, measure or of_seed"):
            Preset(**parts)


@pytest.mark.parametrize(
    ("errors", "step"),
    [
        ([90.0, 30.0, 20.0, 5.0], 25.0),  # half of the way from step 20 to 30
        ([25.0, 30.0], 10.0),  # at the first evaluation: what lies before is not known
        ([90.0, None, 20.0], 10 + 20 * 65 / 70),
        ([90.0, 26.0, 25.1], None),
        ([], None),
    ],
)
def test_a_level_is_reached_on_the_straight_line_between_evaluations(errors, step):
    log = [{"step": 10 * (i + 1), "loss": 1.0, "train_error": error} for i, error in enumerate(errors)]
    assert steps_to(25.0, log) == {"steps to 25 %": step if step is None else pytest.approx(step)}

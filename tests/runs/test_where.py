"""Conditions on the fields of a run: parsed, never executed."""

import pytest

from classicnets.runs.where import condition

ROW = {"depth": 32, "shortcut": "none", "width": 0.5, "augment": True, "train_size": None, "run": "a-b"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("depth>=32 and shortcut=='none'", True),
        ("depth>32 or shortcut!='none'", False),
        ("20 < depth <= 32", True),
        ("20 < depth < 32", False),
        ("depth in (20, 32)", True),
        ("depth not in [20, 44]", True),
        ("not (width == 0.5)", False),
        ("augment", True),
        ("train_size == None", True),
        ("train_size > 3", False),
        ("train_size <= 3", False),
        ("width > -1", True),
        ("shortcut == 'none' and not depth == 20", True),
    ],
)
def test_conditions(text, holds):
    assert condition(text)[0](ROW) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "depth >",
        "depth = 3",
        "__import__('os').system('touch pwned')",
        "depth.__class__",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "depth if 1 else 2",
        "f'{depth}'",
        "depth + 1 > 3",
        "9**9**9",
        "depth is None",
        "shortcut[0] == 'n'",
        "depth := 3",
        "(" * 900,
        "b'x' == shortcut",
        "depth\0",
        "{1: 2}",
        "...",
    ],
)
def test_what_is_no_condition_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="where cannot be read"):
        condition(text)
    assert not list(tmp_path.iterdir())


def test_numbers_and_words_are_not_compared():
    with pytest.raises(ValueError, match="where compares 32 with 'x'"):
        condition("depth > 'x'")[0](ROW)


def test_nothing_is_in_what_a_run_lacks():
    holds = condition("'dig' in dataset and not 'none' in shortcut and shortcut not in ('A', 'B')")[0]
    assert holds({"dataset": "digits", "shortcut": "C"})
    assert holds({"dataset": "digits"})
    assert not holds({"shortcut": "C"})
    assert not condition("shortcut in 'none'")[0]({})
    assert condition("shortcut in ('A', 'B')")[0]({"shortcut": "B"})
    assert condition("shortcut not in 'none'")[0]({})
    with pytest.raises(ValueError, match="where is up to 1000 characters long, got 1,001"):
        condition("x" * 1001)

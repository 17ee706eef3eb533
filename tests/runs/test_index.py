"""Runs listed, found and selected, by name and by the fields of their rows."""

import json
import sys
from types import SimpleNamespace

import pytest
from helpers.answers import json_of, refusal_of, text_of
from helpers.commands import answer
from helpers.stored import configuration, store

from classicnets.runs import RunLocked, find_run, list_runs
from classicnets.runs.index import list_records, names, ordered, refuse_held, select
from classicnets.runs.run import Run


def seeds(records) -> list[int]:
    return [record.facts["seed"] for record in records]


def depths(records) -> list[int]:
    return [record.row["depth"] for record in records]


def test_choice_order_and_unknown_fields(tmp_path):
    store(tmp_path, range(30))
    store(tmp_path, range(3), experiment="other")
    records = list_records([tmp_path])
    assert seeds(select(records, ["other"])) == [0, 1, 2]
    assert len(select(records, ["net14-*", "other"])) == 13
    assert len(select(records, [str(records[3].path), records[3].id])) == 1
    found = select(records, ["default"], "depth>8 and seed<2", "test_error", True)
    assert list(zip(depths(found), seeds(found), strict=True)) == [
        (depth, seed) for seed in (1, 0) for depth in (20, 14) for _ in range(2)
    ]
    for wrong, near in (({"where": "dept>8"}, "depth"), ({"sort": "tset_error"}, "test_error")):
        with pytest.raises(ValueError, match=f"the nearest is '{near}'"):
            select(records, **wrong)
    with pytest.raises(ValueError, match="no run has the field 'dpeth'; the nearest is 'depth'"):
        select(records, columns=["run", "dpeth"])
    with pytest.raises(ValueError, match="no run 'othr'; the nearest is 'other'"):
        select(records, ["othr"])


@pytest.mark.parametrize(
    ("values", "descending", "expected"),
    [([None, "x", 2, 1], False, [1, 2, "x", None]), ([None, 2, 3], True, [3, 2, None])],
)
def test_numbers_come_before_words_and_what_is_lacking_last(values, descending, expected):
    records = [SimpleNamespace(row={"a": value}) for value in values]
    assert [record.row["a"] for record in ordered(records, "a", descending)] == expected


def test_the_order_is_that_of_the_words_and_of_the_numbers_in_names(tmp_path):
    store(tmp_path, range(0, 170, 10))
    records = list_records([tmp_path])
    assert depths(records) == list(range(8, 110, 6))
    last, first = records[-1].path, records[0].path
    assert depths(select(records, [str(last), "net14-*", f"{first}/../{first.name}", "default"])) == [
        *(104, 14, 8),
        *range(20, 104, 6),
    ]
    for known, hint in ((records, "'classicnets runs' lists them"), ([], "there are none")):
        with pytest.raises(ValueError, match=f"no run '.*; {hint}"):
            select(known, ["\0" + "y" * 5000])


def test_an_id_may_be_led_by_its_experiment(tmp_path):
    (one,), (other,) = store(tmp_path, [0], "one"), store(tmp_path, [0], "two")
    records = list_records([tmp_path])
    assert [r.path for r in select(records, [f"two/{one.name}"])] == [other]
    assert [r.path for r in select(records, ["one/net*"])] == [one]
    assert names(records) == [f"one/{one.name}", f"two/{one.name}"]
    assert names(records[:1]) == [one.name]
    with pytest.raises(ValueError, match=r"no run 'o\*'"):
        select(records, ["o*"])


def test_a_directory_is_a_run_an_experiment_or_a_root(tmp_path):
    one, other = store(tmp_path / "a", [0, 1], "one")
    (tmp_path / "a" / ".hidden" / "x").mkdir(parents=True)
    for words in ([], [str(one), "net*"], [str(tmp_path / "a" / "one")], [str(one.parent / ".." / "one"), str(one)]):
        assert [r.path.name for r in list_records([tmp_path / "a"], words)] == [one.name, other.name]
    assert [r.path for r in list_records([], [str(one)])] == [one]
    assert [r.path for r in list_records([], [str(one.parent)])] == [one, other]
    assert [r.path for r in list_records([], [str(tmp_path / "a"), "x" * 5000, "\0"])] == [one, other]
    assert [run.path for run in list_runs(tmp_path / "a", "one")] == [one, other]
    assert list_runs(tmp_path / "nowhere") == []


def test_one_run_is_found_by_what_names_it_alone(tmp_path):
    one, other = store(tmp_path, [0, 1], "one")
    assert find_run(tmp_path, one.name).path == find_run(tmp_path, str(one)).path == one
    assert find_run(tmp_path, f"one/{other.name}").path == find_run(tmp_path, "*-s1-*").path == other
    store(tmp_path, [0], "two")
    with pytest.raises(ValueError, match=rf"'{one.name}' names 2 runs, such as one/{one.name} and two/{one.name}"):
        find_run(tmp_path, one.name)
    with pytest.raises(ValueError, match=r"no run 'nte' below .*; 'classicnets runs' lists them"):
        find_run(tmp_path, "nte")
    (one / "config.json").unlink()
    assert find_run(tmp_path, f"one/{one.name}").path == one


def test_a_run_that_is_held_is_refused_by_its_id_and_by_its_command(tmp_path, monkeypatch):
    config = configuration()
    run, command = Run.of(tmp_path, "default", "net", config), ["train", "net"]
    monkeypatch.setattr(sys, "argv", ["classicnets", *command])
    run.acquire(config)
    for words in ((command, None), (["train"], run.id)):
        with pytest.raises(RunLocked, match=f"run {run.id} is held by process"):
            refuse_held(tmp_path, *words)
    refuse_held(tmp_path, ["train"], "another")
    run.release()
    refuse_held(tmp_path, command, run.id)


def test_no_runs_are_no_lines(tmp_path, capsys):
    sentence = f"classicnets: there are no such runs below {str(tmp_path)!r}\n"
    assert answer(capsys, "runs", "--runs", tmp_path) == (0, "", sentence)


def test_a_condition_is_no_option(tmp_path, capsys):
    assert "where cannot be read: \"__import__('os')\"" in refusal_of(
        capsys, "runs", "--runs", tmp_path, "--where", "__import__('os')"
    )


def test_a_folder_whose_name_is_no_text_is_named(tmp_path, capsys):
    (path,) = store(tmp_path, [0])
    (path.parent / "caf\udce9").mkdir()
    damaged, complete = json_of(capsys, "runs", "--runs", tmp_path, "--csv", tmp_path / "runs.csv")
    assert (damaged["state"], damaged["run"], complete["state"]) == ("damaged", "caf\\xe9", "complete")
    assert b"caf\\xe9" in (tmp_path / "runs.csv").read_bytes()
    lines = text_of(capsys, "runs", "--runs", tmp_path).encode().splitlines()
    assert any(b"damaged" in line and b"caf\\xe9" in line for line in lines)


def test_what_a_terminal_would_obey_is_shown(tmp_path, capsys):
    (path,) = store(tmp_path, [0])
    status = {"state": "failed", "error": "boom\ncomplete     net  test error 0.01 %\x1b]0;pwned\x07\u202e"}
    (path / "status.json").write_text(json.dumps(status))
    for words in ([], ["--columns", "run", "error"]):
        out = text_of(capsys, "runs", "--runs", tmp_path, *words)
        assert "boom\u240acomplete     net  test error 0.01 %\u241b]0;pwned\u2407\ufffd" in out
        assert len(out.splitlines()) == 2  # the head, and the run

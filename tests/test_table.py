"""Listing runs: damaged ones are named, conditions are parsed and never executed, exports read back."""

import csv
import io
import json
import os
import shutil

import pytest
from pyarrow import parquet
from stored import configuration, put, store

from classicnets.cli.main import main
from classicnets.exports.tables import csv_bytes, parquet_bytes
from classicnets.runs.table import chosen, ordered, table
from classicnets.runs.where import condition


def damage(path, kind: int) -> str:
    """Damages a run's folder in one of 20 ways; a part of the reason that must be given."""

    def write(name, content):
        (path / name).write_bytes(content)

    def read(name):
        return (path / name).read_bytes()

    config = json.loads(read("config.json"))
    if kind == 0:
        write("config.json", read("config.json")[:100])
    elif kind == 1:
        write("status.json", read("status.json")[:-9])
    elif kind == 2:
        (path / "config.json").unlink()
    elif kind == 3:
        (path / "status.json").unlink()
    elif kind == 4:
        (path / "metrics.jsonl").unlink()
    elif kind == 5:
        (path / "environment.json").unlink()
    elif kind == 6:
        shutil.rmtree(path / "checkpoints")
    elif kind == 7:
        write("metrics.jsonl", read("metrics.jsonl")[:-20])
    elif kind == 8:
        write("metrics.jsonl", read("metrics.jsonl").replace(b"}\n{", b"\n{", 1))
    elif kind == 9:
        shutil.rmtree(path)
        path.mkdir()
        write("notes.txt", b"mine")
    elif kind == 10:
        write("config.json", b"[]")
    elif kind == 11:
        write("config.json", json.dumps({**config, "schema": 99}).encode())
    elif kind == 12:
        write("config.json", json.dumps({**config, "seed": 77}).encode())
    elif kind == 13:
        write("config.json", json.dumps({**config, "model": "x"}).encode())
    elif kind == 14:
        write("status.json", b'{"state": "complete", "step": 33, "test_error": "low"}')
    elif kind == 15:
        write("status.json", b"\xff\xfe\x00")
    elif kind == 16:
        write("status.json", b"[" * 100_000)
    elif kind == 17:
        (path / "config.json").unlink()
        (path / "config.json").mkdir()
    elif kind == 18:
        write("status.json", b'{"step": 33}')
    else:
        write("config.json", b"")
    return {
        2: "config.json",
        3: "status.json is missing",
        4: "metrics.jsonl is missing",
        5: "environment.json is missing",
        6: "lacks the final step 33",
        7: "line 3 is not whole",
        8: "line 1 is not whole",
        11: "has schema 99",
        12: "does not belong to a run of this name",
        13: "model is of another kind",
        14: "test_error is 'low'",
        18: "it lacks 'state'",
    }.get(kind, "is damaged")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """(runs directory of 300, {id: reason} of the 20 that are damaged)."""
    root = tmp_path_factory.mktemp("many")
    paths = store(root, range(300))
    return root, {path.name: damage(path, kind) for kind, path in enumerate(paths[7::15])}


def test_300_runs_of_which_20_are_damaged(many, capsys):
    root, damaged = many
    assert len(damaged) == 20
    with pytest.raises(SystemExit) as end:
        main(["runs", "--runs", str(root), "--json"])
    assert end.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    bad = {row["run"]: row["reason"] for row in rows if row["state"] == "damaged"}
    assert len(rows) == 300
    assert bad.keys() == damaged.keys()
    for run, part in damaged.items():
        assert part in bad[run]
        assert run in bad[run]
    good = [row for row in rows if row["state"] == "complete"]
    assert len(good) == 280
    assert {(row["depth"], row["epochs"], row["dataset"], row["model"]) for row in good if row["seed"] == 0} == {
        (depth, 3, "digits", "CifarResNet") for depth in range(8, 8 + 6 * 30, 6)
    }


def test_an_unfinished_last_line_is_no_damage_while_the_run_can_be_resumed(tmp_path):
    (path,) = store(tmp_path, [0])
    (path / "status.json").write_text('{"state": "interrupted", "step": 22}')
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text[:-9])
    assert [row["state"] for row in table(tmp_path)] == ["interrupted"]
    (path / "metrics.jsonl").write_text(text.replace("}", "", 1)[:-9])
    assert [row["reason"] for row in table(tmp_path)] == [f"{path / 'metrics.jsonl'} is damaged: line 1 is not whole"]


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


def test_choice_order_and_unknown_fields(tmp_path):
    store(tmp_path, range(30))
    store(tmp_path, range(3), experiment="other")
    rows = table(tmp_path)
    assert [r["seed"] for r in chosen(rows, ["other"])] == [0, 1, 2]
    assert len(chosen(rows, ["net14-*", "other"])) == 13
    assert len(chosen(rows, [rows[3]["directory"], rows[3]["run"]])) == 1
    found = chosen(rows, ["default"], "depth>8 and seed<2", "test_error", True)
    assert [(r["depth"], r["seed"]) for r in found] == [(20, 1)] * 2 + [(14, 1)] * 2 + [(20, 0)] * 2 + [(14, 0)] * 2
    for wrong, near in (({"where": "dept>8"}, "depth"), ({"sort": "tset_error"}, "test_error")):
        with pytest.raises(ValueError, match=f"the nearest is '{near}'"):
            chosen(rows, **wrong)
    with pytest.raises(ValueError, match="no run 'othr'; the nearest is 'other'"):
        chosen(rows, ["othr"])
    assert [r["a"] for r in ordered([{"a": None}, {"a": "x"}, {"a": 2}, {"a": 1}], "a")] == [1, 2, "x", None]
    assert [r["a"] for r in ordered([{"a": None}, {"a": 2}, {"a": 3}], "a", True)] == [3, 2, None]


def test_the_order_is_that_of_the_words_and_of_the_numbers_in_names(tmp_path):
    store(tmp_path, range(0, 170, 10))
    rows = table(tmp_path)
    assert [r["depth"] for r in rows] == list(range(8, 110, 6))
    last, first = rows[-1]["directory"], rows[0]["directory"]
    assert [r["depth"] for r in chosen(rows, [last, "net14-*", f"{first}/../{rows[0]['run']}", "default"])] == [
        *(104, 14, 8),
        *range(20, 104, 6),
    ]
    for there, told in ((rows, "'classicnets runs' lists them"), ([], "there are none")):
        with pytest.raises(ValueError, match=f"no run '.*; {told}"):
            chosen(there, ["\0" + "y" * 5000])


def test_exports_read_back(tmp_path, capsys):
    store(tmp_path / "runs", range(3))
    files = {"--csv": tmp_path / "a.csv", "--parquet": tmp_path / "a.parquet"}
    with pytest.raises(SystemExit):
        main(["runs", "--runs", str(tmp_path / "runs"), *(str(w) for item in files.items() for w in item)])
    rows = table(tmp_path / "runs")
    with files["--csv"].open(newline="") as file:
        back = list(csv.DictReader(file))
    assert [float(r["test_error"]) for r in back] == [r["test_error"] for r in rows]
    assert [(r["shortcut"], r["augment"], r["boundaries"], r["clip_norm"]) for r in back] == [
        ("none", "true", "[]", "")
    ] * 3
    stored = parquet.read_table(files["--parquet"])
    assert stored.to_pylist() == [{**r, "boundaries": "[]"} for r in rows]


def test_mixed_columns_and_formulas():
    rows = [{"a": 1, "b": "=1+1"}, {"a": 0.5, "b": 3}, {"a": None, "b": None}, {"b": "@x"}, {"b": "-\n"}, {"a": -2}]
    text = csv_bytes(rows, ["a", "b"]).decode()
    assert list(csv.reader(text.splitlines(keepends=True)))[1:] == [
        ["1", "'=1+1"],
        ["0.5", "3"],
        ["", ""],
        ["", "'@x"],
        ["", "'-\n"],
        ["-2", ""],
    ]
    assert csv_bytes([{"=1+1": "\nx"}], ["=1+1"]) == b"'=1+1\n\"'\nx\"\n"
    assert csv_bytes([{"a": "caf\udce9"}], ["a"]) == b"a\ncaf\\udce9\n"
    huge = parquet_bytes([{"a": 2**70, "b": "caf\udce9"}], ["a", "b"])
    assert parquet.read_table(io.BytesIO(huge)).to_pylist() == [{"a": str(2**70), "b": "caf\\udce9"}]
    stored = parquet_bytes(rows, ["a", "b"])
    assert parquet.read_table(io.BytesIO(stored)).to_pylist()[1] == {"a": 0.5, "b": "3"}


def test_no_runs_are_no_lines(tmp_path, capsys):
    assert listed(tmp_path) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"classicnets: there are no such runs below {str(tmp_path)!r}\n")


def listed(root, *words) -> int:
    """The exit status of the listing of `root`."""
    with pytest.raises(SystemExit) as end:
        main(["runs", "--runs", str(root), *map(str, words)])
    return end.value.code


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.jsonl", b'{"step": 11, "epo{"step": 22, "epoch": 2}\n{"step": 33}\n', "line 1 is not whole"),
        ("metrics.jsonl", b'{"step": 11, "epoch": 1.0, {}}\n{"step": 33}\n', "line 1 is not whole"),
        ("metrics.jsonl", b'{"step": 11\n}{"step": 33}\n', "line 1 is not whole"),
        ("metrics.jsonl", b"", "ends at step 0, the run at step 33"),
        ("metrics.jsonl", b'{"step": 11}\n{"step": 22}\n', "ends at step 22, the run at step 33"),
        ("environment.json", b'[{"python": "3', "environment.json is damaged"),
        ("status.json", b'{"state": "complete", "step": "%s"}' % (300 * b"a"), "status.json is damaged: step is 'aaa"),
        ("status.json", b'{"state": "complete", "step": 33, "test_error": 1%s}' % (400 * b"0"), "test_error is 1000"),
        ("config.json", b'{"model": {}, "data": {}, "recipe": {}, "seed": [1]}', "seed is [1]"),
        ("config.json", b'{"model": {}, "data": {}, "recipe": {}, "seed": 1, "parent": "x"}', "parent is 'x'"),
        ("environment.json", b"[]", "environment.json is missing or empty"),
    ],
)
def test_what_a_run_holds_is_read(name, content, reason, tmp_path):
    good, path = store(tmp_path, [0, 1])
    (path / name).write_bytes(content)
    rows = {row["run"]: row for row in table(tmp_path)}
    assert rows[good.name]["state"] == "complete"
    assert rows[path.name]["state"] == "damaged"
    assert reason in rows[path.name]["reason"]


def test_a_log_whose_lines_hold_objects_is_whole(tmp_path):
    (path,) = store(tmp_path, [0])
    (path / "metrics.jsonl").write_text('{"step": 11, "norms": {"conv1": 1}}\n{"step": 33, "said": "{"}\n')
    assert [row["state"] for row in table(tmp_path)] == ["complete"]


def test_a_folder_whose_name_is_no_text_is_named(tmp_path, capsys):
    (path,) = store(tmp_path, [0])
    (path.parent / "caf\udce9").mkdir()
    assert listed(tmp_path, "--csv", tmp_path / "runs.csv") == 0
    lines = capsys.readouterr().out.encode().splitlines()
    assert lines[1].startswith(b"damaged   caf\\xe9  ")
    assert lines[2].startswith(b"complete ")
    assert b"caf\\xe9" in (tmp_path / "runs.csv").read_bytes()


def test_a_record_does_not_say_where_it_lies(tmp_path):
    config = configuration()
    fields = {"run": "evil", "experiment": "other", "directory": "/", "reason": "none", "state": "new"}
    config["model"] |= fields
    path = put(tmp_path / "a", config, "net", run="evil", directory="/", experiment="other")
    (row,) = table(tmp_path)
    place = (row["run"], row["experiment"], row["directory"], row["state"])
    assert place == (path.name, "a", str(path), "complete")
    assert {name: row[f"model_{name}"] for name in fields} == fields


def test_what_a_terminal_would_obey_is_shown(tmp_path, capsys):
    (path,) = store(tmp_path, [0])
    status = {"state": "failed", "error": "boom\ncomplete     net  test error 0.01 %\x1b]0;pwned\x07\u202e"}
    (path / "status.json").write_text(json.dumps(status))
    for words in ([], ["--columns", "run", "error"]):
        assert listed(tmp_path, *words) == 0
        out = capsys.readouterr().out
        assert "boom\u240acomplete     net  test error 0.01 %\u241b]0;pwned\u2407\ufffd" in out
        assert len(out.splitlines()) == 2


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


def test_a_condition_is_no_option(tmp_path, capsys):
    assert listed(tmp_path, "--where", "__import__('os')") == 2
    assert "where cannot be read: \"__import__('os')\"" in capsys.readouterr().err


def test_an_id_may_be_led_by_its_experiment(tmp_path):
    (one,), (other,) = store(tmp_path, [0], "one"), store(tmp_path, [0], "two")
    rows = table(tmp_path)
    assert [r["directory"] for r in chosen(rows, [f"two/{one.name}"])] == [str(other)]
    assert [r["directory"] for r in chosen(rows, ["one/net*"])] == [str(one)]
    with pytest.raises(ValueError, match=r"no run 'o\*'"):
        chosen(rows, ["o*"])


@pytest.mark.parametrize("option", ["--csv", "--parquet"])
def test_where_no_file_can_be_is_refused_first(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "runs", [0])
    os.mkfifo("pipe")
    (tmp_path / "folder").mkdir()
    for place in ("pipe", "folder", "", "nowhere/file", "/dev/null", 300 * "x"):
        assert listed("runs", option, place, "--mlflow", "mlflow") == 2
        assert "must be a file in a folder that can be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe", "runs"]
    (tmp_path / "target").write_text("before")
    (tmp_path / "link").symlink_to("target")
    assert listed("runs", option, "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes()[:4] != b"befo"

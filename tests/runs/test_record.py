"""A record is read once, and whatever is wrong with it is told in one sentence that names the file."""

import json
import re

import pytest
from helpers.answers import json_of
from helpers.stored import configuration, put, record_of, rows, store, store_many

from classicnets.runs import Record, Run
from classicnets.runs.verify import verify
from classicnets.system.environment import differences, environment


def test_300_runs_of_which_21_are_damaged(tmp_path, capsys):
    damaged = store_many(tmp_path)
    listed = json_of(capsys, "runs", "--runs", tmp_path)
    reasons = {row["run"]: row["reason"] for row in listed if row["state"] == "damaged"}
    assert (len(listed), len(damaged)) == (300, 21)
    assert reasons.keys() == damaged.keys()
    assert all(reason in reasons[run] and run in reasons[run] for run, reason in damaged.items())
    good = [row for row in listed if row["state"] == "complete"]
    assert len(good) == 279
    assert {(row["depth"], row["epochs"], row["dataset"], row["model"]) for row in good if row["seed"] == 1} == {
        (depth, 3, "digits", "CifarResNet") for depth in range(8, 8 + 6 * 30, 6)
    }


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.jsonl", b'{"step": 11, "epo{"step": 22, "epoch": 2}\n{"step": 33}\n', "line 1 is not whole"),
        ("metrics.jsonl", b'{"step": 11, "epoch": 1.0, {}}\n{"step": 33}\n', "line 1 is not whole"),
        ("metrics.jsonl", b'{"step": 11\n}{"step": 33}\n', "line 1 is not whole"),
        ("metrics.jsonl", b"", "ends at step 0, the run at step 33"),
        ("metrics.jsonl", b'{"step": 11}\n{"step": 22}\n', "ends at step 22, the run at step 33"),
        ("environment.json", b'[{"python": "3', "environment.json is damaged"),
        ("environment.json", b'["x"]', "environment.json is damaged: a segment is of another kind"),
        ("environment.json", b'[{"versions": 3}]', "environment.json is damaged: a segment is of another kind"),
        ("environment.json", b"{}", "environment.json is damaged: it is of another kind"),
        ("environment.json", b"[]", "environment.json is missing or empty"),
        ("status.json", b'{"state": "complete", "step": "%s"}' % (300 * b"a"), "status.json is damaged: step is 'aaa"),
        ("status.json", b'{"state": "interrupted", "step": "33"}', "status.json is damaged: step is '33'"),
        ("status.json", b'{"state": "complete", "step": 33, "test_error": 1%s}' % (400 * b"0"), "test_error is 1000"),
        ("status.json", b'{"state": "complete", "step": 1%s}' % (400 * b"0"), "at step 33, the run at step 1000"),
        ("status.json", b"[]", "status.json is damaged: it is of another kind"),
        ("config.json", b'{"model": {}, "data": {}, "recipe": {}, "seed": [1]}', "seed is [1]"),
        ("config.json", b'{"model": {}, "data": {}, "recipe": {}, "seed": 1, "parent": "x"}', "parent is 'x'"),
        ("config.json", b'{"schema": 4, "model": {"x": NaN}, "data": {}, "recipe": {}, "seed": 1}', "JSON compliant"),
    ],
)
def test_what_is_wrong_is_told_and_leaves_the_other_runs_listed(name, content, reason, tmp_path):
    good, path = store(tmp_path, [0, 1])
    (path / name).write_bytes(content)
    listed = {row["run"]: row for row in rows(tmp_path)}
    assert listed[good.name]["state"] == "complete"
    assert listed[path.name]["state"] == "damaged"
    assert reason in listed[path.name]["reason"]
    assert listed[path.name]["reason"] == Record(path).problems[0] == verify(Run(path))["problems"][0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"step": 11}\n{"step": 11}\n', "line 2 is not of a later step"),
        ('{"step": "x"}\n', "line 1 is not of a later step"),
        ('{"epoch": 1}\n', "line 1 is not of a later step"),
        ('{"step": 11, "test_error": "low"}\n', "line 1: test_error is 'low'"),
        ('{"step": 11, "train_error": NaN}\n', "line 1: train_error is nan"),
        ('{"step": }\n', "metrics.jsonl is damaged: Expecting value"),
        ('{"step": ' + "[" * 100_000 + "}\n", "metrics.jsonl is damaged: maximum recursion"),
        ('{"step": "\udcff"}\n', "metrics.jsonl is damaged: 'utf-8' codec"),
    ],
)
def test_each_line_of_a_log_is_checked_when_it_is_read(tmp_path, content, reason):
    (path,) = store(tmp_path, [0])
    (path / "metrics.jsonl").write_text(content + '{"step": 33}\n', errors="surrogateescape")
    with pytest.raises(ValueError) as error:
        _ = Record(path).log
    assert reason in str(error.value)
    assert str(error.value) in verify(Run(path))["problems"]


def test_a_log_that_cannot_be_read_is_damage(tmp_path):
    (path,) = store(tmp_path, [0])
    (path / "status.json").write_text('{"state": "interrupted", "step": 33}')
    (path / "metrics.jsonl").unlink()
    (path / "metrics.jsonl").mkdir()
    assert "metrics.jsonl is damaged: [Errno 21]" in Record(path).problems[0]


def test_every_problem_is_told_once(tmp_path):
    (path,) = store(tmp_path, [0])
    (path / "config.json").write_text("{}")
    (path / "metrics.jsonl").write_text('{"step": 22}\n{"step": 22}\n')
    (path / "environment.json").unlink()
    assert Record(path).all_problems == (
        f"{path / 'config.json'} is damaged: it lacks 'model'",
        f"{path / 'metrics.jsonl'} is damaged: it ends at step 22, the run at step 33",
        f"{path / 'environment.json'} is missing or empty",
        f"{path / 'metrics.jsonl'} is damaged: line 2 is not of a later step than what is before it",
    )
    (path / "status.json").unlink()
    assert Record(path).problems[1:] == (f"{path / 'status.json'} is missing",)


def test_files_are_read_once(tmp_path):
    record = record_of(tmp_path, configuration(), "net")
    row, log = record.row, record.log
    for path in record.path.glob("*.json*"):
        path.unlink()
    assert (record.row, record.log, record.problems, record.last_step) == (row, log, (), 33)
    assert len(Record(record.path).problems) == 1


def test_an_unfinished_last_line_is_no_damage_while_the_run_can_be_resumed(tmp_path):
    (path,) = store(tmp_path, [0])
    (path / "status.json").write_text('{"state": "interrupted", "step": 22}')
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text[:-9])
    assert [row["state"] for row in rows(tmp_path)] == ["interrupted"]
    assert [line["step"] for line in Record(path).log] == [11, 22]
    (path / "metrics.jsonl").write_text(text.replace("}", "", 1)[:-9])
    assert [row["reason"] for row in rows(tmp_path)] == [f"{path / 'metrics.jsonl'} is damaged: line 1 is not whole"]


def test_a_log_whose_lines_hold_objects_is_whole(tmp_path):
    (path,) = store(tmp_path, [0])
    (path / "metrics.jsonl").write_text('{"step": 11, "norms": {"conv1": 1}}\n{"step": 33, "said": "{"}\n')
    assert [row["state"] for row in rows(tmp_path)] == ["complete"]


def test_the_last_step_is_the_last_that_is_saved_or_logged(tmp_path):
    (path,) = store(tmp_path, [7])
    assert Record(path).last_step == 33
    (path / "status.json").write_text('{"state": "interrupted", "step": 40}')
    assert Record(path).last_step == 40
    (path / "metrics.jsonl").write_text("")
    assert Record(path).last_step == 40
    (path / "status.json").write_text('{"state": "interrupted"}')
    assert Record(path).last_step == 0


def test_a_record_does_not_say_where_it_lies(tmp_path):
    config = configuration()
    fields = {"run": "evil", "experiment": "other", "directory": "/", "reason": "none", "state": "new"}
    config["model"] |= fields
    path = put(tmp_path / "a", config, "net", run="evil", directory="/", experiment="other")
    (row,) = rows(tmp_path)
    place = (row["run"], row["experiment"], row["directory"], row["state"])
    assert place == (path.name, "a", str(path), "complete")
    assert {name: row[f"model_{name}"] for name in fields} == fields


def test_a_run_is_running_only_while_a_process_holds_it(tmp_path):
    config = configuration()
    run = Run.of(tmp_path, "default", "net", config)
    run.acquire(config)
    run.set_status("running", step=0)
    assert (run.status["state"], run.has_ended) == ("running", False)
    run.release()
    assert run.status == {"state": "interrupted", "step": 0}
    run.set_status("complete", step=0)
    assert run.has_ended
    (run.path / "config.json").write_text("{")
    assert run.has_ended
    assert json.loads((run.path / "status.json").read_text()) == {"state": "complete", "step": 0}


def test_another_processor_is_another_condition():
    here = environment()
    assert re.fullmatch(r".+ [0-9a-f]{8}", here["processor"])
    assert differences({**here, "processor": "another"}, here) == [f"processor another -> {here['processor']}"]

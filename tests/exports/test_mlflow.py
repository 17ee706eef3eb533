"""Runs exported to an MLflow store in a folder, read back by MLflow's client."""

import json
import resource
import sys
from pathlib import Path

import pytest
from helpers.commands import answer
from helpers.stored import LOG, store

from classicnets.exports.mlflow import _reason


def export(capsys, root: Path, uri, *options: str) -> tuple[int, str, str]:
    return answer(capsys, "runs", "--runs", root / "runs", "--mlflow", uri, *options)


def read(root: Path) -> dict[str, list[dict]]:
    """{experiment: its runs, by name}; what the export set in the environment lets the client read a folder."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=str(root / "mlflow"))

    def history(run, name: str) -> list[tuple]:
        found = client.get_metric_history(run.info.run_id, name)
        return [(metric.step, metric.value, metric.timestamp) for metric in sorted(found, key=lambda m: m.step)]

    def runs(experiment) -> list[dict]:
        found = sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)
        parts = ("run_name", "status", "start_time", "end_time")
        return [
            {part: getattr(run.info, part) for part in parts}
            | {"params": run.data.params, "tags": run.data.tags}
            | {"metrics": {name: history(run, name) for name in run.data.metrics}}
            for run in found
        ]

    return {e.name: runs(e) for e in client.search_experiments() if e.name != "Default"}


BEGUN = 1767225600000  # 2026-01-01, as the stored runs say


def test_runs_read_back_and_are_there_once(tmp_path, capsys):
    path, diverged = store(tmp_path / "runs", [7, 11])
    (other,) = store(tmp_path / "runs", [0], experiment="other")
    log = [{**line, "gradient_norm": None, "seconds": 7.5 if i else None} for i, line in enumerate(LOG)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    status = {"state": "complete", "step": 33, "test_error": 65 / 3, "best_step": 22, "parameters_sha256": "ab"}
    (path / "status.json").write_text(json.dumps(status))
    segments = [{"started": "2026-01-01T00:00:00Z"}, {"commit": "c0ffee", "sources_sha256": "cd"}]
    (path / "environment.json").write_text(json.dumps(segments))
    (diverged / "status.json").write_text('{"state": "diverged", "step": 33, "tensor": "loss"}')
    status, out, err = export(capsys, tmp_path, tmp_path / "mlflow", "--json")
    assert [row["run"] for row in json.loads(out)] == [path.name, diverged.name, other.name]
    assert (status, err) == (0, "classicnets: 3 runs exported to MLflow, 0 there already\n")
    found = read(tmp_path)
    assert [run["run_name"] for run in found["default"]] == [diverged.name, path.name]
    assert [run["run_name"] for run in found["other"]] == [other.name]
    first, second = found["default"]
    assert (first["status"], first["start_time"], first["end_time"]) == ("FAILED", BEGUN, BEGUN)
    assert (second["status"], second["start_time"], second["end_time"]) == ("FINISHED", BEGUN, BEGUN + 15000)
    expected = {"model": "CifarResNet", "depth": "8", "shortcut": "A", "seed": "2", "augment": "True"}
    expected |= {"learning_rate": "0.1", "clip_norm": "none", "boundaries": "[]"}
    assert {name: second["params"][name] for name in expected} == expected
    assert {name: tag for name, tag in second["tags"].items() if not name.startswith("mlflow.")} == {
        "run": path.name,
        "directory": str(path),
        "state": "complete",
        "commit": "c0ffee",
        "sources_sha256": "cd",
        "parameters_sha256": "ab",
    }
    times = [BEGUN, BEGUN + 7500, BEGUN + 15000]
    assert second["metrics"] == {
        **{
            name: [(line["step"], line[name], time) for line, time in zip(LOG, times, strict=True)]
            for name in ("epoch", "train_error", "test_error")
        },
        "seconds": [(22, 7.5, times[1]), (33, 7.5, times[2])],
        "best_step": [(33, 22.0, times[2])],
    }
    status, _, err = export(capsys, tmp_path, f"file://{tmp_path / 'mlflow'}", "--columns", "run")
    assert (status, err) == (0, "classicnets: 0 runs exported to MLflow, 3 there already\n")
    assert read(tmp_path) == found


def test_an_export_that_is_cut_off_is_done_again(tmp_path, capsys):
    """By a disk that takes no file of more than 4 KB, while a metric of 400 steps takes more."""
    (path,) = store(tmp_path / "runs", [7])
    log = [{**LOG[0], "step": step} for step in range(1, 401)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        status, _, err = export(capsys, tmp_path, tmp_path / "mlflow")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert err.startswith(f"classicnets: run {path.name} could not be exported to MLflow: ")
    assert (status, len(err.splitlines())) == (5, 1)
    assert [run["status"] for run in read(tmp_path)["default"]] == ["RUNNING"]
    assert export(capsys, tmp_path, tmp_path / "mlflow")[0] == 0
    (run,) = read(tmp_path)["default"]
    assert run["status"] == "FINISHED"
    assert run["metrics"]["train_error"] == [(step, 60.0, BEGUN) for step in range(1, 401)]


def test_the_reason_of_a_failure_is_one_short_sentence():
    assert _reason(ValueError("no such store. It was\nsought")) == "no such store"
    assert _reason(ValueError("x" * 300)) == "x" * 200
    assert _reason(KeyError()) == "KeyError"


def test_what_is_not_finished_is_skipped(tmp_path, capsys):
    paths = store(tmp_path / "runs", range(4))
    (paths[0] / "status.json").write_text('{"state": "interrupted", "step": 22}')
    (paths[1] / "environment.json").write_text("[]")
    (paths[2] / "metrics.jsonl").write_text('{"step": 11, "epoch": }\n')
    (paths[3] / "config.json").unlink()
    status, _, err = export(capsys, tmp_path, tmp_path / "mlflow")
    skipped = "classicnets: 0 runs exported to MLflow, 0 there already; skipped: 3 damaged, 1 interrupted\n"
    assert (status, err) == (0, skipped)
    assert read(tmp_path) == {}


@pytest.mark.parametrize("uri", ["", "foo://bar", "{file}", "http://127.0.0.1:9"])
def test_a_store_that_cannot_be_opened_is_refused_first(uri, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store(tmp_path / "runs", [0])
    (tmp_path / "file").touch()
    uri = uri.format(file=tmp_path / "file")
    status, _, err = export(capsys, tmp_path, uri, "--csv", str(tmp_path / "a.csv"))
    assert err.startswith("classicnets: mlflow must be a folder, a server's http(s)://HOST:PORT")
    assert f"got {uri!r}: " in err
    assert (status, len(err.splitlines())) == (2, 1)
    assert not (tmp_path / "a.csv").exists()


def test_without_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    sentence = "classicnets: mlflow needs the extra 'mlflow': pip install 'classicnets[mlflow]'\n"
    assert export(capsys, tmp_path, tmp_path / "mlflow") == (2, "", sentence)

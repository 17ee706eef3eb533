"""Rows as CSV and Parquet, read back."""

import csv
import io
import os

import pytest
from helpers.answers import refusal_of, text_of
from helpers.stored import rows, store
from pyarrow import parquet

from classicnets.exports.tables import csv_bytes, parquet_bytes


def test_exports_read_back(tmp_path, capsys):
    store(tmp_path / "runs", range(3))
    files = {"--csv": tmp_path / "a.csv", "--parquet": tmp_path / "a.parquet"}
    text_of(capsys, "runs", "--runs", tmp_path / "runs", *(word for item in files.items() for word in item))
    expected = rows(tmp_path / "runs")
    with files["--csv"].open(newline="") as file:
        back = list(csv.DictReader(file))
    assert [float(r["test_error"]) for r in back] == [r["test_error"] for r in expected]
    assert [(r["shortcut"], r["augment"], r["boundaries"], r["clip_norm"]) for r in back] == [
        ("none", "true", "[]", "")
    ] * 3
    stored = parquet.read_table(files["--parquet"])
    lists = dict.fromkeys(("boundaries", "rates", "scales", "mean", "deviation"), "[]")
    assert stored.to_pylist() == [{**row, **lists} for row in expected]


def test_mixed_columns_and_formulas():
    mixed = [{"a": 1, "b": "=1+1"}, {"a": 0.5, "b": 3}, {"a": None, "b": None}, {"b": "@x"}, {"b": "-\n"}, {"a": -2}]
    text = csv_bytes(mixed, ["a", "b"]).decode()
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
    stored = parquet_bytes(mixed, ["a", "b"])
    assert parquet.read_table(io.BytesIO(stored)).to_pylist()[1] == {"a": 0.5, "b": "3"}


@pytest.mark.parametrize("option", ["--csv", "--parquet"])
def test_where_no_file_can_be_is_refused_first(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "runs", [0])
    os.mkfifo("pipe")
    (tmp_path / "folder").mkdir()
    for place in ("pipe", "folder", "", "nowhere/file", "/dev/null", 300 * "x"):
        refusal = refusal_of(capsys, "runs", "--runs", "runs", option, place, "--mlflow", "mlflow")
        assert "must be a file in a folder that can be written" in refusal
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe", "runs"]
    (tmp_path / "target").write_text("before")
    (tmp_path / "link").symlink_to("target")
    text_of(capsys, "runs", "--runs", "runs", option, "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes()[:4] != b"befo"

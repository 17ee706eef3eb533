"""Records of earlier versions keep their names and are read as what they computed."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.commands import answer

from classicnets.cli.recorded import Rebuilt
from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.runs import Run, identity
from classicnets.runs.identity import SCHEMA, digest, migrated
from classicnets.training import Config, Recipe, facts
from experiments.degradation import claim

RECORDED = ("runs.jsonl", "facts.jsonl")
# Written at commit 6e48a65, before networks had a norm, an activation, dropout, zero_init and a head to choose.
(OLD,) = (Path(__file__).parents[1] / "records/default").glob("*")


@pytest.fixture
def old(tmp_path, monkeypatch) -> Run:
    """The record, under the NUMERICS that it was made with."""
    monkeypatch.setattr(identity, "NUMERICS", 2)
    shutil.copytree(OLD, tmp_path / "default" / OLD.name)
    return Run(tmp_path / "default" / OLD.name)


def test_a_record_of_the_first_schema_is_what_this_code_computes(old):
    assert json.loads((old.path / "config.json").read_text())["schema"] == 1
    now = facts(create("cifar_resnet", depth=8, width=0.25), Config(recipe=Recipe(epochs=1)))
    assert json.loads(json.dumps(now)) == old.facts
    assert old.id.endswith(f"-{digest(now)}")
    record = Rebuilt(old.path.parent.parent, old.id)
    assert (record.name, record.fields["depth"], record.fields["head"]) == ("cifar_resnet", 8, "pooled")
    assert record.config == Config(DataConfig("digits"), Recipe(epochs=1), 0)


@pytest.mark.filterwarnings("default:a finished run comes from other sources")
def test_it_is_returned_and_not_trained_again(old, capsys):
    before = {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()}
    words = ["train", "cifar_resnet", "--depth", "8", "--width", "0.25", "--epochs", "1", "--json", "--runs"]
    status, out, err = answer(capsys, *words, old.path.parent.parent)
    assert status == 0
    assert "comes from other sources (commit 6e48a65b8735)" in err
    assert json.loads(out) == {"run": old.id, "directory": str(old.path), **old.status}
    assert {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("preset", claim.presets)
def test_the_recorded_runs_are_named_by_their_recorded_facts(preset):
    folder = Path(__file__).parents[2] / "experiments/records/degradation" / preset
    if not folder.exists():
        assert preset == "paper"  # which has not been trained
        return
    rows, facts_of = ([json.loads(line) for line in (folder / name).read_text().splitlines()] for name in RECORDED)
    assert [row["run"] for row in rows] == [row["run"] for row in facts_of]
    for row in facts_of:
        assert row["run"].endswith(f"-{digest(row['facts'])}")


@pytest.mark.parametrize(
    ("part", "field", "value"), [("model", "activation", "elu"), ("recipe", "label_smoothing", 0.1)]
)
def test_another_value_of_a_field_that_came_later_is_another_run(old, part, field, value):
    other = old.facts
    other[part][field] = value
    assert digest(other) != digest(old.facts)


def test_a_record_of_other_numerics_is_another_run(old):
    assert old.facts["numerics"] == 2
    assert digest({**old.facts, "numerics": 3}) != digest(old.facts)


@pytest.mark.parametrize("schema", [None, 0, SCHEMA + 1, "1", True])
def test_other_schemas_are_refused(schema):
    with pytest.raises(ValueError, match=rf"has schema {schema!r}, this version reads 1 to {SCHEMA}"):
        migrated({"schema": schema, "model": {}, "recipe": {}})

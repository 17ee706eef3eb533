"""The criterion, and that the committed record follows from its raw numbers."""

import json
from pathlib import Path

import pytest
from test_page import data

from classicnets.claims.criteria import Criterion, SurvivalCriterion, paired_p
from classicnets.report.page import DIGITS
from classicnets.runs import Run
from classicnets.runs.identity import SCHEMA
from classicnets.training.optimizer import schedule
from experiments import degradation, speed
from experiments.__main__ import table

RECORDS = Path(degradation.__file__).parent / "records" / "degradation"


@pytest.mark.parametrize(
    ("plain", "residual", "outcome"),
    [
        ([6.0, 40.0], [0.9, -3.0], "reproduced"),
        ([5.0, 40.0], [0.0, 0.0], "undecided"),
        ([50.0, 40.0], [1.0, 0.0], "undecided"),
        ([5.5, 40.0], [0.9, 0.9], "undecided"),
        ([-6.0, -40.0], [-0.9, 3.0], "refuted"),
        ([-5.1, -4.0], [-0.9, 3.0], "undecided"),
    ],
)
def test_every_seed_must_pass_every_bound(plain, residual, outcome):
    assert Criterion().judge(plain, residual) == outcome


def test_unpaired_or_no_seeds_are_refused():
    for plain, residual in (([], []), ([9.0], [0.0, 0.0])):
        with pytest.raises(ValueError, match="as many plain as residual"):
            Criterion().judge(plain, residual)


@pytest.mark.parametrize(
    ("running", "batch", "outcome"),
    [
        ([[5.1, 9.0], [6.0, 7.0]], [[5.1, 9.0], [6.0, 7.0]], "survives"),
        ([[5.1, 9.0], [6.0, 7.0]], [[5.0, 9.0], [6.0, 7.0]], "undecided"),
        ([[5.0, 9.0], [6.0, 7.0]], [[5.1, 9.0], [6.0, 7.0]], "undecided"),
        ([[5.0, -1.0], [60.0, 70.0]], [[5.1, 9.0], [6.0, 7.0]], "vanishes"),
    ],
)
def test_a_gap_survives_only_everywhere(running, batch, outcome):
    assert SurvivalCriterion().judge(running, batch) == outcome


def test_a_condition_without_gaps_is_refused():
    for running in ([], [[1.0], []], [[1.0]]):
        with pytest.raises(ValueError, match="same seeds under every condition"):
            SurvivalCriterion().judge(running, [[1.0], [2.0]])


def test_the_paired_p_value_is_students():
    # differences 1, 2, 3, 4, 5: t = 3 / sqrt(2.5 / 5) = 4.2426 with 4 degrees of freedom
    assert paired_p([1, 2, 3, 4, 5], [0.0] * 5) == pytest.approx(0.0066178, rel=1e-4)
    assert paired_p([1.0], [0.0]) == 1.0
    assert paired_p([1.0, 1.0], [0.0, 0.0]) == 0.0
    assert paired_p([0.0, 0.0], [0.0, 0.0]) == 1.0


def rows(preset, error):
    """One row of a record for every run, its train errors `error(recipe, kind, depth)`."""
    return [
        {
            "run": "-".join(map(str, key)),
            **dict(zip(("recipe", "shortcut", "depth", "seed"), key, strict=True)),
            "state": "complete",
            "train_error": error(key[0], degradation.SHORTCUTS[key[1]], key[2]),
            "train_error_batch_statistics": error(key[0], degradation.SHORTCUTS[key[1]], key[2]),
            "environment": {"commit": "c"},
        }
        for key in preset.every_key()
    ]


def test_secondary_depths_are_judged_against_the_shallowest():
    preset = degradation.PRESETS["depths"]
    judged = degradation.verdict(preset, rows(preset, lambda _, kind, depth: depth - 20.0 if kind == "plain" else 0.5))
    assert judged["outcome"] == "reproduced"
    assert judged["D_plain"] == [36.0] * 5
    assert list(judged["secondary"]) == ["32", "44"]
    assert judged["secondary"]["32"]["D_plain"] == [12.0] * 5


def test_one_condition_without_the_gap_ends_survival():
    preset = degradation.PRESETS["controls"]
    slow = list(preset.recipes)[-1]

    def error(recipe, kind, depth):
        return 40.0 if kind == "plain" and depth == 56 and recipe != slow else 0.0

    judged = degradation.verdict(preset, rows(preset, error))
    assert judged["outcome"] == "vanishes"
    assert len(judged["conditions"]) == 9
    assert judged["conditions"]["1x, rate 0.1"]["gap_batch"] == [40.0] * 3


def test_the_papers_recipe_is_table_and_text():
    preset = degradation.PRESETS["paper"]
    recipe = preset.recipe("paper", 56)
    rates = [float(schedule(recipe, 390)(step)) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert recipe.total_steps(390) == 64_000
    warm = schedule(preset.recipe("paper", 110), 390)
    assert [float(warm(step)) for step in (0, 399, 400)] == pytest.approx([0.01, 0.01, 0.1])
    assert (recipe.weight_decay, recipe.momentum, recipe.batch_size) == (1e-4, 0.9, 128)


def record(name):
    folder = RECORDS / name
    results = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    return folder, results, degradation.verdict(degradation.PRESETS[name], results)


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDS.glob("*")))
def test_records_are_not_stale(name):
    folder, results, judged = record(name)
    assert json.loads((folder / "verdict.json").read_text()) == judged
    paged = (folder / "page.html").exists()
    assert (folder / "README.md").read_text() == degradation.table(name, results, judged, paged)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RECORDS.glob("*/page.html")))
def test_pages_follow_from_their_records_and_curves(name):
    folder, results, judged = record(name)
    written = (folder / "page.html").read_bytes()
    held = data(written.decode())
    logs = {
        curve["run"]: {
            metric: list(zip(held["steps"][grid], values, strict=True))
            for metric, (grid, values) in curve["series"].items()
        }
        for curve in held["curves"]
    }
    assert degradation.record_page(name, results, judged, logs).encode() == written
    assert len(written) < 1_000_000
    for row in results:
        # Of a diverged run the record holds chance error, the curve what was logged.
        for metric in {"train_error", "validation_error", "test_error"} if row["state"] == "complete" else ():
            assert logs[row["run"]][metric][-1][1] == float(f"{row[metric]:.{DIGITS}g}")


@pytest.mark.parametrize("name", ["depths", "controls"])
def test_a_record_written_twice_is_the_same_bytes_and_its_page_holds_what_was_logged(name, tmp_path, monkeypatch):
    def stored(preset, key, runs, progress):
        path = runs / "-".join(map(str, key))
        path.mkdir(parents=True, exist_ok=True)
        errors = {f"{split}_error": key[2] / (7 + key[3]) for split in ("train", "validation", "test")}
        log = [{"step": 11, "gradient_norm": 2.5}, {"step": 22, "gradient_norm": 0.5, "train_loss": None, **errors}]
        environment = {"commit": "c", "uncommitted_sha256": None, "python": "3.11.7", "versions": {"jax": "0.10.2"}}
        status = {"state": "complete", "train_error_batch_statistics": 1.0, **errors}
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        (path / "config.json").write_text(
            json.dumps({"schema": SCHEMA, "model": {}, "data": {}, "recipe": {}, "seed": 0})
        )
        (path / "status.json").write_text(json.dumps(status))
        (path / "environment.json").write_text(json.dumps([{**environment, "cores": 2, "devices": ["cpu"]}]))
        return Run(path)

    monkeypatch.setattr(degradation, "train_one", stored)
    for records in ("once", "again"):
        degradation.run(name, tmp_path / "runs", tmp_path / records)
    once, again = ({f.name: f.read_bytes() for f in (tmp_path / r / name).iterdir()} for r in ("once", "again"))
    assert once == again
    assert set(once) == {"runs.jsonl", "facts.jsonl", "verdict.json", "README.md", "page.html", "figure.svg"}
    held = data(once["page.html"].decode())
    assert len(held["curves"]) == len(degradation.PRESETS[name].every_key())
    assert held["curves"][0]["series"]["gradient_norm"] == [held["steps"].index([11, 22]), [2.5, 0.5]]
    assert set(held["curves"][0]["series"]) == {"train_error", "validation_error", "test_error", "gradient_norm"}


def test_the_readme_states_the_recorded_verdict():
    judged = json.loads((RECORDS / "quick" / "verdict.json").read_text())
    readme = (RECORDS.parents[2] / "README.md").read_text()
    assert readme.count(f"`quick`: {judged['outcome']}, n = {judged['n']}") == 1


def test_the_table_of_experiments_is_not_stale():
    assert (RECORDS.parents[1] / "README.md").read_text() == table()


def test_the_record_of_speed_is_not_stale():
    folder = RECORDS.parent / "speed"
    found = json.loads((folder / "measurements.json").read_text())
    assert (folder / "README.md").read_text() == speed.table(found)

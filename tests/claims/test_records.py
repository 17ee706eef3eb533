"""The committed records follow from their raw rows, and are of the runs that the claims name."""

import base64
import html
import json
import re
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import data

from classicnets.claims.criteria import EverySeed
from classicnets.claims.power import power
from classicnets.claims.record import Evidence
from classicnets.claims.report import readme
from classicnets.claims.scoreboard import LEAD, entries, index, overview
from classicnets.data import DATASETS, Dataset
from classicnets.data.dataset import view_of
from classicnets.runs.identity import digest
from classicnets.training import facts
from classicnets.training.optimizer import schedule
from experiments import degradation

RECORDS = Path(degradation.__file__).with_name("records")
FOLDERS = sorted(path.parent for path in RECORDS.glob("*/*/runs.jsonl"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_record_follows_from_its_raw_rows(folder):
    trial = import_module(f"experiments.{folder.parent.name}").claim.trial(folder.name)
    record = Evidence.read(folder)
    assert json.loads((folder / "verdict.json").read_text()) == record.verdict(trial)
    drawn = (folder / "figure.svg").exists()
    assert (folder / "README.md").read_text() == readme(record, trial, drawn)
    assert drawn == (trial.figure is not None)


def test_the_table_of_records_and_the_readme_state_the_verdicts():
    assert len(FOLDERS) == 21
    text = RECORDS.with_name("README.md").read_text()
    assert text == index(RECORDS)
    lead = RECORDS.joinpath(*LEAD)
    assert lead.exists() == text.splitlines()[2].endswith(f"({'/'.join((RECORDS.name, *LEAD))}/figure.svg)")
    verdict = json.loads((RECORDS / "degradation" / "quick" / "verdict.json").read_text())
    readme = RECORDS.parents[1].joinpath("README.md").read_text()
    of_weights = (RECORDS / "weights" / "cifar10" / "README.md").read_text().partition("Every measurement:\n\n")[2]
    assert of_weights.count("\n") == 5
    assert of_weights in readme
    assert readme.count(f"`quick`: {verdict['outcome']}, n = {verdict['n']}") == 1


def test_the_scoreboard_goes_by_papers_and_tells_medians_ranges_and_minutes():
    rows = [line.split(" | ") for line in RECORDS.with_name("README.md").read_text().splitlines()]
    table = [row for row in rows if len(row) == 10 and "](records/" in row[0]]
    years = [re.findall(r"\b(?:19|20)\d\d\b", row[2])[:1] or ["9999"] for row in table]
    assert len(table) == len(FOLDERS)
    assert years == sorted(years)
    (relu,) = [row for row in table if row[0].startswith("| [relu, quick]")]
    raw = Evidence.read(RECORDS / "relu" / "quick").raw
    steps = {row["run"].rpartition("-")[0]: np.log2(row["steps to 15 %"]) for row in raw}
    of_seeds = sorted(steps[f"tanh-fashion_mnist-s{i}"] - steps[f"relu-fashion_mnist-s{i}"] for i in range(5))
    low, median, high = (f"{of_seeds[i]:.2f}" for i in (0, 2, 4))
    assert relu[3:8] == [
        "undecided",
        "6 times (2.6 doublings)",
        f"tanh over ReLU: {median} ({low} to {high})",
        "5",
        str(round(sum(row["seconds"] for row in raw) / 60)),
    ]


def test_one_page_shows_every_claim_and_figure_and_the_curves_of_what_was_trained_here(tmp_path):
    """Runs of a record that are not below `runs` have no curve."""
    trained = Evidence.read(RECORDS / "relu" / "quick").raw[0]["run"]
    folder = tmp_path / "relu" / trained
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": 0}))
    (folder / "metrics.jsonl").write_text('{"step": 1, "train_error": 50.0}\n{"step": 2, "train_error": 25.0}\n')
    text = overview(RECORDS, tmp_path, RECORDS.parent)
    assert text.count("<figure>") == len(list(RECORDS.glob("*/*/figure.svg"))) > 5
    for entry in entries(RECORDS):
        assert f'<a href="records/{"/".join(entry.place)}/README.md">{entry.label}</a>' in text
        assert text.count(html.escape(entry.verdict["sentence"])) >= 2
    svg = (RECORDS / "relu" / "quick" / "figure.svg").read_bytes()
    assert f'<img src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"' in text
    (curve,) = data(text)["curves"]
    assert (curve["run"], curve["label"]) == (trained, "relu, quick: activation relu, learning_rate 0.01")
    assert curve["series"]["train_error"][1] == [50, 25]
    assert 'id="curves"' in text
    assert 'id="curves"' not in overview(RECORDS, tmp_path / "none", tmp_path)


@pytest.mark.process
def test_a_folder_of_runs_that_is_not_there_is_one_sentence(tmp_path):
    command = [sys.executable, "-m", "experiments", "--runs", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sentence = f"python -m experiments: runs must be a directory, got '{tmp_path / 'none'}'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def exchanged(*pairs):
    """{side: the other one, and the other way round} of each pair."""
    return {side: other for pair in pairs for side, other in (pair, reversed(pair))}


# The field whose values are the sides of a claim, or of a preset of it, and which stands for which where they are
# swapped; others stay.
SWAPPED = {
    "batch_norm": ("case", exchanged(*((f"{kind}-plain", f"{kind}-norm") for kind in ("relu", "high", "sigmoid")))),
    "crops": ("augment", exchanged((True, False))),
    "degradation": ("shortcut", exchanged(("none", "A"))),
    "degradation/identity": ("case", exchanged(("plain56", "identity56"))),
    "relu": ("activation", exchanged(("relu", "tanh"))),
    "saturation": ("activation", exchanged(("sigmoid", "relu"))),
    "shortcuts": ("shortcut", exchanged(("none", "A"))),
    "stacks": ("case", exchanged(("3x3x2", "5x5"), ("3x3x3", "7x7"))),
}


def swapped(folder, rows):
    """The rows of a record with the sides of its claim exchanged."""
    claim, preset = folder.parts[-2:]
    field, other = SWAPPED.get(f"{claim}/{preset}", SWAPPED[claim])
    return [{**row, field: other.get(row[field], row[field])} for row in rows]


REPRODUCED = [
    folder
    for folder in FOLDERS
    if folder.parent.name in SWAPPED and json.loads((folder / "verdict.json").read_text())["outcome"] == "reproduced"
]


@pytest.mark.parametrize("folder", REPRODUCED, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_claim_that_was_reproduced_is_refuted_with_its_sides_swapped(folder):
    trial, rows = (
        import_module(f"experiments.{folder.parent.name}").claim.trial(folder.name),
        Evidence.read(folder).rows,
    )
    assert trial.criterion.judge(trial.statistic(rows)) == "reproduced"
    assert trial.criterion.judge(trial.statistic(swapped(folder, rows))) == "refuted"


@pytest.mark.parametrize("folder", REPRODUCED, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_criterion_seldom_errs_on_noise_and_mostly_decides_on_what_was_seen(folder):
    trial = import_module(f"experiments.{folder.parent.name}").claim.trial(folder.name)
    found = power(trial.criterion, json.loads((folder / "verdict.json").read_text())["statistics"])
    assert found["reproduced, no effect"] <= 5
    assert found["refuted, no effect"] <= 5
    assert found["reproduced, as seen"] >= 80
    assert found["refuted, swapped"] >= 80


def test_the_draws_have_the_means_and_the_covariance_of_the_record():
    values = {"a": [1.0, 3.0, 2.0, 2.5, 1.5], "b": [2.0, 6.0, 4.0, 5.0, 3.0]}
    seen = []

    class Seen(EverySeed):
        def judge(self, statistics):
            seen.append([list(statistics[name]) for name in ("a", "b")])
            return "undecided"

    assert set(power(Seen({"a": "> 0", "b": "> 0"}), values, draws=20_000).values()) == {0.0}
    around = np.array(seen).reshape(4, -1, 2, 5)
    assert around.mean((1, 3)) == pytest.approx(np.array([[0, 0], [0, 0], [2, 4], [-2, -4]]), abs=0.02)
    for noise in around.transpose(0, 2, 1, 3).reshape(4, 2, -1):
        assert np.cov(noise) == pytest.approx(np.cov([values["a"], values["b"]]), abs=0.03)


def test_one_statistic_of_noise_errs_by_chance_as_five_coins_do():
    found = power(EverySeed({"a": "> 0"}), {"a": [1.0, 3.0, 2.0, 2.5, 1.5]})
    assert found["reproduced, no effect"] == pytest.approx(100 / 32, abs=0.6)
    assert found["refuted, no effect"] == pytest.approx(100 / 32, abs=0.6)
    # Mean 2 and deviation 0.79: each seed is above zero with 99.4 %.
    assert found["reproduced, as seen"] == pytest.approx(97.2, abs=0.6)
    assert found["refuted, swapped"] == pytest.approx(97.2, abs=0.6)


def jobs_of(name):
    """The runs of a preset of degradation on its own seeds."""
    return degradation.claim.trial(name).jobs


def elsewhere(name, config):
    """A stand-in of the content that the record `name` is of, which is not on every machine."""
    source = DATASETS[config.dataset]
    validation = source.validation if config.validation_size is None else config.validation_size
    train = config.train_size or source.pool - validation
    sizes = {"train": train, "validation": validation, "test": source.test}
    record = Evidence.read(RECORDS / "degradation" / name)
    images = np.broadcast_to(np.uint8(0), (sum(sizes.values()), *source.shape))
    return Dataset(
        images,
        np.arange(len(images)) % 10,
        sizes,
        source.class_names,
        source.crop_padding,
        view_of(config, source),
        record.facts[0]["facts"]["data"]["sha256"],
    )


@pytest.mark.parametrize("name", [path.name for path in FOLDERS if path.parent.name == "degradation"])
def test_the_jobs_of_a_preset_are_the_recorded_runs(name, monkeypatch):
    if name == "cifar10":
        for module in ("facts", "programs"):
            monkeypatch.setattr(import_module(f"classicnets.training.{module}"), "load", partial(elsewhere, name))
    record = Evidence.read(RECORDS / "degradation" / name)
    named = [
        digest({**facts(job.model, job.config, job.execution), "numerics": record.numerics}) for job in jobs_of(name)
    ]
    begun = [row["run"].rpartition("-")[2] for row in record.facts if "parent" not in row["facts"]]
    assert named == begun
    assert [row["run"] for row in record.facts] == [row["run"] for row in record.raw]


def test_the_papers_recipe_is_table_and_text():
    jobs = jobs_of("paper")
    assert len(jobs) == 50
    of_depth = {job.model.depth: job.config.recipe for job in jobs}
    rates = [float(schedule(of_depth[56], 390)(step)) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert of_depth[56].total_steps(390) == of_depth[110].total_steps(390) == 64_000
    warm = schedule(of_depth[110], 390)
    assert [float(warm(step)) for step in (0, 399, 400)] == pytest.approx([0.01, 0.01, 0.1])
    assert (of_depth[56].weight_decay, of_depth[56].momentum, of_depth[56].batch_size) == (1e-4, 0.9, 128)


def rows(name, error):
    """One row for each job of a preset, its train errors `error(recipe, kind, depth)`."""
    found = []
    for job in jobs_of(name):
        recipe, net = job.config.recipe, job.model
        value = error(recipe, degradation.KINDS[net.shortcut], net.depth)
        fields = {"depth": net.depth, "shortcut": net.shortcut, "seed": job.config.seed}
        fields |= {"epochs": recipe.epochs, "learning_rate": recipe.learning_rate}
        found.append({**fields, "train_error": value, "train_error_batch_statistics": value})
    return found


def test_depths_between_are_judged_against_the_shallowest():
    trial = degradation.claim.trial("depths")
    statistics = trial.statistic(rows("depths", lambda _, kind, depth: depth - 20.0 if kind == "plain" else 0.5))
    assert trial.criterion.judge(statistics) == "reproduced"
    assert {name: statistics[name].tolist() for name in ("D plain", "D residual", "gap")} == {
        "D plain": [36.0] * 5,
        "D residual": [0.0] * 5,
        "gap": [36.0] * 5,
    }
    between = statistics["gaps between"]
    assert list(between) == ["depth 32", "depth 44"]
    assert (between["depth 32"]["mean"], between["depth 44"]["mean"]) == (12.0, 24.0)
    assert (between["depth 32"]["p"], between["depth 32"]["p, Holm"]) == (1 / 32, 2 / 32)


def test_one_condition_without_the_gap_ends_survival():
    trial = degradation.claim.trial("controls")
    slow = degradation.TUNED[-1]

    def error(recipe, kind, depth):
        return 40.0 if kind == "plain" and depth == 56 and recipe != slow else 0.0

    statistics = trial.statistic(rows("controls", error))
    assert trial.criterion.judge(statistics) == "vanishes"
    assert len(statistics["conditions"]) == 9
    assert statistics["conditions"]["epochs 20, learning_rate 0.1"]["gap, batch"].tolist() == [40.0] * 3

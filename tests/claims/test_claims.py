"""A claim's command: it trains once, judges, compares with the record, and renews that only when told to."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from helpers.pages import data

from classicnets.claims import Case, Claim, Preset, by_seed, main, pilot, run, steps_to
from classicnets.claims.criteria import EverySeed, Exact
from classicnets.claims.record import Evidence, compared
from classicnets.claims.report import readme, record_page
from classicnets.claims.run import recorded
from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.report.figures import training_curves
from classicnets.runs import Run
from classicnets.training import Parent, Recipe, Start
from experiments import degradation

NET = create("cifar_resnet", depth=8, width=0.25, shortcut="none", num_classes=10)
PLAIN = Case("plain", NET, DataConfig("digits", train_size=64, augment=False), Recipe(steps=4, batch_size=32))


def statistic(rows):
    """The train error of plain nets."""
    return {"plain": by_seed(rows, "train_error")}


TINY = Claim(
    name="tiny",
    sentence="nobody learns in four steps",
    source="a test",
    presets={"small": Preset([PLAIN], seeds=(0, 1), note="Two seeds.")},
    statistic=statistic,
    criterion=EverySeed({"plain": "> 1"}),
    figure=lambda *args: training_curves(*args, panel="shortcut", line="depth", titles=degradation.KINDS),
)
COUNTS = Claim(
    name="counts",
    sentence="the plain net has as many parameters as the paper prints",
    source="a test",
    presets={"exact": Preset(measure=lambda: [{"network": "resnet20", "parameters": 269_722}])},
    statistic=lambda rows: {row["network"]: row["parameters"] for row in rows},
    criterion=Exact({"resnet20": "= 269722"}),
)


def answer(claim, root, *words):
    """The exit status of a claim whose records lie below `root`."""
    with pytest.raises(SystemExit) as end:
        main(claim, str(root / "experiments" / f"{claim.name}.py"), ["--runs", str(root / "runs"), *words])
    return end.value.code


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where the tiny claim has been trained and its record made."""
    root = tmp_path_factory.mktemp("claim")
    assert answer(TINY, root, "--record") == 0
    return root


@pytest.mark.process
def test_a_record_holds_rows_facts_verdict_figure_and_table(root):
    folder = root / "experiments" / "records" / "tiny" / "small"
    assert set(files(folder)) == {"runs.jsonl", "facts.jsonl", "verdict.json", "README.md", "figure.svg"}
    record = Evidence.read(folder)
    assert [row["run"].rpartition("-")[0] for row in record.raw] == ["plain-digits-s0", "plain-digits-s1"]
    assert {row["environment"]["cores"] for row in record.raw} == {1}
    verdict = json.loads((folder / "verdict.json").read_text())
    assert (verdict["outcome"], verdict["n"], verdict["numerics"]) == ("reproduced", 2, record.numerics)
    assert verdict["statistics"] == {"plain": [row["train_error"] for row in record.raw]}
    assert "| tiny, small | nobody learns in four steps | a test | reproduced |  | plain: " in re.sub(
        r"\[(.*?)\]\(.*?\)", r"\1", (root / "experiments/README.md").read_text()
    )


@pytest.mark.process
def test_a_reader_trains_nothing_twice_and_leaves_the_record_as_it_is(root, capsys):
    before, page = files(root / "experiments"), root / "page.html"
    trained = files(root / "runs" / "tiny")
    assert answer(TINY, root, "--page", str(page)) == 0
    out = capsys.readouterr().out
    assert out.startswith("reproduced (n = 2): nobody learns in four steps\nplain ")
    assert "the committed record's outcome is the same\n2 of 2 digests of parameters equal its own\n" in out
    assert f"report: {root / 'runs/.claims/tiny/small/README.md'}\npage: {page}\n" in out
    assert files(root / "experiments") == before and files(root / "runs" / "tiny") == trained
    own = {f"records/tiny/small/{name}": content for name, content in files(root / "runs/.claims/tiny/small").items()}
    assert own.items() <= before.items() and len(own) == 5
    held = data(page.read_text())
    runs = [Run(path.parent) for path in sorted((root / "runs" / "tiny").glob("*/config.json"))]
    assert sorted(curve["run"] for curve in held["curves"]) == [run.id for run in runs]
    (curve,) = (curve for curve in held["curves"] if curve["run"] == runs[0].id)
    grid, values = curve["series"]["train_error"]
    logged = [(line["step"], float(f"{line['train_error']:.4g}")) for line in runs[0].metrics if "train_error" in line]
    assert list(zip(held["steps"][grid], values, strict=True)) == logged


@pytest.mark.process
def test_json_tells_the_verdict_and_the_comparison(root, capsys):
    assert answer(TINY, root, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["record"] == {"outcome": "reproduced", "same": True, "compared": 2, "equal": 2, "why": []}
    assert (told["outcome"], told["directory"]) == ("reproduced", str(root / "runs/.claims/tiny/small"))


@pytest.mark.process
def test_other_seeds_have_a_verdict_of_their_own(root, capsys):
    capsys.readouterr()
    committed = files(root / "experiments" / "records")
    assert answer(TINY, root, "--seeds", "7", "8", "9", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n"], told["record"]["same"], told["record"]["compared"]) == (3, True, 0)
    assert told["directory"] == str(root / "runs/.claims/tiny/small-7-8-9")
    assert {row["seed"] for row in Evidence.read(root / "runs/.claims/tiny/small-7-8-9").rows} == {7, 8, 9}
    assert files(root / "experiments" / "records") == committed


def onward(run):
    """A start from where a run of the plain net ended."""
    return Start(Parent.newest(run))


LATER = replace(PLAIN, name="later", recipe=Recipe(steps=2, batch_size=32), source="plain", start=onward)
ONWARD = replace(TINY, statistic=lambda rows: {"plain": by_seed(rows, "train_error", case="later")})


@pytest.mark.process
def test_a_case_goes_on_from_the_run_of_its_own_seed(tmp_path):
    """Its runs begin when those that they need have ended, and are not trained twice."""
    trial = replace(ONWARD, presets={"small": Preset([PLAIN, LATER], seeds=(0, 1))}).trial("small")
    assert list(trial.jobs_after({})) == [("plain", 0), ("plain", 1)]
    ended = run.swept(trial, tmp_path)
    assert [one.facts["seed"] for one in ended] == [0, 1, 0, 1]
    for first, second in zip(ended[:2], ended[2:], strict=True):
        assert second.facts["parent"]["run"] == first.id
        assert second.facts["parent"]["step"] == 4
    before = files(tmp_path)
    assert [one.id for one in run.swept(trial, tmp_path)] == [one.id for one in ended]
    assert files(tmp_path) == before
    evidence = recorded(ended)
    assert [row["case"] for row in evidence.rows] == ["plain", "plain", "later", "later"]
    assert evidence.verdict(trial)["statistics"] == {"plain": [row["train_error"] for row in evidence.raw[2:]]}


@pytest.mark.process
def test_a_pilot_shows_each_case_at_each_rate_and_has_no_record(tmp_path, capsys):
    tried = pilot([PLAIN], (0.1, 0.001), ["train_error", "steps to 99 %", "steps to 1 %"], seeds=(5,), observe=levels)
    claim = replace(TINY, presets={"pilot": tried})
    assert answer(claim, tmp_path, "--record") == 2
    assert "preset pilot explores and has no record: leave out --record" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert answer(claim, tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    rows = Evidence.read(tmp_path / "runs/.claims/tiny/pilot").rows
    assert [(row["case"], row["learning_rate"], row["seed"]) for row in rows] == [
        ("plain-0.1", 0.1, 5),
        ("plain-0.001", 0.001, 5),
    ]
    assert (told["outcome"], told["missed"]) == ("explored", [])
    assert told["statistics"] == {
        "case and rate": {
            row["case"]: {"train_error": [row["train_error"]], "steps to 99 %": [2.0], "steps to 1 %": [None]}
            for row in rows
        }
    }
    assert not (tmp_path / "runs/.claims/tiny/pilot/figure.svg").exists()


@pytest.mark.process
def test_a_run_that_a_pilot_began_has_the_case_of_the_preset_that_is_judged(tmp_path, capsys):
    claim = replace(
        ONWARD,
        statistic=lambda rows: {"plain": by_seed(rows, "train_error", case="plain")},
        presets={"small": Preset([PLAIN], seeds=(0,)), "pilot": pilot([PLAIN], (0.1,), ["train_error"], seeds=(0,))},
    )
    assert answer(claim, tmp_path, "--preset", "pilot") == 0
    (begun,) = (tmp_path / "runs" / "tiny").iterdir()
    assert begun.name.startswith("plain-0.1-digits-s0-")
    assert answer(claim, tmp_path, "--json") == 0
    assert list((tmp_path / "runs" / "tiny").iterdir()) == [begun]
    (row,) = Evidence.read(tmp_path / "runs/.claims/tiny/small").rows
    assert (row["run"], row["case"]) == (begun.name, "plain")


def levels(log):
    """When a run was below an error that it begins with, and one that it does not come to."""
    return {**steps_to(99, log), **steps_to(1, log)}


@pytest.mark.parametrize(
    ("cases", "sentence"),
    [
        ([LATER, PLAIN], "the source of case later must be a case before it, got plain"),
        ([PLAIN, replace(LATER, source=None)], "case later must have both a source and a start from it, or neither"),
        ([PLAIN, replace(LATER, start=None)], "case later must have both a source and a start from it, or neither"),
        ([PLAIN, PLAIN], "the cases of a preset have different names, got plain twice"),
    ],
)
def test_cases_that_cannot_be_told_or_begun_are_refused(cases, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Preset(cases)


@pytest.mark.process
def test_a_reader_that_has_seen_enough_ends_a_claim_without_a_word(tmp_path):
    command = [sys.executable, "-m", "experiments.factorised_size", "--runs", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


def drawn(seed):
    return [{"case": "a", "value": seed % 7}]


DRAWN = Claim(
    name="drawn",
    sentence="a number is large",
    source="a test",
    presets={"small": Preset(of_seed=drawn, seeds=(3, 4, 5))},
    statistic=lambda rows: {"value": by_seed(rows, "value", case="a")},
    criterion=EverySeed({"value": "> 2"}),
)


def test_a_measurement_that_is_drawn_has_seeds(tmp_path, capsys):
    assert answer(DRAWN, tmp_path, "--record", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["n"], told["statistics"]) == ("reproduced", 3, {"value": [3, 4, 5]})
    assert answer(DRAWN, tmp_path, "--seeds", "7", "8", "9", "10", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["n"], told["statistics"]) == ("undecided", 4, {"value": [0, 1, 2, 3]})


def test_what_is_observed_of_a_log_is_kept_in_its_row():
    logged = runs(degradation.claim, "quick")
    trial = replace(degradation.claim.trial("quick"), observe=partial(steps_to, 50, metric="train_error"))
    evidence = recorded(logged, trial.observe)
    assert [row["steps to 50 %"] for row in evidence.rows] == [22.0] * 20
    text = readme(evidence, trial, drawn=False)
    assert "| batch | steps to 50 % | state |" in text
    assert "| 1.00 | 22.00 | complete |" in text


def test_a_measurement_has_no_seeds(tmp_path, capsys):
    assert answer(COUNTS, tmp_path, "--seeds", "7") == 2
    assert "preset exact is a measurement, which has no seeds, got seeds 7" in capsys.readouterr().err


def runs(claim, name, state="complete", errors=None):
    """Runs of a preset's jobs as their records tell them, without training."""
    conditions = {"started": "2026", "commit": "c", "python": "3.11.7", "versions": {"jax": "0.10.2"}, "cores": 1}
    found = []
    for i, job in enumerate(claim.trial(name).jobs):
        error = {f"{split}_error": job.model.depth / (7 + i) for split in ("train", "validation", "test")}
        status = {"state": state, "train_error_batch_statistics": 1.0, "parameters_sha256": str(i), **error}
        log = [{"step": 11, "gradient_norm": 2.5}, {"step": 22, "gradient_norm": 0.5, **error}]
        network = {"module": "CifarResNet", "depth": job.model.depth, "shortcut": job.model.shortcut, "num_classes": 10}
        recipe = {"epochs": job.config.recipe.epochs, "learning_rate": job.config.recipe.learning_rate}
        decided = {
            "numerics": 2,
            "model": network,
            "data": {"dataset": "digits"},
            "recipe": recipe,
            "seed": job.config.seed,
        }
        run = {"id": f"run{i}", "status": status, "facts": decided, "metrics": log}
        record = SimpleNamespace(log=log)
        found.append(
            SimpleNamespace(**run, record=record, environment=[{**conditions, "processor": "p", "devices": ["cpu"]}])
        )
    return found


@pytest.mark.parametrize("name", ["depths", "controls"])
def test_a_record_made_twice_is_the_same_bytes_and_its_page_holds_every_curve(name, tmp_path):
    trial, made = degradation.claim.trial(name), runs(degradation.claim, name)
    for folder in (tmp_path / "once", tmp_path / "again"):
        record = recorded(made)
        record.write(folder, trial)
        logged = [{**row, "log": run.metrics} for row, run in zip(record.rows, made, strict=True)]
        trial.figure(folder / "figure.svg", logged, record.verdict(trial)["statistics"])
        (folder / "page.html").write_text(record_page(Evidence.read(folder), trial, made))
    assert files(tmp_path / "once") == files(tmp_path / "again")
    held = data((tmp_path / "once" / "page.html").read_text())
    assert len(held["curves"]) == len(made)
    assert held["curves"][0]["series"]["gradient_norm"] == [held["steps"].index([11, 22]), [2.5, 0.5]]
    assert set(held["curves"][0]["series"]) == {"train_error", "validation_error", "test_error", "gradient_norm"}
    assert (name == "controls") == ("learning_rate" in held["curves"][0]["label"])


def test_a_diverged_run_counts_as_chance_and_is_named():
    made = runs(degradation.claim, "quick")
    made[3].status = {"state": "diverged", "step": 5}
    record = recorded(made)
    assert [record.raw[3][f"{split}_error"] for split in ("train", "test")] == [90.0, 90.0]
    assert record.verdict(degradation.claim.trial("quick"))["diverged"] == ["run3"]
    assert record.raw[3]["parameters_sha256"] is None and record.raw[2]["train_error"] < 90


def changed(record, **conditions):
    raw = [{**row, "environment": {**row["environment"], **conditions}} for row in record.raw]
    return replace(record, raw=raw)


def test_digests_are_compared_only_under_equal_conditions():
    record = recorded(runs(degradation.claim, "quick"))
    assert compared(record, record) == {"compared": 20, "equal": 20, "why": []}
    assert compared(record, changed(record, sources_sha256="s", platform="p"))["equal"] == 20
    other = changed(record, cores=2, processor="q")
    assert compared(record, other) == {"compared": 0, "equal": 0, "why": ["processor p -> q", "cores 1 -> 2"]}
    newer = replace(record, facts=[{**row, "facts": {**row["facts"], "numerics": 3}} for row in record.facts])
    assert compared(record, newer) == {"compared": 0, "equal": 0, "why": ["NUMERICS 2 -> 3"]}


def test_digests_that_differ_are_counted_and_explained():
    record = recorded(runs(degradation.claim, "quick"))
    other = replace(record, raw=[{**record.raw[0], "parameters_sha256": "other"}, *record.raw[1:]])
    assert compared(record, other) == {"compared": 20, "equal": 19, "why": ["nothing recorded"]}
    why = ["sources_sha256 None -> s"]
    assert compared(record, changed(other, sources_sha256="s")) == {"compared": 20, "equal": 19, "why": why}
    assert compared(replace(record, raw=record.raw[:5]), record)["compared"] == 5


def test_runs_that_are_missing_give_no_verdict(tmp_path, monkeypatch, capsys):
    failed = [{"run": "a", "state": "failed", "error": "it broke"}, {"run": "b", "state": "complete"}]
    monkeypatch.setattr(run, "sweep", lambda *_: failed)
    assert answer(TINY, tmp_path) == 1
    err = capsys.readouterr().err
    assert err == (
        "python -m experiments.tiny: a: it broke\n"
        "python -m experiments.tiny: 1 of 2 runs are missing; start the same command again\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--preset", "smal"], "the nearest is 'small'"),
        (["--jobs", "1000"], "jobs x cores must be at most"),
        (["--seeds", "7"], "preset small needs at least 2 seeds, got seeds 7"),
        (["--seeds", "7", "7"], "seeds must be different, got seeds 7 7"),
        (["--seeds", "7", "8", "--record"], "a record has the preset's own seeds: leave out --record or --seeds"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, words, sentence, capsys):
    assert answer(TINY, tmp_path, *words) == 2
    assert re.fullmatch(rf"python -m experiments.tiny: .*{sentence}.*\n", capsys.readouterr().err)


def test_an_exact_claim_needs_no_runs(tmp_path, capsys):
    assert answer(COUNTS, tmp_path) == 0
    assert "there is no committed record to compare with" in capsys.readouterr().out
    assert answer(COUNTS, tmp_path, "--record") == 0
    folder = tmp_path / "experiments" / "records" / "counts" / "exact"
    assert set(files(folder)) == {"runs.jsonl", "verdict.json", "README.md"}
    assert "| resnet20 = 269722 | 269722 |" in (folder / "README.md").read_text()
    wrong = replace(COUNTS, criterion=Exact({"resnet20": "= 269723"}))
    capsys.readouterr()
    assert answer(wrong, tmp_path, "--page", str(tmp_path / "page.html")) == 0
    assert "the committed record's outcome is reproduced, not refuted" in capsys.readouterr().out
    assert 'class="verdict bad"' in (tmp_path / "page.html").read_text()


def test_a_readme_marks_under_which_numerics_its_runs_were_made():
    text = readme(recorded(runs(degradation.claim, "quick")), degradation.claim.trial("quick"), drawn=False)
    assert "NUMERICS 2, 1 cores" in text and "figure.svg" not in text

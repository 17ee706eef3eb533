"""Comparing runs: exactly what differs is said, and from which step on."""

import json
import math
import shutil

import numpy as np
import pytest
from stored import store
from test_table import damage

from classicnets.analysis.comparison import compare, paired, parting, readable
from classicnets.analysis.similarity import cka, first_difference, weight_distances
from classicnets.cli import main
from classicnets.models import create
from classicnets.runs import Run
from classicnets.runs.table import table
from classicnets.training import Config, Execution, Recipe, train

NET = create("cifar_resnet", depth=8, width=0.25, num_classes=10)
SHORT = Recipe(epochs=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Real runs: two seeds, another learning rate, a rate that changes at step 16, and one of them twice."""
    root = tmp_path_factory.mktemp("trained")
    how = Execution(devices=1, steps_per_dispatch=4)

    def run(name, recipe=SHORT, seed=0, experiment="a"):
        return train(NET, Config(recipe=recipe, seed=seed), runs=root, experiment=experiment, name=name, execution=how)

    constant = Recipe(steps=33, schedule="constant")
    stepped = Recipe(steps=33, schedule="step", boundaries=(16,))
    runs = {
        "one": run("one"),
        "seed": run("seed", seed=1),
        "rate": run("rate", Recipe(epochs=3, learning_rate=0.05)),
        "constant": run("constant", constant),
        "stepped": run("stepped", stepped),
    }
    shutil.copytree(runs["one"].path, root / "b" / runs["one"].id)
    return root, runs


def compared(root, *words, capsys=None) -> dict:
    with pytest.raises(SystemExit) as end:
        main(["compare", *words, "--runs", str(root), "--json"])
    assert end.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_two_runs_that_differ_only_in_seed(trained, capsys):
    root, runs = trained
    found = compared(root, runs["one"].path.as_posix(), runs["seed"].id, capsys=capsys)
    assert found["sentence"] == "the configurations differ only in seed (0, 1)"
    assert found["configuration"] == {"seed": [0, 1]}
    assert found["environment"] == {}
    assert (found["parting"]["step"], found["parting"]["exact"]) == (0, True)
    assert len(found["groups"]) == 1
    errors = [runs[name].status["test_error"] for name in ("one", "seed")]
    told = found["groups"][0]["test_error"]
    assert (told["n"], told["mean"], told["std"]) == pytest.approx((2, sum(errors) / 2, np.std(errors, ddof=1)))
    assert 0 < found["disagreement"] <= 100
    assert max(found["weights"].values()) > 0.5
    assert 0 < min(found["cka"].values()) <= max(found["cka"].values()) < 1


def test_two_runs_that_differ_only_in_learning_rate(trained, capsys):
    root, runs = trained
    found = compared(root, runs["one"].path.as_posix(), runs["rate"].id, capsys=capsys)
    assert found["sentence"] == "the configurations differ only in learning_rate (0.1, 0.05)"
    assert (found["parting"]["step"], found["parting"]["exact"]) == (1, True)
    assert len(found["groups"]) == 2
    gap = runs["rate"].status["test_error"] - runs["one"].status["test_error"]
    (pair,) = [pair for pair in found["pairs"] if pair["metric"] == "test_error"]
    assert (pair["mean"], pair["n"], pair["p"], pair["step"]) == (pytest.approx(gap), 1, None, 33)


def test_two_runs_that_do_not_differ(trained, capsys):
    root, runs = trained
    found = compared(root, runs["one"].id, capsys=capsys)
    assert found["sentence"] == "the configurations do not differ"
    assert found["parting"] == {"identical": True, "step": 33}
    assert found["disagreement"] == 0
    assert set(found["weights"].values()) == {0.0}
    assert list(found["cka"].values()) == pytest.approx([1.0] * len(found["cka"]))


def test_the_step_at_which_two_runs_part_is_found(trained, capsys):
    """Their rates differ from the 17th update on, between two evaluations: the logs alone say 11 to 22."""
    root, runs = trained
    found = compared(root, runs["constant"].id, runs["stepped"].id, capsys=capsys)
    assert list(found["configuration"]) == ["schedule", "boundaries"]
    part = found["parting"]
    assert (part["after"], part["step"], part["exact"]) == (11, 17, True)
    assert part["tensor"]
    told = parting(runs["constant"], runs["stepped"])
    assert (told["identical"], told["after"], told["step"], told["field"]) == (False, 11, 22, "train_loss_running")


def test_a_log_that_was_changed_at_a_step_parts_there(trained, tmp_path, capsys):
    _, runs = trained
    for experiment in "ab":
        shutil.copytree(runs["one"].path, tmp_path / experiment / runs["one"].id)
    log = tmp_path / "b" / runs["one"].id / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1]["gradient_norm"] += 1e-9
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compared(tmp_path, runs["one"].id, capsys=capsys)
    part = found["parting"]
    assert (part["after"], part["step"], part["field"], part["exact"]) == (11, 22, "gradient_norm", False)


def test_seeds_are_paired_and_many_comparisons_corrected(tmp_path):
    store(tmp_path, range(20))
    found = compare([Run(path) for path in sorted(tmp_path.glob("*/*"))])
    assert found["groups"][0]["label"] == "depth 14, shortcut A"
    assert {tuple(group["seeds"]) for group in found["groups"]} == {(0, 1, 2, 3, 4)}
    assert len(found["groups"]) == 4
    assert len(found["pairs"]) == 6 * 2  # two metrics are in the logs
    assert {(pair["n"], pair["mean"], pair["p"], pair["p_holm"]) for pair in found["pairs"]} == {(5, 0.0, 1.0, 1.0)}
    test = paired([1.0, 2.0, 3.0])  # t = 2 / (1 / sqrt(3)) = 3.4641 on 2 degrees of freedom
    assert test["p"] == pytest.approx(0.0741799, abs=1e-6)
    assert (test["low"], test["high"]) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))


def test_damaged_runs_are_left_out_and_named(tmp_path, capsys):
    paths = store(tmp_path, range(300))
    damaged = {path.name: damage(path, kind) for kind, path in enumerate(paths[7::15])}
    good, bad = readable(table(tmp_path))
    assert len(good) == 280
    assert {row["run"] for row in bad} == damaged.keys()
    found = compared(tmp_path, "default", capsys=capsys)
    assert len(found["runs"]) == 280
    assert {row["run"] for row in found["left_out"]} == damaged.keys()
    assert all(damaged[row["run"]] in row["reason"] for row in found["left_out"])


def test_other_versions_devices_and_data_are_warned_of(tmp_path):
    one, other = store(tmp_path, [0, 1])
    segment = {"python": "3.11.7", "devices": ["cpu"], "versions": {"jax": "0.10.2"}}
    (one / "environment.json").write_text(json.dumps([segment]))
    segment = {"python": "3.11.7", "devices": ["gpu"], "versions": {"jax": "0.12.0"}}
    (other / "environment.json").write_text(json.dumps([segment]))
    found = compare([Run(one), Run(other)])
    assert found["environment"] == {"devices": [["cpu"], ["gpu"]], "jax": ["0.10.2", "0.12.0"]}
    assert [warning.split(" differ in ")[1] for warning in found["warnings"]] == [
        "devices ['cpu'] -> ['gpu']",
        "jax 0.10.2 -> 0.12.0",
    ]


def test_the_page_and_the_text_hold_what_was_found(trained, tmp_path, capsys):
    root, runs = trained
    with pytest.raises(SystemExit):
        words = [str(runs["one"].path), runs["seed"].id, "--runs", str(root), "--html", str(tmp_path / "c.html")]
        main(["compare", *words])
    text, page = capsys.readouterr().out, (tmp_path / "c.html").read_text()
    for said in ("the configurations differ only in seed (0, 1)", "linear CKA", "Paired differences"):
        assert (said in text) == (said != "Paired differences")
        assert (said in page) == (said != "Paired differences")
    assert runs["seed"].id in page


def test_linear_cka_and_distances():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert cka(x, 3 * x @ turn + 1) == pytest.approx(1)
    assert cka(x, rng.normal(size=(50, 6))) < 0.5
    y = x + rng.normal(size=x.shape)
    a, b = x - x.mean(0), y - y.mean(0)
    formula = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert cka(x, y) == pytest.approx(formula)
    one, other = {"a": np.array([3.0, 4.0]), "b": np.ones(2)}, {"a": np.array([3.0, 4.0]), "b": np.zeros(2)}
    assert weight_distances(one, other) == {"a": 0.0, "b": 1.0}
    assert first_difference(one, other) == "b"
    assert first_difference(one, one) is None
    assert first_difference({"a": np.zeros(2)}, {"a": -np.zeros(2)}) == "a"

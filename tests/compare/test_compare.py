"""The command `compare`: exactly what differs is said, and from which step on."""

import json
import re
import shutil
import time

import numpy as np
import pytest
from helpers.answers import json_of, refusal_of, text_of
from helpers.stored import configuration, put, store, store_many

from classicnets.compare.networks import cka, first_difference, weight_distances
from classicnets.compare.parting import parting
from classicnets.compare.retrained import Side, _repeatable
from classicnets.models import create
from classicnets.report.comparison import comparison_text
from classicnets.runs import Record
from classicnets.runs.identity import NUMERICS, digest
from classicnets.training import Config, Execution, Parent, Recipe, Start, train
from classicnets.training.predict import Trained

pytestmark = pytest.mark.usefixtures("without_expensive_passes")

NET = create("cifar_resnet", depth=8, width=0.25, num_classes=10)
SHORT = Recipe(epochs=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Real runs: two seeds, another learning rate, a rate that changes at step 16, a fork, and one of them twice."""
    root = tmp_path_factory.mktemp("trained")
    how = Execution(devices=1, steps_per_dispatch=4)

    def run(name, recipe=SHORT, seed=0, start=None):
        options = {"experiment": "a", "name": name, "execution": how, "start": start}
        return train(NET, Config(recipe=recipe, seed=seed), runs=root, **options)

    constant = Recipe(steps=33, schedule="constant")
    stepped = Recipe(steps=33, schedule="step", boundaries=(16,))
    slow = Recipe(epochs=3, learning_rate=0.05)
    runs = {"one": run("one"), "seed": run("seed", seed=1), "rate": run("rate", slow)}
    runs["fork"] = run("fork", slow, start=Start(Parent.newest(runs["one"])))
    runs |= {"constant": run("constant", constant), "stepped": run("stepped", stepped)}
    shutil.copytree(runs["one"].path, root / "b" / runs["one"].id)
    return root, runs


def compared(root, *words, capsys=None) -> dict:
    return json_of(capsys, "compare", *words, "--runs", root)


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
    told = parting(*(runs[name].record for name in ("constant", "stepped")))
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


def test_damaged_runs_are_left_out_and_named(tmp_path, capsys):
    damaged = store_many(tmp_path)
    begun = time.process_time()
    found = compared(tmp_path, "default", capsys=capsys)
    assert time.process_time() - begun < 5
    assert len(found["runs"]) == 279
    assert {row["run"] for row in found["left_out"]} == damaged.keys()
    assert all(damaged[row["run"]] in row["reason"] for row in found["left_out"])


def test_more_steps_than_asked_for_are_not_trained_again(trained, capsys):
    root, runs = trained
    found = compared(root, *(runs[name].id for name in ("constant", "stepped")), "--exact", "0", capsys=capsys)
    part = found["parting"]
    assert (part["after"], part["step"], part["exact"]) == (11, 22, False)
    assert part["again"] == 22 - (part["checkpoint"] or 0)
    text = comparison_text(found)
    assert "the two part after step 11 and at or before step 22: " in text
    assert f"; --exact {part['again']} trains as many steps again to find it" in text


def test_the_averaged_parameters_are_compared_where_a_recipe_has_such(tmp_path):
    config = Config(recipe=Recipe(steps=2, ema_decay=0.5))
    run = train(NET, config, runs=tmp_path, experiment="a", name="ema", execution=Execution(devices=1))
    side = Side(Record(run.path), NET, config)
    evaluated, raw = side.evaluated(2), side.variables(2)
    assert first_difference(evaluated, Trained.of(run, NET, config).variables) is None
    assert first_difference(evaluated["params"], raw["params"]) is not None
    assert first_difference(evaluated["batch_stats"], raw["batch_stats"]) is None


def test_schedule_plateau_is_not_trained_again_across_the_end_of_an_epoch(tmp_path):
    sides = [
        Side(Record(tmp_path), NET, Config(recipe=Recipe(schedule="plateau", learning_rate=rate)))
        for rate in (0.1, 0.05)
    ]
    for side in sides:
        vars(side.record)["facts"] = {"numerics": NUMERICS, "rate": side.config.recipe.learning_rate}
    assert [_repeatable(sides, *span) for span in ((0, 11), (0, 12), (11, 22), (10, 12))] == [True, False, True, False]


def test_a_fork_begins_with_the_weights_of_its_parent(trained, tmp_path, capsys):
    root, runs = trained
    names = [runs[name].id for name in ("fork", "rate")]
    found = compared(root, *names, capsys=capsys)
    assert found["sentence"].startswith(f"the configurations differ only in parent ({runs['one'].id} at step 33 (")
    assert (found["parting"]["step"], found["parting"]["exact"]) == (0, True)
    for name in names:
        shutil.copytree(root / "a" / name, tmp_path / "a" / name)
    part = compared(tmp_path, *names, capsys=capsys)["parting"]
    assert (part["identical"], part["after"], part["exact"]) == (False, 0, False)


def test_checkpoints_that_differ_part_runs_of_equal_logs(trained, tmp_path, capsys):
    """A copy whose last checkpoint is that of another seed, and whose digest of the parameters is not known."""
    _, runs = trained
    copies = [tmp_path / experiment / runs["one"].id for experiment in "ab"]
    for copy in copies:
        shutil.copytree(runs["one"].path, copy)
        status = json.loads((copy / "status.json").read_text())
        (copy / "status.json").write_text(json.dumps({k: v for k, v in status.items() if k != "parameters_sha256"}))
    part = compared(tmp_path, runs["one"].id, capsys=capsys)["parting"]
    assert (part["identical"], part["after"], part["checkpoint"]) == (None, 33, 33)
    shutil.rmtree(copies[1] / "checkpoints" / "33")
    shutil.copytree(runs["seed"].path / "checkpoints" / "33", copies[1] / "checkpoints" / "33")
    part = compared(tmp_path, runs["one"].id, capsys=capsys)["parting"]
    assert (part["identical"], part["step"], part["exact"]) == (False, 33, False)
    assert part["tensor"].startswith("batch_stats/")


def test_the_records_of_networks_that_cannot_be_built_are_compared(tmp_path, capsys):
    lines = [{"step": step, "train_error": 9.0, "test_error": 50.0 / step} for step in (1, 2, 3)]
    for seed in range(2):
        config = configuration(seed)
        config["model"] = {"module": "mine:Mlp", "width": 16, "source_sha256": "0" * 64}
        lines[2]["test_error"] += seed
        put(tmp_path / "a", config, f"mlp-s{seed}", lines)
    found = compared(tmp_path, "a", capsys=capsys)
    part = found["parting"]
    assert (part["identical"], part["after"], part["step"], part["field"]) == (False, 2, 3, "test_error")
    assert found["not_built"].startswith("mine:Mlp, which the record of mlp-s0-")
    assert "cannot be imported here: start in its folder with 'python -m classicnets'" in found["not_built"]
    text = comparison_text(found)
    assert "the two part after step 2 and at or before step 3 (test_error 16.67 and 17.67)" in text
    assert "tensors and predictions are not compared: mine:Mlp, which" in text


def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path, capsys):
    paths = store(tmp_path, range(3))
    one = paths[0].name

    def refused(*words) -> str:
        return refusal_of(capsys, "compare", *words, "--runs", tmp_path)

    assert f"compare needs two runs at least, and got {one}\n" in refused(one, one)
    assert "compare needs two runs at least, and got none\n" in refused("--where", "seed>9")
    assert "no run 'net9*'" in refused("net9*")
    assert "name runs, globs or experiments" in refused()
    assert "exact is the most steps" in refused("default", "--exact", "-1")
    for place in (tmp_path / "none" / "c.html", tmp_path, paths[0] / "config.json" / "c.html"):
        assert "html must be a file in a folder" in refused("default", "--html", place)
    for path in paths:
        (path / "status.json").unlink()
    assert f"none of 3 runs can be compared; {one}: " in refused("default")
    assert not (tmp_path / "none").exists()


def test_one_run_that_is_left_says_so(tmp_path, capsys):
    paths = store(tmp_path, range(2))
    (paths[1] / "metrics.jsonl").write_text("")
    found = compared(tmp_path, "default", capsys=capsys)
    assert found["sentence"] == f"there is nothing to compare {paths[0].name} with"
    assert [row["run"] for row in found["left_out"]] == [paths[1].name]


def test_the_page_and_the_text_hold_what_was_found(trained, tmp_path, capsys):
    root, runs = trained
    html = tmp_path / "c.html"
    text = text_of(capsys, "compare", runs["one"].path, runs["seed"].id, "--runs", root, "--html", html)
    page = html.read_text()
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
    assert cka(x, np.ones((50, 6))) is None
    assert cka(x, np.full((50, 6), np.inf)) is None
    y = x + rng.normal(size=x.shape)
    a, b = x - x.mean(0), y - y.mean(0)
    formula = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert cka(x, y) == pytest.approx(formula)
    one, other = {"a": np.array([3.0, 4.0]), "b": np.ones(2)}, {"a": np.array([3.0, 4.0]), "b": np.zeros(2)}
    assert weight_distances(one, other) == {"a": 0.0, "b": 1.0}
    assert first_difference(one, other) == "b"
    assert first_difference(one, one) is None
    assert first_difference({"a": np.zeros(2)}, {"a": -np.zeros(2)}) == "a"


def test_a_run_that_diverged_before_its_first_evaluation_is_compared(tmp_path, capsys):
    done = configuration(recipe=Recipe(epochs=3))
    put(tmp_path / "a", done, "done", parameters_sha256="0" * 64)
    lost = configuration(recipe=Recipe(epochs=3, learning_rate=1e30))
    end = {"state": "diverged", "step": 2, "tensor": "gradient stage1/conv1/kernel"}
    put(tmp_path / "a", lost, "lost", log=[], **end)
    found = compared(tmp_path, "a", "--exact", "0", capsys=capsys)
    assert found["left_out"] == []
    assert found["sentence"] == "the configurations differ only in learning_rate (0.1, 1e+30)"
    assert (found["parting"]["step"], found["parting"]["field"]) == (2, "divergence")
    said = comparison_text(found)
    assert "gradient stage1/conv1/kernel not finite at step 2" in said
    text_of(capsys, "compare", "a", "--runs", tmp_path, "--exact", 0, "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([{}, {}], id="the same program"),
        pytest.param([{"numerics": 1}, {"numerics": 1, "seed": 1}], id="older bits"),
    ],
)
def test_to_train_again_is_not_advised_where_it_shows_nothing(changes, tmp_path, capsys):
    for name, change in zip("ab", changes, strict=True):
        put(tmp_path / name, configuration(depth=8, width=0.25) | change, "net", parameters_sha256=64 * name)
    found = compared(tmp_path, "a", "b", "--exact", "0", capsys=capsys)
    assert found["parting"]["field"] == "parameters_sha256"
    assert "not_built" not in found
    assert "--exact" not in comparison_text(found)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config.json", '"batch_size": 128', '"batch_size": "128"'),
        ("environment.json", '"execution": {', '"execution": null, "before": {'),
    ],
)
def test_a_record_of_any_content_is_compared_as_far_as_it_goes(name, old, new, trained, tmp_path, capsys):
    _, runs = trained
    (tmp_path / "a").mkdir()
    for key in ("one", "seed"):
        run = runs[key]
        text = (run.path / name).read_text()
        assert old in text
        path = tmp_path / "a" / run.id
        shutil.copytree(run.path, path)
        (path / name).write_text(text.replace(old, new))
        facts = json.loads((path / "config.json").read_text())
        facts.pop("schema")
        path.rename(path.with_name(f"{key}-{digest(facts)}"))
    found = compared(tmp_path, "a", capsys=capsys)
    assert found["sentence"].startswith("the configurations differ only in seed")
    assert found["not_built"]


def test_the_page_leads_to_the_runs(trained, tmp_path, capsys):
    root, runs = trained
    page = root / "pages" / "page.html"
    page.parent.mkdir()
    words = ("compare", runs["one"].id, runs["seed"].id, "--runs", root, "--exact", 0, "--html", page)
    text_of(capsys, *words)
    for href in re.findall('"href":"([^"]*)"', page.read_text()):
        assert (page.parent / href / "config.json").is_file()
    assert page.read_text().count('"href":"./../') == 3

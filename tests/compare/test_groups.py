"""Comparisons of stored runs: what is grouped, counted, tested and told; and where records part."""

import re
import shutil

import pytest
from helpers.stored import configuration, put, record_of, rows, store

from classicnets.compare.groups import comparable, compare
from classicnets.compare.parting import parting
from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.report.comparison import comparison_page, comparison_text
from classicnets.runs import Record
from classicnets.runs.identity import NUMERICS, digest
from classicnets.runs.index import list_records
from classicnets.training import Config, Recipe, facts


def compared(root) -> dict:
    records, left_out = comparable(list_records([root]))
    assert not left_out
    return compare(records)


def text_of(root) -> str:
    return comparison_text({**compared(root), "left_out": []})


def log(*errors, per_epoch=11) -> list[dict]:
    """An evaluation an epoch, all errors equal but the validation error, which is 1 more."""
    return [
        {"step": per_epoch * e, "train_error": x, "validation_error": x + 1, "test_error": x}
        for e, x in enumerate(errors, 1)
    ]


def test_seeds_are_paired_and_many_comparisons_corrected(tmp_path):
    gaps = {8: (0, 0, 0), 14: (1, 2, 3), 20: (4, 4, 4)}
    for depth, by_seed in gaps.items():
        for seed, gap in enumerate(by_seed):
            put(tmp_path / "a", configuration(seed, depth=depth), f"net{depth}-s{seed}", log(50, 20.1 + seed + gap))
    found = compared(tmp_path)
    assert [group["label"] for group in found["groups"]] == ["depth 8", "depth 14", "depth 20"]
    assert [group["test_error"]["n"] for group in found["groups"]] == [3, 3, 3]
    assert found["groups"][1]["test_error"]["mean"] == pytest.approx(23.1)
    assert found["groups"][1]["test_error"]["std"] == pytest.approx(2)
    pairs = {(p["from"][6:], p["to"][6:], p["metric"]): p for p in found["pairs"]}
    assert len(pairs) == 3 * 3
    one = pairs["8", "14", "test_error"]
    assert (one["mean"], one["n"], one["step"], one["fields"]) == (pytest.approx(2), 3, 22, ["depth"])
    # Of 2**3 patterns of signs one has as great a mean, and one as small; Student's 97.5 % quantile is 4.302653.
    assert one["p"] == 0.25
    assert (one["low"], one["high"]) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    # 8 against 20 differs by 4 in every seed: no spread, so no interval.
    flat = pairs["8", "20", "test_error"]
    assert (flat["mean"], flat["p"], flat["low"], flat["high"]) == (pytest.approx(4), 0.25, None, None)
    assert (found["tests"], one["p_holm"]) == (9, 1.0)
    assert "over all 9 tests" in text_of(tmp_path)


def test_unfinished_runs_are_named_and_not_in_the_means(tmp_path):
    for seed in range(3):
        put(tmp_path / "a", configuration(seed), f"net-s{seed}", log(40, 30, 20 + seed))
    put(tmp_path / "a", configuration(3), "net-s3", log(40), state="interrupted")
    put(tmp_path / "a", configuration(4), "net-s4", log(40, 90), state="diverged", step=30)
    found = compared(tmp_path)
    (group,) = found["groups"]
    assert (group["seeds"], group["counted"], group["step"]) == ([0, 1, 2, 3, 4], [0, 1, 2], 33)
    assert group["test_error"] == {"mean": 21, "std": 1, "n": 3}
    assert group["mean_test_error"]["mean"] == pytest.approx((40 + 30 + 21) / 3)
    ids = {row["seed"]: row["run"] for row in rows(tmp_path)}
    assert found["warnings"] == [
        f"1 run is interrupted (not in the means): {ids[3]}",
        f"1 run is diverged (not in the means): {ids[4]}",
    ]
    assert "0-4    3 of 5    33" in text_of(tmp_path)


def test_where_no_run_is_complete_all_count_at_their_last_common_evaluation(tmp_path):
    put(tmp_path / "a", configuration(0), "net-s0", log(40, 30, 20), state="interrupted")
    put(tmp_path / "a", configuration(1), "net-s1", log(44, 32), state="interrupted")
    put(tmp_path / "a", configuration(2), "net-s2", [{"step": 11}], state="interrupted")
    (group,) = compared(tmp_path)["groups"]
    assert (group["counted"], group["step"], group["test_error"]["mean"]) == ([0, 1], 22, 31)


def test_other_lengths_and_evaluations_are_aligned_by_step(tmp_path):
    rare = log(40, 30, 20, 10)
    for line in (rare[0], rare[2]):
        del line["test_error"], line["train_error"], line["validation_error"]
    for seed in range(2):
        put(tmp_path / "a", configuration(seed, Recipe(epochs=2)), f"short-s{seed}", log(40, 30 + seed))
        put(tmp_path / "a", configuration(seed, Recipe(epochs=4)), f"long-s{seed}", rare)
    put(tmp_path / "a", configuration(5, Recipe(epochs=9)), "other", log(40, 30))
    found = compared(tmp_path)
    (pair,) = [pair for pair in found["pairs"] if pair["metric"] == "test_error"]
    assert (pair["step"], pair["ends"], pair["mean"], pair["n"]) == (22, [44, 22], 0.5, 2)
    assert (pair["from"], pair["to"], found["unpaired"]) == ("epochs 4", "epochs 2", 2)
    assert "pairs of groups compared before the end of one, at the last step of both: 1" in found["warnings"]
    assert found["warnings"][0] == "pairs of groups with no seed and step in common, or only one seed, not compared: 2"


def test_best_is_the_first_of_the_least_validation_error(tmp_path):
    lines = log(5, 4, 3, 2)
    lines[1]["validation_error"] = lines[2]["validation_error"] = 1.0
    put(tmp_path / "a", configuration(0), "net", lines)
    (group,) = compared(tmp_path)["groups"]
    assert (group["test_error"]["mean"], group["best_test_error"]["mean"]) == (2, 4)


def test_what_stands_beside_the_fields_makes_runs_differ(tmp_path):
    base = configuration(0)
    changed = [
        {**base, "numerics": 1},
        {**base, "devices": 2},
        {**base, "data": {**base["data"], "sha256": "0" * 64}},
        {**base, "model": {**base["model"], "module": "mine:CifarResNet", "source_sha256": "1" * 64}},
        {**base, "model": {**base["model"], "module": "mine:CifarResNet", "source_sha256": "2" * 64}},
    ]
    paths = [put(tmp_path / "a", one, "net") for one in (base, *changed)]
    one, *others = map(Record, paths)
    told = [list(compare([one, other])["configuration"]) for other in others]
    assert told == [
        ["numerics"],
        ["devices"],
        ["data_sha256"],
        ["module", "source_sha256"],
        ["module", "source_sha256"],
    ]
    assert [len(compare([one, other])["groups"]) for other in others] == [2] * 5
    assert (
        compare(others[3:])["sentence"] == f"the configurations differ only in source_sha256 ({'1' * 64}, {'2' * 64})"
    )
    assert compare([one, others[2]])["warnings"][0] == "the data have different checksums under one name"
    versions = f"of NUMERICS 1 and {NUMERICS}, between which an unchanged configuration can give other bits"
    assert compare([one, others[0]])["warnings"] == [versions]


def test_what_only_some_models_have_is_told_apart(tmp_path):
    for kernel in ("stack", "single"):
        net = create("vgg11", kernel=kernel, num_classes=10)
        config = facts(net, Config(DataConfig(image_size=32), Recipe(epochs=3)))
        put(tmp_path / "a", {**config, "data": {**config["data"], "image_size": None}}, f"vgg-{kernel}")
    put(tmp_path / "a", configuration(0, norm="batch"), "resnet")
    found = compared(tmp_path)
    assert found["sentence"] == (
        "the configurations differ only in model (CifarResNet, VGG), norm (batch, None), dropout (0.0, 0.5), head "
        "(pooled, dense) and what only some of the models have (shortcut, zero_init, depth, "
        "stem, adaptive_pool, global_pool, spatial_squeeze, configuration, lrn, kernel, initializer)"
    )
    labels = [group["label"] for group in found["groups"]]
    assert labels == [
        "model CifarResNet, norm batch, dropout 0.0, head pooled",
        "model VGG, norm None, dropout 0.5, head dense, kernel single",
        "model VGG, norm None, dropout 0.5, head dense, kernel stack",
    ]
    assert labels[1] in text_of(tmp_path)


def test_forks_of_several_seeds_are_alike_if_what_they_come_from_is(tmp_path):
    """As are forks of several seeds of one parent; those of another step, or of a parent of another seed, are not."""
    origins = [put(tmp_path / "a", configuration(seed), f"net-s{seed}") for seed in range(2)]

    def fork(seed, origin, step=33):
        parent = {"run": origins[origin].name, "step": step, "manifest_sha256": f"{origin}{step}"}
        recipe = Recipe(epochs=3, learning_rate=0.01)
        put(tmp_path / "a", {**configuration(seed, recipe), "parent": parent}, f"fork{step}-s{seed}-{origin}")

    def groups():
        return sorted(group["seeds"] for group in compared(tmp_path)["groups"])

    fork(0, 0)
    fork(1, 1)
    fork(1, 1, 22)
    assert groups() == [[0, 1], [0, 1], [1]]
    assert compared(tmp_path)["configuration"]["parent"].count(None) == 2
    fork(0, 1)
    assert groups() == [[0], [0, 1], [0, 1], [1]]
    shutil.rmtree(origins[1])  # what its fork of step 22 comes from is not known any more
    assert groups() == [[0], [0], [0, 1], [1]]


def test_one_configuration_and_seed_counts_once(tmp_path):
    for experiment, error in (("a", 20), ("b", 30)):
        put(tmp_path / experiment, configuration(0), "net", log(error))
    found = compared(tmp_path)
    name = f"net-{digest(configuration(0))}"
    assert found["runs"] == [f"a/{name}", f"b/{name}"]
    assert found["groups"][0]["test_error"] == {"mean": 20, "std": None, "n": 1}
    assert found["warnings"] == [f"of one configuration and seed, which counts once, there is also b/{name}"]
    assert found["sentence"] == "the configurations do not differ"


def test_environments_are_gathered(tmp_path):
    usual, other = {"cores": 2, "versions": {"jax": "1"}}, {"cores": 4, "versions": {"jax": "1"}}
    for seed in range(8):
        segments = [other] if seed in (3, 4, 5, 6) else [usual]
        put(tmp_path / "a", configuration(seed), f"net-s{seed}", environment=[other, usual] if seed == 7 else segments)
    found = compared(tmp_path)
    assert found["environment"] == {"cores": [2, 2, 2, 4, 4, 4, 4, 2]}
    first, last = found["runs"][0], found["runs"][7]
    assert found["warnings"] == [
        f"resumed under other conditions (cores 4 -> 2): {last}",
        f"4 of 8 runs differ from {first} in cores 2 -> 4",
    ]
    rows = [line.split() for line in text_of(tmp_path).splitlines() if line.startswith("cores")]
    assert rows == [["cores", "2", "4"], ["cores", "4", "4"]]


def test_other_versions_devices_and_batch_norm_are_warned_of(tmp_path):
    segment = {"python": "3.11.7", "devices": ["cpu"], "versions": {"jax": "0.10.2"}}
    other = {"python": "3.11.7", "devices": ["gpu"], "versions": {"jax": "0.12.0"}}
    config = configuration(0)
    put(tmp_path / "a", config, "one", environment=[segment])
    recipe = {**config["recipe"], "batch_norm": "per_replica"}
    put(tmp_path / "a", {**config, "recipe": recipe}, "two", environment=[other])
    found = compared(tmp_path)
    assert found["environment"] == {"devices": [["cpu"], ["gpu"]], "jax": ["0.10.2", "0.12.0"]}
    assert found["warnings"][0] == "batch norm is synchronised in some and per replica in others"
    assert [warning.split(" differ in ")[1] for warning in found["warnings"][1:]] == [
        "devices ['cpu'] -> ['gpu']",
        "jax 0.10.2 -> 0.12.0",
    ]


def test_many_runs_are_told_by_their_groups(tmp_path):
    store(tmp_path, range(280))
    text = text_of(tmp_path)
    lines = text.splitlines()
    assert lines[0] == (
        "the configurations differ only in seed (0, 1, 2, 3, 4), shortcut (A, none) and depth (28 values, 8 to 170)"
    )
    head = next(i for i, line in enumerate(lines) if line == "Errors")
    assert lines[head + 1].split() == ["shortcut", "depth", "seeds", "n", "step", "train", "test", "curve"]
    assert lines[head + 2].split()[:8] == ["A", "8", "0-4", "5", "33", "20.00", "±", "0.00"]
    assert lines[head + 57].split()[:2] == ["none", "170"]
    assert "... and 3,060 more (--json has all)" in text  # of 56 * 55 / 2 pairs of groups and 2 errors
    assert len(lines) < 100
    assert max(map(len, lines)) < 160


def test_the_differences_told_first_are_of_the_test_error_of_one_field_and_of_the_least_p(tmp_path):
    errors = {(8, "A"): (20, 20, 20), (8, "none"): (21, 22, 24), (14, "A"): (19, 25, 33), (14, "none"): (80, 80.1, 80)}
    for (depth, shortcut), by_seed in errors.items():
        for seed, error in enumerate(by_seed):
            put(
                tmp_path / "a",
                configuration(seed, depth=depth, shortcut=shortcut),
                f"net{depth}-{shortcut}",
                log(error),
            )
    lines = text_of(tmp_path).splitlines()
    first = lines.index("Paired differences") + 2
    told = [re.split(r"\s{2,}", line)[:2] for line in lines[first : first + 6]]
    assert [(one.split()[3], one.split()[1], other.split()[3], other.split()[1]) for one, other in told] == [
        ("8", "none,", "14", "none,"),
        ("14", "A,", "14", "none,"),
        ("8", "A,", "8", "none,"),
        ("8", "A,", "14", "A,"),
        ("8", "A,", "14", "none,"),
        ("8", "none,", "14", "A,"),
    ]
    assert all(" test " in line for line in lines[first : first + 6])


def test_groups_of_one_seed_are_not_paired_where_there_are_many(tmp_path):
    for depth in range(8, 8 + 6 * 21, 6):
        put(tmp_path / "a", configuration(0, depth=depth), f"net{depth}")
    found = compared(tmp_path)
    assert (len(found["groups"]), found["pairs"], found["unpaired"]) == (21, [], 210)


def test_the_page_has_the_groups_curves_and_one_map_for_each_choice_of_the_rest(tmp_path):
    for depth in (8, 14):
        for width in (1, 2):
            for rate in (0.1, 0.2):
                config = configuration(0, Recipe(epochs=3, learning_rate=rate), depth=depth, width=width)
                put(tmp_path / "a", config, f"net{depth}-{width}-{rate}")
    records = list_records([tmp_path])
    page = comparison_page({**compare(records), "left_out": []}, records, tmp_path)
    for rate in (0.1, 0.2):
        assert f"Test error in percent, learning_rate {rate}" in page
    assert page.count('class="heat"') == 2
    assert all(record.id in page for record in records)


def test_damaged_records_and_empty_logs_leave_the_others_comparable(tmp_path):
    paths = store(tmp_path, range(5))
    (paths[1] / "metrics.jsonl").write_text('{"step": 11, "test_error": "low"}\n{"step": 33}\n')
    (paths[2] / "environment.json").write_text('["x"]')
    (paths[3] / "status.json").write_text('{"state": "interrupted", "step": 0}')
    (paths[3] / "metrics.jsonl").write_text("")
    records, left_out = comparable(list_records([tmp_path]))
    assert [record.path for record in records] == [paths[0], paths[4]]
    assert left_out == [
        {"run": paths[1].name, "reason": f"{paths[1] / 'metrics.jsonl'} is damaged: line 1: test_error is 'low'"},
        {"run": paths[2].name, "reason": f"{paths[2] / 'environment.json'} is damaged: a segment is of another kind"},
        {"run": paths[3].name, "reason": "it has logged nothing yet"},
    ]
    assert len(compare(records)["runs"]) == 2


def test_a_value_of_any_kind_is_compared(tmp_path):
    for name, dataset in (("a", ["x"]), ("b", {"y": [1]})):
        config = configuration()
        put(tmp_path / "a", {**config, "data": {**config["data"], "dataset": dataset}}, name)
    assert compared(tmp_path)["configuration"] == {"dataset": [["x"], {"y": [1]}]}


SUM = "a" * 64


def test_what_the_records_of_two_runs_say_of_their_parting(tmp_path):
    def recorded(name: str, lines: list[dict], **status) -> Record:
        return record_of(tmp_path, configuration(0), name, lines, **status)

    whole = recorded("whole", log(40, 30, 20), parameters_sha256=SUM)
    same = recorded("same", log(40, 30, 20), parameters_sha256=SUM)
    assert parting(whole, same) == {"identical": True, "step": 33}
    silent = {"identical": None, "after": 22, "step": None}
    # One that was interrupted has not parted, nor has one that goes on.
    assert parting(whole, recorded("begun", log(40, 30), state="interrupted")) == silent
    assert parting(whole, recorded("shorter", log(40, 30), parameters_sha256="b" * 64)) == silent
    # Without a digest of the parameters equal logs prove no equal bits.
    unknown = [recorded(name, log(40, 30)) for name in ("u", "v")]
    assert parting(*unknown) == silent
    # No step in common.
    other = recorded("batch", log(40, 30, 20, per_epoch=14), parameters_sha256=SUM)
    assert parting(whole, other) == {"identical": None, "after": 0, "step": None}
    found = parting(whole, recorded("sum", log(40, 30, 20), parameters_sha256="b" * 64))
    assert (found["identical"], found["after"], found["step"]) == (False, 33, 33)
    assert found["field"] == "parameters_sha256"
    diverged = recorded("diverged", log(40, 30), state="diverged", step=30, tensor="loss")
    found = parting(whole, diverged)
    assert (found["identical"], found["after"], found["step"]) == (False, 22, 30)
    assert found["values"] == ["finite", "loss not finite at step 30"]
    again = recorded("again", log(40, 30), state="diverged", step=30, tensor="loss")
    assert parting(diverged, again) == silent
    assert parting(diverged, unknown[0]) == silent
    found = parting(whole, recorded("apart", log(40, 31, 20), parameters_sha256=SUM))
    assert (found["after"], found["step"], found["field"], found["values"]) == (11, 22, "train_error", [30, 31])

"""The papers' recipes say what the papers say, and can be trained; any option overrides them."""

from dataclasses import fields

import pytest
from helpers.answers import json_of, text_of

from classicnets.cli.sweep import _jobs, _options
from classicnets.data import DataConfig
from classicnets.training import Config, Recipe
from classicnets.training.optimizer import schedule
from classicnets.training.recipes import PAPERS, paper

# By the papers' texts, written down apart: batch, rate, decay, momentum, length, augmentation.
STATED = {
    "alexnet2012": (128, 0.01, 5e-4, 0.9, 90, "scale", (256,), "pca"),
    "vgg2015": (256, 0.01, 5e-4, 0.9, 74, "scale", (256, 512), "pca"),
    "googlenet2015": (None, None, None, 0.9, None, "area", (), "photometric"),
    "inception_v3": (32, 0.045, None, 0.9, 100, "area", (), "photometric"),
    "resnet2016": (256, 0.1, 1e-4, 0.9, 120, "scale", (256, 480), "pca"),
    "cifar_resnet2016": (128, 0.1, 1e-4, 0.9, None, "shift", (), "none"),
    "preact2016": (128, 0.1, 1e-4, 0.9, None, "shift", (), "none"),
    "wrn2016": (128, 0.1, 5e-4, 0.9, 200, "shift", (), "none"),
}


def made(name):
    return DataConfig("digits", **paper(name).defaults("data")), Recipe(**paper(name).defaults("recipe"))


@pytest.mark.parametrize("name", PAPERS)
def test_the_numbers_are_the_papers(name):
    data, recipe = made(name)
    batch, rate, decay, momentum, epochs, crop, scales, colour = STATED[name]
    stated = (batch, rate, decay, momentum, epochs)
    own = (recipe.batch_size, recipe.learning_rate, recipe.weight_decay, recipe.momentum, recipe.epochs)
    assert [b for a, b in zip(stated, own, strict=True) if a is not None] == [a for a in stated if a is not None]
    assert (data.crop, data.scales, data.colour) == (crop, scales, colour)
    for part, cls in (("data", DataConfig), ("recipe", Recipe)):
        assert set(getattr(PAPERS[name], part)) <= {field.name for field in fields(cls)}
    assert all(number.place for number in PAPERS[name].numbers.values())
    recipe.check()


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("cifar_resnet2016", {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001}),
        ("preact2016", {0: 0.01, 399: 0.01, 400: 0.1, 32_000: 0.01, 48_000: 0.001}),
        ("wrn2016", {0: 0.1, 59: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}),
        ("inception_v3", {0: 0.045, 1: 0.045, 2: 0.0423, 4: 0.039762}),
        ("googlenet2015", {7: 0.01, 8: 0.0096, 16: 0.009216}),
        ("vgg2015", {0: 0.01, 73: 0.01}),
    ],
)
def test_the_rates_fall_where_the_papers_say(name, rates):
    """By step where a paper counts steps, by epoch, here of one step, where it counts those."""
    rate = schedule(made(name)[1], 1)
    for step, expected in rates.items():
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)


def test_the_list_and_the_places(capsys):
    rows = {row["name"]: row for row in json_of(capsys, "recipes")}
    assert set(rows) == set(STATED)
    assert rows["vgg2015"]["numbers"]["scales"] == {"value": [256, 512], "place": "section 3.1: S in [256, 512]"}
    text = text_of(capsys, "recipes", "inception_v3")
    assert "0.045" in text and "not stated; slim's inception_v3" in text and "alexnet2012" not in text


def test_a_run_takes_the_recipe_and_what_overrides_it(capsys, tmp_path):
    words = ["train", "cifar_resnet", "--depth", "8", "--width", "0.25", "--recipe", "cifar_resnet2016"]
    words += [
        "--dataset",
        "digits",
        "--steps",
        "3",
        "--boundaries",
        "2",
        "--validation-size",
        "129",
        "--runs",
        tmp_path,
    ]
    run = json_of(capsys, *words, "--no-augment")
    assert run["run"].startswith("cifar_resnet-cifar_resnet2016-")
    (config,) = tmp_path.glob("*/*/config.json")
    import json

    facts = json.loads(config.read_text())
    assert facts["recipe"]["steps"] == 3 and facts["recipe"]["boundaries"] == [2]
    assert (facts["recipe"]["batch_size"], facts["recipe"]["learning_rate"]) == (128, 0.1)
    assert facts["data"]["normalise"] == "pixel"


def test_a_sweep_takes_the_recipe_too():
    words = ["--recipe", "wrn2016", "--dataset", "digits", "--lr", "0.1", "0.2", "--epochs", "200"]
    jobs = list(_jobs(["cifar_resnet"], _options(["cifar_resnet"], words)))
    assert [job.config.recipe.learning_rate for job in jobs] == [0.1, 0.2]
    plain = Config(*made("wrn2016"))
    assert jobs[0].config == plain
    assert jobs[0].name == "cifar_resnet-wrn2016-learning_rate0.1-s0"

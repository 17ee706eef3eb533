"""Options: each has a sentence, values are spelled one way, and the networks, data and recipes have them all."""

import dataclasses
from typing import Literal

import pytest
from helpers.commands import answer, unframed

from classicnets.cli import bench, data, finetune, networks, predict, recipes, runs, sweep, training, weights
from classicnets.cli.main import COMMANDS
from classicnets.cli.options import OneRun, given, group, network, parse, run_label
from classicnets.data import DataConfig
from classicnets.models import ENTRIES, create, fields_of
from classicnets.system.fields import documentation
from classicnets.training import Config, Execution, Recipe

COMMAND_OPTIONS = (
    data.List,
    data.Prepare,
    networks.Models,
    networks.Describe,
    bench.Bench,
    predict.Predict,
    weights.Import,
    weights.Export,
    weights.EvalWeights,
    runs.Runs,
)
COMMAND_OPTIONS += (runs.Compare, sweep.Sweep, training.Train, training.Resume, training.Fork, OneRun)


@pytest.mark.parametrize("cls", [*COMMAND_OPTIONS, DataConfig, Recipe, Config, Execution], ids=lambda cls: cls.__name__)
def test_every_field_is_documented(cls):
    texts = documentation(cls)
    names = {field.name for field in dataclasses.fields(cls)} - {"data", "recipe"}  # groups of options
    assert not [name for name in names if not texts.get(name, "").endswith(".")]


@pytest.mark.parametrize("words", ["train vgg16", "train inception_v3", "sweep cifar_resnet", "describe alexnet"])
def test_every_option_has_a_sentence_in_the_help(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, err = answer(capsys, *words.split(), "--help")
    assert (status, err) == (0, "")
    options = [text for text in unframed(out).split(" --")[1:] if "(default: " in text]
    assert len(options) > 15
    for text in options:
        assert len(text.partition("(default: ")[0].split()) > 4, text


@pytest.mark.parametrize("name", ENTRIES)
def test_a_network_has_its_fields_as_options_with_its_own_defaults(name):
    options = network(name)()
    assert not given(options)
    assert create(name, **vars(options)) == create(name)
    assert set(vars(options)) == {field for field, _, _ in fields_of(name)} - {"axis_name"}


@pytest.mark.parametrize("name", ["alexnet", "cifar_wide_resnet", "inception_v3"])
def test_describe_takes_every_field_of_a_network(name, capsys):
    words = []
    for field, value in vars(network(name)()).items():
        option = f"--{field.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, *map(str, value if isinstance(value, tuple) else (value,))]
    assert answer(capsys, "describe", name, *words, "--json") == answer(capsys, "describe", name, "--json")


@dataclasses.dataclass(frozen=True)
class Fields:
    """A class with an option of each kind."""

    learning_rate: float = 0.1
    """Rate."""
    depth: int = 20
    """Depth."""
    lrn: bool = False
    """Normalise."""
    norm: Literal["batch"] | None = "batch"
    """Norm."""
    kernel: Literal[5, 3] = 5
    """Side."""
    units: tuple[int, ...] = (3, 4)
    """Units."""
    names: tuple[str, ...] = ()
    """Names."""
    branches: tuple[Literal["1x1", "pool"], ...] = ("1x1",)
    """Branches."""


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("", {}),
        ("--lr 1e-2 --depth=8 --lrn", {"learning_rate": 0.01, "depth": 8, "lrn": True}),
        ("--learning_rate 1 --no-lrn --kernel 3", {"learning_rate": 1.0, "kernel": 3}),
        ("--norm none", {"norm": None}),
        ("--norm None", {"norm": None}),
        ("--units 1 2 3 --branches pool 1x1", {"units": (1, 2, 3), "branches": ("pool", "1x1")}),
        ("--units 1,2, --branches pool,1x1", {"units": (1, 2), "branches": ("pool", "1x1")}),
        ("--units", {"units": ()}),
        ("--names a,b c", {"names": ("a,b", "c")}),
    ],
)
def test_values_of_one_run(words, values):
    options = parse(group(Fields), words.split(), "x")
    assert vars(options) == {**dataclasses.asdict(Fields()), **values}
    assert given(options) == values


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("", {}),
        ("--lr 0.1 1 --lrn", {"learning_rate": (0.1, 1.0), "lrn": (True,)}),
        ("--lrn True False --norm none batch", {"lrn": (True, False), "norm": (None, "batch")}),
        ("--units 3 5", {"units": ((3, 5),)}),
        ("--units 3,5 4,6", {"units": ((3, 5), (4, 6))}),
        ("--units 3, 4,6", {"units": ((3,), (4, 6))}),
        ("--units", {"units": ((),)}),
        ("--names a,b c", {"names": (("a", "b"), ("c",))}),
        ("--branches 1x1,pool pool,", {"branches": (("1x1", "pool"), ("pool",))}),
    ],
)
def test_values_of_a_sweep(words, values):
    assert given(parse(group(Fields, several=True), words.split(), "x")) == values


def test_help_shows_the_default_of_a_sweep_and_the_short_words(capsys):
    with pytest.raises(SystemExit):
        parse(group(Fields, {"depth": 44}, several=True, without=["lrn"]), ["--help"], "x")
    text = unframed(capsys.readouterr().out)
    assert "--lr FLOAT ..., --learning-rate FLOAT ... Rate. (default: 0.1)" in text
    assert "--depth INT ... Depth. (default: 44)" in text
    assert "--norm none|{batch} ... Norm. (default: batch)" in text
    assert "--units [INT ...] ... Units. (default: 3 4)" in text
    assert "lrn" not in text


@pytest.mark.parametrize(
    "words, seeds", [("", [0]), ("--seeds 1", [0]), ("--seeds 3", [0, 1, 2]), ("--seed 7 5", [7, 5])]
)
def test_seeds_of_a_sweep_lie_side_by_side(words, seeds):
    names, rest = ["cifar_resnet"], f"--depth 8 14 {words}".split()
    jobs = list(sweep._jobs(names, sweep._options(names, rest)))
    assert [(job.model.depth, job.config.seed) for job in jobs] == [
        (depth, seed) for depth in (8, 14) for seed in seeds
    ]


def test_a_run_is_labelled_by_what_was_given():
    assert run_label("net", {}) == "net"
    assert run_label("net", {"depth": 8, "units": (3, 5), "norm": None}) == "net-depth8-units3+5-normNone"
    assert run_label("net", {"where": "a/b c"}) == "net-whereabc"
    assert len(run_label("net", {"units": tuple(range(99))})) == 90


def test_each_command_has_its_function():
    modules = {
        "networks": networks,
        "training": training,
        "runs": runs,
        "sweep": sweep,
        "data": data,
        "recipes": recipes,
        "bench": bench,
        "finetune": finetune,
        "predict": predict,
        "weights": weights,
    }
    for command, module in COMMANDS.items():
        assert callable(getattr(modules[module], "evaluate" if command == "eval" else command))

"""Runs of somebody's own Flax modules: named by what they compute, and built again from their records."""

import importlib
import json
import sys
import textwrap
from pathlib import Path

import pytest

from classicnets.cli.main import main
from classicnets.cli.recorded import Rebuilt
from classicnets.runs import Run, modules
from classicnets.runs.identity import digest, source_sha256
from classicnets.runs.verify import verify
from classicnets.training import Config, Execution, Recipe, facts, train

NET = """
    import jax.numpy as jnp
    from flax import linen as nn

    act = nn.relu

    class Mlp(nn.Module):
        width: int = 8

        @nn.compact
        def __call__(self, images, *, train: bool):
            x = images.reshape(len(images), -1)
            return nn.Dense(10)(act(nn.Dense(self.width)(x)))
"""
CONFIG, EXECUTION = Config(recipe=Recipe(epochs=1)), Execution(devices=1)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(file, text): a module on sys.path, imported anew."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    written = []

    def module(name: str, text: str = NET):
        (folder / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        written.append(name)
        sys.dont_write_bytecode = True  # a file that changes twice a second would be read from its cache
        return importlib.import_module(name)

    yield module
    for name in written:
        sys.modules.pop(name, None)


def trained(model, root, name="mlp") -> Run:
    return train(model, CONFIG, runs=root, experiment="own", name=name, execution=EXECUTION)


def test_an_alias_that_changes_in_one_process_gives_another_run_and_its_own_numbers(write, tmp_path):
    file = write("nets_alias")
    model = file.Mlp()
    relu = trained(model, tmp_path / "runs")
    file.act = lambda x: 0 * x
    nothing = trained(model, tmp_path / "runs")
    assert nothing.id != relu.id
    assert relu.status["train_error"] < 80 < nothing.status["train_error"]
    file.act = importlib.import_module("flax.linen").relu
    again = trained(model, tmp_path / "runs", "another-label")
    assert again.path == relu.path
    assert len(list((tmp_path / "runs/own").iterdir())) == 2


def test_a_module_that_moves_or_is_written_otherwise_is_the_same_run(write, tmp_path):
    run = trained(write("nets_first").Mlp(8), tmp_path)
    moved = NET.replace("Mlp", "Perceptron").replace("act = nn.relu", "act = lambda x: nn.relu(x)  # an alias")
    other = write("nets_second", moved.replace("width: int = 8", "hidden: int = 99").replace("self.width", "8"))
    facts_of = [facts(net, CONFIG, EXECUTION) for net in (other.Perceptron(), other.Perceptron(5))]
    assert {digest(one) for one in facts_of} == {run.id.rpartition("-")[2]}
    assert run.facts["model"]["module"] == "nets_first:Mlp"
    assert (facts_of[1]["model"]["module"], facts_of[1]["model"]["hidden"]) == ("nets_second:Perceptron", 5)


def test_what_another_file_holds_is_part_of_the_name(write):
    names = set()
    for slope in (0.1, 0.2):
        write("nets_acts", f"def act(x):\n    return x * {slope}\n")
        file = write("nets_user", NET.replace("act = nn.relu", "from nets_acts import act"))
        names.add(digest(facts(file.Mlp(), CONFIG, EXECUTION)))
    assert len(names) == 2


def test_a_record_builds_the_module_again_and_tells_what_it_imports(write, tmp_path):
    text = NET.replace("width: int = 8", "width: int = 8\n        act: object = None").replace("act(nn", "self.act(nn")
    file = write("nets_fields", text)
    run = trained(file.Mlp(12, importlib.import_module("flax.linen").gelu), tmp_path)
    with pytest.warns(UserWarning, match=r"^importing nets_fields:Mlp from .*nets_fields.py, which the record of mlp-"):
        model = Rebuilt(tmp_path, run.id).network()
    assert model == file.Mlp(12, importlib.import_module("flax.linen").gelu)
    write("nets_fields", text.replace("nn.Dense(10)", "nn.Dense(10, use_bias=False)"))
    with (
        pytest.warns(UserWarning, match="^importing"),
        pytest.raises(
            ValueError, match=rf"^nets_fields:Mlp computes something else now than when {run.id} was trained"
        ),
    ):
        Rebuilt(tmp_path, run.id).network()


@pytest.mark.parametrize(
    ("constructor", "said"),
    [
        ({"call": [{"import": "nets_gone:Mlp"}, {}]}, "cannot be imported here: start in its folder with 'python -m"),
        ({"call": [{"import": "os:system"}, {}]}, "is of Python itself and no Flax module"),
        ({"call": [{"import": "antigravity:geohash"}, {}]}, "is of Python itself and no Flax module"),
        ({"call": [{"import": "nets_h:Plain"}, {}]}, "is not a Flax module"),
        (
            {"call": [{"import": "nets_h:gone"}, {}]},
            "cannot be built here: module 'nets_h' has no attribute",
        ),
        ({"call": [{"import": "nets_h:Mlp"}, {"width": 3, "gone": 1}]}, "cannot be built here: "),
        ({"call": [{"import": "nets_h:Mlp"}, {"width": {"import": "os:system"}}]}, "is of Python itself"),
        (
            {"call": [{"import": "nets_h:Mlp"}, {"width": {"import": "pytest:main"}}]},
            "is neither of jax, of flax",
        ),
        (
            {"call": [{"import": "nets_h:Mlp"}, {"width": {"call": [{"import": "nets_h:run"}, {}]}}]},
            "is not a",
        ),
        ({"call": [{"import": "nets_h:Mlp"}, {"width": {"exec": "1"}}]}, "is damaged"),
        ({"call": "nets_h:Mlp"}, "is damaged"),
        ([], "is damaged"),
        (7, "is damaged"),
    ],
)
@pytest.mark.filterwarnings("default:importing")
def test_a_record_chooses_nothing_but_a_flax_module_of_the_reader(write, constructor, said):
    file = write("nets_h", textwrap.dedent(NET) + "class Plain:\n    pass\nran = []\ndef run():\n    ran.append(1)\n")
    with pytest.raises(ValueError, match=said):
        modules.rebuilt({"module": "nets_h:Mlp", "constructor": constructor}, "net-1")
    assert "antigravity" not in sys.modules
    assert file.ran == []


@pytest.mark.parametrize("module", ["__main__:Mlp", "nets:make.<locals>.Mlp"])
def test_what_cannot_be_imported_from_anywhere_says_the_way_out(module):
    with pytest.raises(ValueError, match="put the class in a file of its own, import it from there and train it again"):
        modules.rebuilt({"module": module, "width": 3, "constructor": None}, "net-1")


def named_by_source(run: Run, cls) -> Run:
    """The record as schema 3 wrote it, whose run was interrupted."""
    old = {**run.facts, "model": {"module": "nets_old:Mlp", "width": 8, "source_sha256": source_sha256(cls)}}
    path = run.path.with_name(f"mlp-{digest(old)}")
    run.path.rename(path)
    (path / "config.json").write_text(json.dumps({"schema": 3, **old}), encoding="utf-8")
    (path / "status.json").write_text(json.dumps({"state": "interrupted", "step": 0}), encoding="utf-8")
    return Run(path)


@pytest.mark.filterwarnings("default:importing")
def test_a_run_named_by_source_text_is_listed_and_goes_on_only_while_the_text_is_the_same(write, tmp_path):
    file = write("nets_old")
    first = trained(file.Mlp(), tmp_path)
    log, old = first.metrics, named_by_source(first, file.Mlp)
    assert verify(old)["problems"] == []
    with pytest.warns(UserWarning, match=rf"{old.id}, of the same module and fields, was named by its source text"):
        assert trained(file.Mlp(), tmp_path).id == first.id
    record = Rebuilt(tmp_path, old.id)
    options = {"runs": tmp_path, "experiment": "own", "name": "mlp", "execution": EXECUTION, "resumed": old}
    done = train(record.network(), record.config, **options)
    assert (done.path, done.status["state"]) == (old.path, "complete")
    assert done.metrics[-1]["train_loss"] == log[-1]["train_loss"]
    changed = write("nets_old", NET.replace("nn.Dense(10)", "nn.Dense(10, use_bias=False)"))
    for resume in (record.network, lambda: train(changed.Mlp(), record.config, **options)):
        with pytest.raises(ValueError, match="nets_old:Mlp computes something else now"):
            resume()


def test_the_run_that_another_jax_named_is_told(write, tmp_path):
    run = trained(write("nets_version").Mlp(), tmp_path)
    other = {**run.facts, "model": {**run.facts["model"], "jax": "0.9.0", "program_sha256": "0" * 64}}
    path = run.path.with_name(f"mlp-{digest(other)}")
    run.path.rename(path)
    (path / "config.json").write_text(json.dumps({"schema": 4, **other}), encoding="utf-8")
    with pytest.warns(UserWarning, match=rf"{path.name}, of the same .* was traced by jax 0.9.0, and this is jax 0.1"):
        assert trained(write("nets_version").Mlp(), tmp_path).id == run.id


@pytest.mark.filterwarnings("default:importing")
def test_commands_take_runs_of_modules_that_can_be_imported_and_refuse_what_changed(write, tmp_path, capsys):
    file = write("nets_commands")
    runs = [
        train(
            file.Mlp(),
            Config(recipe=CONFIG.recipe, seed=s),
            runs=tmp_path,
            experiment="own",
            name="mlp",
            execution=EXECUTION,
        )
        for s in (0, 1)
    ]
    one, two = (run.id for run in runs)

    def answer(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([*words, "--runs", str(tmp_path)])
        return int(end.value.code or 0), *capsys.readouterr()

    status, out, err = answer("rerun", one, "--json")
    assert (status, json.loads(out)) == (0, {"run": one, "identical": True})
    assert err.startswith("classicnets: importing nets_commands:Mlp from ")
    status, out, _ = answer("eval", one, "--json")
    assert json.loads(out)["test_error"] == runs[0].status["test_error"]
    status, out, _ = answer("resume", one, "--json")
    assert (status, json.loads(out)["run"]) == (0, one)
    status, out, _ = answer("fork", one, "--learning-rate", "0.01", "--json")
    assert status == 0
    assert Run(Path(json.loads(out)["directory"])).facts["parent"]["run"] == one
    status, out, _ = answer("compare", one, two, "--exact", "0", "--json")
    compared = json.loads(out)
    assert compared["sentence"] == "the configurations differ only in seed (0, 1)"
    assert compared["disagreement"] > 0
    write("nets_commands", NET.replace("act = nn.relu", "act = nn.tanh"))
    for words in (["rerun", one], ["eval", one], ["resume", one]):
        status, out, err = answer(*words)
        assert (status, out) == (2, "")
        assert f"nets_commands:Mlp computes something else now than when {one} was trained" in err
    status, out, _ = answer("compare", one, two, "--json")
    assert json.loads(out)["not_built"].startswith("nets_commands:Mlp computes something else now")
    for words in (["runs", "--json"], ["verify", one]):  # which import nothing
        status, _, err = answer(*words)
        assert (status, err) == (0, "")

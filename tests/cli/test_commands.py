"""The command line where there is no device, no terminal, no UTF-8, or nothing may be written."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.commands import answer, start
from helpers.stored import configuration, put

import classicnets
from classicnets.cli.main import COMMANDS, main
from classicnets.cli.recorded import Rebuilt
from classicnets.data import DataConfig, load
from classicnets.runs.identity import NUMERICS
from classicnets.training import Execution

pytestmark = pytest.mark.process
TINY = ["cifar_resnet", "--depth", "8", "--width", "0.25"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> subprocess.CompletedProcess:
    return start("train", *TINY, "--epochs", "2", "--lr", "0.05", "--runs", tmp_path_factory.mktemp("größe"))


def directory(trained) -> Path:
    return Path(trained.stderr.decode().splitlines()[0])


def test_off_a_terminal_a_run_says_where_it_is_and_a_line_an_epoch(trained):
    assert trained.returncode == 0
    first, *epochs = trained.stderr.decode().splitlines()
    assert json.loads((Path(first) / "config.json").read_text())["recipe"]["learning_rate"] == 0.05
    assert [line.split("  ")[:2] for line in epochs] == [[f"epoch {i}", f"step {11 * i}/22"] for i in (1, 2)]
    assert all("train " in line and "test " in line and line.endswith(" s") for line in epochs)


def test_each_line_is_flushed_when_its_epoch_ends(tmp_path):
    command = [sys.executable, "-m", "classicnets", "train", *TINY, "--epochs", "4000", "--runs", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(3)]
        process.kill()
    assert lines[0].startswith(str(tmp_path))
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1", "epoch 2"]


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_output_that_is_not_utf8_stays_readable(trained, environment):
    root = directory(trained).parents[1]
    environment = {"PYTHONCOERCECLOCALE": "0", **environment}
    done = start("runs", "--runs", root, "--columns", "run", "directory", "test_error", **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert directory(trained).name.encode() in done.stdout
    # As code points; where the names of files are not read as UTF-8 either, as signs that stand for any.
    assert rb"gr\xf6\xdfe" in done.stdout or rb"gr\ufffd\ufffd\ufffd\ufffde" in done.stdout
    refused = start("verify", "größe", "--runs", root, **environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"classicnets: no run 'gr\\")


@pytest.mark.parametrize("platform", ["cuda", "cpuu"])
def test_a_missing_device_is_one_sentence(tmp_path, platform):
    runs = tmp_path / "runs"
    for words in (["train", *TINY], ["sweep", *TINY, "--jobs", "1"]):
        done = start(*words, "--runs", runs, JAX_PLATFORMS=platform)
        said = f"classicnets: JAX_PLATFORMS is '{platform}', and jax has no such device here: choose cpu, or leave it "
        assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"{said}unset\n")
    assert not runs.exists()


def test_what_is_only_counted_or_listed_needs_no_device(trained):
    done = start("describe", *TINY, "--json", JAX_PLATFORMS="cuda")
    assert json.loads(done.stdout)["parameters"] == 5006
    done = start("runs", "--runs", directory(trained).parents[1], "--json", JAX_PLATFORMS="cuda")
    assert [row["run"] for row in json.loads(done.stdout)] == [directory(trained).name]


@pytest.fixture
def read_only(trained, tmp_path):
    """The root of the trained run on a file system that cannot be written."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "classicnets", folder], check=True)
    try:
        subprocess.run(["cp", "-r", directory(trained).parents[1], folder / "runs"], check=True)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield folder / "runs"
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system, which root alone can")
def test_a_complete_run_in_a_root_that_cannot_be_written_is_returned(read_only, capsys):
    words = ["train", *TINY, "--epochs", "2", "--lr", "0.05", "--runs", read_only, "--json"]
    status, out, err = answer(capsys, *words)
    assert (status, err) == (0, "")
    assert json.loads(out)["directory"] == str(next(read_only.glob("default/*")))
    status, out, err = answer(capsys, *words, "--seed", "1")
    assert (status, out) == (2, "")
    assert "cannot be written" in err


def test_runs_of_several_roots_are_listed_and_compared(trained, tmp_path, capsys):
    run, other = directory(trained), tmp_path / "other" / "default" / directory(trained).name
    other.parent.mkdir(parents=True)
    subprocess.run(["cp", "-r", str(run), str(other)], check=True)
    roots = [str(run.parents[1]), str(other.parents[1])]
    _, out, _ = answer(capsys, "runs", "--runs", *roots)
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["state", "run"],
        *(["complete", p] for p in map(str, (run, other))),
    ]
    for words in (["--runs", *roots, "--where", "seed==0"], [run, other], [run, other.parent], [run, other.parents[1]]):
        status, out, _ = answer(capsys, "compare", *words, "--exact", "0", "--json")
        assert (status, json.loads(out)["directories"]) == (0, [str(run), str(other)])
        assert json.loads(out)["runs"] == [str(run), str(other)]


ONE_RUN = "--lr 0.05 --bs 64 --no-augment --nesterov --zero-init --clip-norm none --validation-size None --norm batch"
ONE_RUN += " --schedule step --epochs 3 --boundaries 1 2 --no-keep-best --keep-every none --wd 0"


def test_a_command_of_train_is_one_of_sweep(tmp_path, capsys):
    words = [*TINY, *ONE_RUN.split(), "--experiment", "e", "--runs", str(tmp_path), "--json", "--seed", "0"]
    status, out, _ = answer(capsys, "train", *words)
    run = json.loads(out)
    assert status == 0
    planned = start("sweep", *words, "--dry-run", "--jobs", "1")  # which binds its process to a core
    (row,) = json.loads(planned.stdout)["runs"]
    assert (row["run"], row["state"]) == (run["run"], "complete")
    recipe = json.loads((Path(run["directory"]) / "config.json").read_text())["recipe"]
    assert (recipe["clip_norm"], recipe["batch_size"], recipe["boundaries"]) == (None, 64, [1, 2])


def test_a_list_is_a_part_of_the_names_of_a_sweep(tmp_path):
    words = ["--schedule=step", "--steps=9", "--boundaries", "3,5", "4,6", "--dry-run", "--json", "--jobs=1", "--runs"]
    planned = start("sweep", *TINY, *words, tmp_path)
    labels = [row["run"].rpartition("-")[0] for row in json.loads(planned.stdout)["runs"]]
    assert labels == ["cifar_resnet-boundaries3+5-s0", "cifar_resnet-boundaries4+6-s0"]


def test_a_run_is_rebuilt_as_it_was_run_last(tmp_path):
    segments = [{"execution": {"steps_per_dispatch": 2}}, {"execution": {"steps_per_dispatch": 3, "conv": "lax"}}]
    run = Rebuilt(tmp_path, put(tmp_path / "e", configuration(), "net", environment=segments).name)
    assert (run.execution, run.layout) == (Execution(steps_per_dispatch=3), {"conv": "lax"})
    bare = Rebuilt(tmp_path, put(tmp_path / "e", configuration(seed=1), "net", environment=[]).name)
    assert (bare.execution, bare.layout) == (Execution(), {})


@pytest.mark.parametrize("command", ["resume", "rerun"])
def test_a_run_of_other_numerics_is_refused_with_the_version_that_goes_on_with_it(trained, tmp_path, capsys, command):
    run = tmp_path / "default" / directory(trained).name
    shutil.copytree(directory(trained), run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"numerics": NUMERICS - 1}))
    other = {"classicnets": "0.0.9", "commit": "c4d0bf8" * 5}
    segments = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps([segments[-1] | other]))
    status, out, err = answer(capsys, command, run.name, "--runs", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    numerics = f"was trained under NUMERICS {NUMERICS - 1}, and this version computes NUMERICS {NUMERICS}: "
    assert err.startswith(f"classicnets: {run.name} {numerics}{command} it with classicnets 0.0.9, commit c4d0bf8c4d0b")
    assert answer(capsys, "eval", run.name, "--runs", tmp_path)[0] == 0


def test_a_trained_network_is_loaded_in_python(trained):
    run = classicnets.load(directory(trained).name, directory(trained).parents[1])
    dataset = load(DataConfig())
    start, size = dataset.span("test")
    images, labels = (array[start : start + size] for array in (dataset.images, dataset.labels))
    logits = run.logits(images)
    assert logits.shape == (size, 10)
    error = 100 * (logits.argmax(-1) != labels).mean()
    assert error == pytest.approx(run.run.status["test_error"])
    assert (run.step, run.config.recipe.learning_rate) == (22, 0.05)
    normalised = (images / 1.0 - dataset.images[:1408].mean()) / (dataset.images[:1408].std() + 1e-8)
    by_hand = run.model.apply(run.variables, jnp.asarray(normalised, jnp.float32), train=False)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-3, atol=1e-4)
    for bad in (images / 255.0, images[0], np.zeros((1, 9, 8, 1), np.uint8)):
        with pytest.raises(ValueError, match="images must be uint8, n x 8 x 8 x 1, as they were read, got "):
            run.logits(bad)


def test_the_version_is_said(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"classicnets {classicnets.__version__}\n"


def test_help_imports_no_jax_and_is_quick():
    code = "import sys; from classicnets.cli.main import main; main(['--help']);"
    code += "assert not {'jax', 'tyro'} & {*sys.modules}"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert time.monotonic() - began < 2  # a tenth of that on an idle machine
    assert all(f"\n  {command}" in done.stdout for command in COMMANDS)

"""The command line where there is no device, no terminal, no UTF-8, or nothing may be written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import classicnets
from classicnets.cli import main as cli
from classicnets.data import DataConfig, load
from classicnets.report import progress
from classicnets.system import caches

TINY = ["cifar_resnet", "--depth", "8", "--width", "0.25"]


def start(*words, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "classicnets", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)


def answer(capsys, *words) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of the command line in this process."""
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, words)])
    return int(end.value.code or 0), *capsys.readouterr()


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


def test_several_runs_say_how_far_they_are_every_thirty_seconds(monkeypatch, capsys):
    times = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with progress.Bar() as bar:
        for step in (1, 2, 3, 4):
            bar("net-s0", step, 9, {"test_error": 50.0})
    assert capsys.readouterr().err.splitlines() == ["net-s0: 2 of 9  test 50.0 %", "net-s0: 4 of 9  test 50.0 %"]


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


@pytest.mark.filterwarnings("default:Error reading persistent compilation cache entry")
@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "garbage"])
def test_a_damaged_entry_of_the_compilation_cache_is_replaced_once(tmp_path, monkeypatch, how):
    said = []
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caches.warnings, "showwarning", lambda message, *_: said.append(str(message)))
    before = jax.config.values["jax_compilation_cache_dir"]
    from jax.experimental.compilation_cache import compilation_cache

    def computed() -> float:
        compilation_cache.reset_cache()
        jax.clear_caches()

        @jax.jit
        def of_one_name(x):
            return jnp.sin(x) * 3 + len(how)

        return float(of_one_name(1.0))

    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        caches.use_cache()
        value = computed()
        (entry,) = tmp_path.glob("jit_of_one_name-*-cache")
        content = entry.read_bytes()
        flipped = bytes([*content[:200], content[200] ^ 4, *content[201:]])
        entry.write_bytes({"cut": content[:50], "empty": b"", "flipped": flipped, "garbage": b"x" * 99}[how])
        assert [computed(), computed()] == [value, value]
    finally:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", before)
    assert said == ["a damaged entry of the compilation cache (jit_of_one_name) is replaced"]
    assert entry.read_bytes()[:2] == content[:2]


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
    assert [line.split("  ")[-2].strip() for line in out.splitlines()] == [str(run), str(other)]
    for words in (["--runs", *roots, "--where", "seed==0"], [run, other], [run, other.parent], [run, other.parents[1]]):
        status, out, _ = answer(capsys, "compare", *words, "--exact", "0", "--json")
        assert (status, json.loads(out)["directories"]) == (0, [str(run), str(other)])
        assert json.loads(out)["runs"] == [str(run), str(other)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "train cifar_resnet --lr 0.1 --learning-rate 0.2",
            "--lr and --learning-rate are one option: give one of them",
        ),
        ("train cifar_resnet --lr 0.1,0.01", "several are words apart, and make a sweep: --learning-rate 0.1 0.01"),
        ("train cifar_resnet --seed=0-3", "seed takes numbers, got '0-3': several are words apart"),
        ("sweep cifar_resnet --depth 20..22", "and make a sweep: --depth 20 21 22"),
        ("sweep cifar_resnet --wd 0,1", "and make a sweep: --weight-decay 0 1"),
        ("sweep cifar_resnet --fork RUN", "fork is of one run, and not of a sweep, whose runs start from their seeds"),
        ("sweep cifar_resnet --process=1", "process is of one run, and not of a sweep"),
        ("trian", "unknown command 'trian'; the nearest is 'train'"),
        ("plot", "unknown command 'plot'; choose from "),
        ("train cifar_resnet --dataset none", "unknown data set 'none'"),
    ],
)
def test_options_that_cannot_be_are_refused_with_the_way_to_write_them(capsys, words, said):
    status, out, err = answer(capsys, *words.split())
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


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
    cli.main(["--version"])
    assert capsys.readouterr().out == f"classicnets {classicnets.__version__}\n"

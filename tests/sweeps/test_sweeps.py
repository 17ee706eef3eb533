"""Sweeps: the same bits from every engine, each run computed once, whatever is killed; a failure stops no other."""

import contextlib
import functools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import pytest
from helpers.sweeping import CACHE, NET, digests, processes, start, swept
from stored import put

from classicnets.cli.main import main
from classicnets.cli.options import parse, several, values
from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.report.progress import Bar
from classicnets.runs import Run
from classicnets.sweeps import Job, plan, sweep, worker
from classicnets.sweeps.engines import Placement
from classicnets.sweeps.jobs import read, text
from classicnets.system.cores import claim
from classicnets.system.settings import in_reference_execution
from classicnets.training import Config, Execution, Recipe, facts


class Fails(nn.Module):
    """A network that is named, and then cannot be computed, or only once."""

    how: str = "exception"

    @nn.compact
    def __call__(self, images, *, train: bool):
        runs = train and not in_reference_execution()
        if runs and self.how == "exception":
            raise RuntimeError("it was asked to fail\nand says so in two lines")
        if runs and self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        x = images.reshape(len(images), -1)
        if self.how == "nan":
            x = x + jax.numpy.nan
        return nn.Dense(10)(nn.Dense(len(self.how))(x))  # each a network of its own


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    for name, value in CACHE.items():
        monkeypatch.setenv(name, value)
    # A worker imports this file for its networks, and this file its helpers.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    root = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CACHE.items():
            patch.setenv(name, value)
        return root, swept(root)


def test_a_grid_on_local_workers(local):
    root, rows = local
    assert len({row["run"] for row in rows}) == 4
    assert {row["state"] for row in rows} == {"complete"}
    assert len(set(digests(rows).values())) == 4
    for row in rows:
        (segment,) = Run(Path(row["directory"])).environment
        assert segment["cores"] == 1
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.json")}
    assert swept(root) == rows
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.json")} == before


def test_dry_run_counts_and_says_what_is_done(local):
    root, _ = local
    out, err = start(root, "--dry-run", grid=[*NET, "--seeds", "3"]).communicate(timeout=300)
    found = json.loads(out)
    rows = found["runs"]
    assert [(row["state"], row["seconds"] == 0) for row in rows] == [
        *[("complete", True), ("complete", True), ("new", False)] * 2
    ]
    assert {(row["parameters"], row["macs"]) for row in rows} == {(4934, 48544)}
    assert [line.split()[0] for line in err.splitlines()] == ["probing"] * 2
    left = [row["seconds"] for row in rows]  # no more than one worker trains a run
    assert found["seconds"] == pytest.approx(max(sum(left) / found["jobs"], *left))


def test_a_failure_is_recorded_and_stops_no_other(tmp_path):
    config = Config(recipe=Recipe(epochs=1))
    nets = {how: Fails(how) for how in ("exception", "killed", "nan", "good")}
    rows = sweep([Job(net, config, how) for how, net in nets.items()], tmp_path, placement=Placement(2, 1, retries=0))
    found = {row["run"].split("-")[0]: row for row in rows}
    assert (found["exception"]["state"], found["exception"]["error"]) == (
        "failed",
        "RuntimeError: it was asked to fail",
    )
    assert found["killed"]["state"] == "failed"
    assert found["killed"]["error"].startswith("its worker ended by SIGKILL")
    assert (found["nan"]["state"], found["nan"]["step"]) == ("diverged", 1)
    assert found["good"]["state"] == "complete"
    again = Run(Path(found["exception"]["directory"])).status
    assert (again["state"], again["error"]) == ("failed", "RuntimeError: it was asked to fail")


class Prints(nn.Module):
    """What it prints is no answer, and no text."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        if in_reference_execution():
            return nn.Dense(10)(images.reshape(len(images), -1))
        print("{}", flush=True)
        os.write(2, b"\xff")
        if train:
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.Dense(10)(images.reshape(len(images), -1))


def test_what_a_network_prints_is_no_answer(tmp_path):
    job = Job(Prints(), Config(recipe=Recipe(epochs=1)), "x")
    (row,) = sweep([job], tmp_path, placement=Placement(1, 1, retries=0))
    assert row["error"].startswith("its worker ended by SIGKILL")
    with pytest.raises(RuntimeError, match="its worker ended by SIGKILL"):
        worker.train_in_process_of_its_own(text([job]), str(tmp_path), 1)


class Sleeps(nn.Module):
    @nn.compact
    def __call__(self, images, *, train: bool):
        time.sleep(600)


def test_a_worker_ends_when_the_process_that_asked_it_is_killed(tmp_path):
    line = text([Job(Sleeps(), Config(), "x")])
    code = "import sys; from classicnets.sweeps import worker; worker.train_in_process_of_its_own(*sys.argv[1:], 1)"
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])}
    with subprocess.Popen([sys.executable, "-c", code, line, str(tmp_path)], env=place) as process:
        while not (found := processes(f"classicnets.sweeps.worker {tmp_path}")):
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
    deadline = time.monotonic() + 60
    while (found := processes(f"classicnets.sweeps.worker {tmp_path}")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not found


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_live_table_on_a_terminal_and_silent_elsewhere(terminal):
    code = (
        "from classicnets.report.progress import Bar\n"
        "with Bar() as bar:\n"
        "    bar('all 2 runs', 1, 2, {})\n"
        "    bar('net[a]-s1', 11, 33, {'train_error_running': 12.34, 'test_error': 5.0})\n"
        "    bar('net-s0', 33, 33, {})\n"
        "    bar.note('1/2 net-s0: complete')\n"
    )
    ours, theirs = pty.openpty()
    where = {
        "stderr": theirs if terminal else subprocess.PIPE,
        "env": {**os.environ, "COLUMNS": "120", "TERM": "xterm"},
    }
    process = subprocess.Popen([sys.executable, "-c", code], **where)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # that is how a terminal ends
        while part := os.read(ours, 4096) if terminal else process.stderr.read():
            said += part
    process.communicate()
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())
    rows = ["all 2 runs .* 1/2", "net\\[a\\]-s1 .* 11/33 train 12.3 %  test 5.0 %"]
    assert [bool(re.search(row, text)) for row in rows] == [terminal] * 2
    assert "1/2 net-s0: complete" in text
    assert terminal or text == "1/2 net-s0: complete\n"
    assert "33/33" not in text


def test_a_job_is_the_same_after_its_travel():
    nets = [
        create("resnet50", num_classes=7, dtype="bfloat16", units=(1, 2, 1, 1)),
        Fails("good"),
        nn.Dense(3, kernel_init=nn.initializers.zeros, dtype=jax.numpy.float32),
    ]
    recipe = Recipe(epochs=3, schedule="step", boundaries=(1, 2), clip_norm=1.0)
    for net in nets:
        job = Job(net, Config(DataConfig(augment=False), recipe, 3), "x", "y", Execution(keep=1))
        assert read(text([job, job])) == [job, job]


@pytest.mark.parametrize("value", [lambda x: x, functools.partial(lambda x: x), object()])
def test_what_cannot_travel_is_refused(value):
    with pytest.raises(ValueError, match="put it in a file of its own"):
        text([Job(nn.Dense(3, kernel_init=value), Config(), "x")])


def test_cores_are_claimed_by_one_process_each(tmp_path):
    code = (
        "import os, sys, time; from classicnets.system.cores import claim; held = claim(1);"
        "print(*os.sched_getaffinity(0), flush=True); sys.stdin.read()"
    )
    many = len(os.sched_getaffinity(0))
    place = {**os.environ, "TMPDIR": str(tmp_path)}  # apart from the claims of sweeps that other tests run meanwhile
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": place}
    workers = [subprocess.Popen([sys.executable, "-c", code], **options) for _ in range(many)]
    found = [worker.stdout.readline() for worker in workers]
    assert sorted(map(int, found)) == sorted(os.sched_getaffinity(0))
    late = subprocess.Popen([sys.executable, "-c", code], **options)
    workers[0].kill()
    workers[0].communicate()
    assert late.stdout.readline() == found[0]
    for process in (*workers[1:], late):
        process.communicate("")
    with pytest.raises(ValueError, match=rf"cores must be in \[1, {many}\], got {many + 1}"):
        claim(many + 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sweep"], "name a model first"),
        (["sweep", "cifar_resnet", "--depth", "8", "9"], "depth must be 6n+2 with n >= 1, got 9"),
        (["sweep", "cifar_resnet", "--depht", "8"], "unknown option --depht; the nearest is '--depth'"),
        (["sweep", "cifar_resnet", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["sweep", "cifar_resnet", "--seeds", "2", "--seed", "3"], "seed must not be given beside seeds, got 3"),
        (["sweep", "cifar_resnet", "--engine", "cloud"], "engine must be one of local, ray, slurm, got 'cloud'"),
        (["sweep", "cifar_resnet", "--jobs", "500"], "jobs x cores must be at most"),
        (["sweep", "cifar_resnet", "--depth"], "depth needs at least one value"),
        (["sweep", "cifar_resnet", "--seed"], "seed needs at least one value"),
        (["sweep", "cifar_resnet", "--seed", "0", "--seeds", "2"], "seed must not be given beside seeds, got 0"),
        (["sweep", "cifar_resnet", "--batch-size", "128", "5000"], "batch_size 5000 is more than the 1408 training"),
        (["sweep", "cifar_resnet", "--dry-run", "--jobs", "0"], "jobs and cores must be at least 1"),
        (["sweep", "cifar_resnet", "--dry-run", "--engine", "cloud"], "engine must be one of local, ray, slurm"),
        (["sweep", "cifar_resnet", "--dry-run", "--slurm", "fast"], "slurm takes NAME=VALUE, got 'fast'"),
        (["sweep", "cifar_resnet", "--boundaries", "3,x"], "boundaries takes whole numbers, got '3,x'"),
        (["sweep", "inception_v1", "--branches", "1x1,9x9"], "branches"),
        (["sweep", "vgg16", "resnet_50"], "unknown model 'resnet_50'"),
        (["sweep", "cifar_resnet", "--engine", "slurm", "--slurm", "fast"], "slurm takes NAME=VALUE, got 'fast'"),
    ],
)
def test_bad_sweeps_are_refused_before_anything_is_written(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--boundaries", "3", "5"], [(3, 5)]),
        (["--boundaries", "3,5", "4,6"], [(3, 5), (4, 6)]),
        (["--boundaries", "3,", "4,6"], [(3,), (4, 6)]),
        (["--boundaries"], [()]),
        ([], [()]),
    ],
)
def test_lists_are_swept_as_words_with_commas(words, expected):
    field = ("boundaries", tuple[int, ...], ())
    options = parse("x", words, [several(field)])
    assert list(values(field, options.boundaries)) == expected


def test_a_list_is_a_part_of_the_names_of_a_sweep(tmp_path, capsys):
    words = ["--schedule", "step", "--steps", "9", "--boundaries", "3,5", "4,6", "--width", "0.25", "--dry-run"]
    with pytest.raises(SystemExit):
        main(["sweep", "cifar_resnet", *words, "--runs", str(tmp_path), "--json"])
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["run"].rpartition("-")[0] for row in rows] == [
        f"cifar_resnet-boundaries{each}-s0" for each in ("3+5", "4+6")
    ]


def test_a_dry_run_does_not_wait_for_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "import sys; from classicnets.system.cores import available, claim; held = claim(available());"
    code += "print(flush=True); sys.stdin.read()"
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    worker = subprocess.Popen([sys.executable, "-c", code], **options)
    assert worker.stdout.readline() == "\n"
    process = start(tmp_path / "runs", "--dry-run", grid=["sweep", "cifar_resnet", "--width", "0.25", "--json"])
    out, err = process.communicate(timeout=120)
    worker.communicate("")
    assert [row["state"] for row in json.loads(out)["runs"]] == ["new"]
    assert "other workers hold the cores" in err


def test_notes_are_shown_as_they_are(capsys):
    with Bar() as bar:
        bar.note("bad tag [/INST] in [red]r[v2][/red] :warning:\x1b[31m\nsecond")
    assert capsys.readouterr().err == "bad tag [/INST] in [red]r[v2][/red] :warning:\u241b[31m\u240asecond\n"


def test_a_run_that_has_lost_its_log_is_not_called_complete(tmp_path):
    config = Config(recipe=Recipe(epochs=1))
    job = Job(create("cifar_resnet", depth=8, width=0.25, num_classes=10), config, "net")
    path = put(tmp_path / "sweep", json.loads(json.dumps(facts(job.model, config, job.execution))), "net")
    assert plan.state_of(job.run(tmp_path)) == "complete"
    (path / "metrics.jsonl").unlink()
    (row,) = sweep([job], tmp_path)
    assert row["state"] == "damaged"
    assert row["error"] == f"{path / 'metrics.jsonl'} is missing; without {str(path)!r} it is trained again"
    (path / "config.json").unlink()
    (row,) = sweep([job], tmp_path)
    assert (row["state"], "config.json" in row["error"]) == ("damaged", True)

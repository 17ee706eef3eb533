"""Sweeps: the same bits from every engine, each run computed once, whatever is killed; a failure stops no other."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import pytest
from helpers.stored import put
from helpers.sweeping import NET, digests, processes, start, swept

from classicnets.cli.sweep import _wall
from classicnets.data import DataConfig
from classicnets.models import create
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
def imports(monkeypatch):
    # A worker imports this file for its networks, and this file its helpers.
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here, here.parent))), prepend=os.pathsep)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    root = tmp_path_factory.mktemp("local")
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


def test_a_dry_run_counts_and_says_what_is_done(local):
    root, _ = local
    out, err = start(root, "--dry-run", grid=[*NET, "--seeds", "3"]).communicate(timeout=300)
    found = json.loads(out)
    assert [row["state"] for row in found["runs"]] == ["complete", "complete", "new"] * 2
    assert {(row["parameters"], row["macs"], row["seconds"]) for row in found["runs"]} == {(4934, 48544, None)}
    assert (found["seconds"], err) == (None, "")


def test_a_probe_says_how_long_the_rest_takes(local):
    root, _ = local
    words = ["--dry-run", "--probe", "--jobs", "2"]
    out, err = start(root, *words, grid=[*NET, "--seeds", "4"]).communicate(timeout=300)
    found = json.loads(out)
    states = ["complete", "complete", "new", "new"] * 2
    assert [(row["state"], row["seconds"] > 0) for row in found["runs"]] == [
        (state, state == "new") for state in states
    ]
    # Another test's workers may hold the cores meanwhile, which is said too.
    assert [line.split()[0] for line in err.splitlines() if not line.startswith("other workers")] == ["probing"] * 2
    # Four runs by two workers, each of which loads the programs of each network once.
    assert found["seconds"] > sum(row["seconds"] for row in found["runs"]) / 2


def test_a_rate_is_probed_by_itself_since_its_programs_are_its_own(tmp_path):
    words = ["--dry-run", "--probe", "--lr", "0.1", "0.01", "--jobs", "2"]
    grid = ["sweep", "cifar_resnet", "--width", "0.25", "--epochs", "2", "--seeds", "2", "--json"]
    out, err = start(tmp_path, *words, grid=grid).communicate(timeout=300)
    assert (len(json.loads(out)["runs"]), err.count("probing ")) == (4, 2)


@pytest.mark.parametrize(
    ("tasks", "workers", "seconds"),
    [
        ([("a", 10.0)] * 4, 2, 23.0),  # each worker starts a once, and trains two
        ([("a", 10.0)] * 4, 1, 43.0),
        ([("a", 10.0), ("b", 10.0)], 2, 15.0),  # the longest: b's start takes 5
        ([("a", 100.0), ("b", 1.0)], 2, 103.0),  # a task is one worker's
        ([], 2, 0.0),
    ],
)
def test_how_long_workers_take(tasks, workers, seconds):
    assert _wall(tasks, {"a": 3.0, "b": 5.0}, workers) == seconds


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


def test_a_probe_does_not_wait_for_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "import sys; from classicnets.system.cores import available, claim; held = claim(available());"
    code += "print(flush=True); sys.stdin.read()"
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    worker = subprocess.Popen([sys.executable, "-c", code], **options)
    assert worker.stdout.readline() == "\n"
    grid = ["sweep", "cifar_resnet", "--width", "0.25", "--json"]
    process = start(tmp_path / "runs", "--dry-run", "--probe", grid=grid)
    out, err = process.communicate(timeout=120)
    worker.communicate("")
    assert [row["state"] for row in json.loads(out)["runs"]] == ["new"]
    assert "other workers hold the cores" in err


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

"""Several processes train one run; killed runs end in the same bits; an installed wheel is enough."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.runs import checkpoints
from classicnets.training import Recipe
from classicnets.training.programs import trainer_for

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]
NET = ["train", "cifar_resnet", "--depth", "8", "--width", "0.25", "--json"]


def start(*arguments, devices=1, **more):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), **more}
    words = [sys.executable, "-m", "classicnets.cli.main", *map(str, arguments)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out


def parameters(directory: Path, recipe: Recipe):
    """The last checkpoint's parameters."""
    model = create("cifar_resnet", depth=8, width=0.25)
    trainer = trainer_for(model, recipe, DataConfig(), 1)
    step = checkpoints.newest_good(directory / "checkpoints")
    assert step == recipe.total_steps(trainer.steps_per_epoch)
    return checkpoints.restore(directory / "checkpoints", step, trainer.abstract_state()).params


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_processes_that_were_started_to_compute_different_things_refuse(tmp_path):
    address = free_address()
    several = [
        start(*NET, "--seed", i, "--runs", tmp_path, "--coordinator", address, "--processes", 2, "--process", i)
        for i in (0, 1)
    ]
    for process in several:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2
        assert "the processes of a run must have the same options" in err
    assert not any(tmp_path.iterdir())


def test_two_processes_train_what_one_with_as_many_devices_does(tmp_path):
    address = free_address()
    short = [*NET, "--epochs", "1"]
    alone = json.loads(finished(start(*short, "--runs", tmp_path / "alone", devices=2)))
    several = [
        start(*short, "--runs", tmp_path / f"{i}", "--coordinator", address, "--processes", 2, "--process", i)
        for i in (0, 1)
    ]
    first, second = (finished(process) for process in several)
    together = json.loads(first.splitlines()[-1])
    # Gloo itself writes a line when the processes meet.
    assert [line for line in second.splitlines() if not line.startswith("[Gloo]")] == []
    assert not (tmp_path / "1").exists()
    assert together["run"] == alone["run"]
    segments = json.loads((Path(together["directory"]) / "environment.json").read_text())
    assert [len(segment["devices"]) for segment in segments] == [2]
    ours, theirs = (jax.tree.leaves(parameters(Path(r["directory"]), Recipe(epochs=1))) for r in (together, alone))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_ends_both_at_one_step(tmp_path):
    address = free_address()
    long = [*NET, "--epochs", "2000", "--checkpoint-seconds", "1000", "--steps-per-dispatch", "2", "--runs", tmp_path]
    several = [start(*long, "--coordinator", address, "--processes", 2, "--process", i) for i in (0, 1)]
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob("*/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    several[1].send_signal(signal.SIGTERM)
    ended = [(process.communicate(timeout=30)[1], process.returncode) for process in several]
    assert [status for _, status in ended] == [75, 75], ended
    (root,) = tmp_path.glob("*/*/checkpoints")
    (step, *_) = reversed(checkpoints.steps(root))
    status = json.loads((root.parent / "status.json").read_text())
    assert (status["state"], status["step"]) == ("interrupted", step)
    assert checkpoints.damage(root, step) is None


def resume_until_done(tmp_path, epochs, kills, generator, longest):
    """Start, kill -9 after a random time, and so on; then let it end."""
    words = [*NET, "--epochs", epochs, "--checkpoint-seconds", "0", "--runs", tmp_path]
    for _ in range(kills):
        process = start(*words)
        time.sleep(generator.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return json.loads(finished(start(*words)))


def timeless(directory):
    lines = (Path(directory) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k not in ("seconds", "images_per_second")} for x in lines]


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_bit(tmp_path):
    unkilled = json.loads(finished(start(*NET, "--epochs", 40, "--checkpoint-seconds", "0", "--runs", tmp_path / "a")))
    began = time.monotonic()
    again = json.loads(finished(start(*NET, "--epochs", 40, "--checkpoint-seconds", "0", "--runs", tmp_path / "b")))
    longest = time.monotonic() - began
    seed = random.SystemRandom().randrange(2**32)
    killed = resume_until_done(tmp_path / "c", 40, 10, random.Random(seed), longest / 2)
    segments = json.loads((Path(killed["directory"]) / "environment.json").read_text())
    assert len(segments) > 3, f"seed {seed}: the kills fell too early"
    for run in (again, killed):
        assert run["parameters_sha256"] == unkilled["parameters_sha256"], f"seed {seed}"
        assert timeless(run["directory"]) == timeless(unkilled["directory"]), f"seed {seed}"


def test_the_wheel_alone_trains_on_its_digits(tmp_path):
    """The wheel's files and nothing of the checkout; the dependencies are the environment's."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
        archive.extractall(tmp_path / "site")
    assert top == {"classicnets", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    code = "import classicnets, sys; print(classicnets.__file__); from classicnets.cli.main import main; main()"
    words = [sys.executable, "-P", "-c", code, *NET, "--epochs", "1", "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    where, result = done.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path / "site")
    assert json.loads(result)["state"] == "complete"

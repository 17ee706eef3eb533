"""Runs through the command line, in real processes: same bits, resume after kill -9, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from classicnets.data import DataConfig
from classicnets.data.digits import SHA256
from classicnets.models import create
from classicnets.runs import checkpoints
from classicnets.system.environment import sources_sha256
from classicnets.training import Recipe
from classicnets.training.programs import trainer_for

pytestmark = pytest.mark.process
NET = ["train", "cifar_resnet", "--depth", "8", "--width", "0.25"]
TRAIN = [*NET, "--dataset", "digits", "--epochs", "6", "--checkpoint-seconds", "0", "--json"]


def command(*arguments):
    return [sys.executable, "-m", "classicnets.cli.main", *arguments]


def classicnets(*arguments, **more):
    return subprocess.run(command(*arguments), env=os.environ | more, capture_output=True, text=True, check=False)


def timeless(run: Path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


def wait_for(condition, process=None):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.005)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    done = classicnets(*TRAIN, "--runs", str(tmp_path_factory.mktemp("finished")))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_finished_run_is_returned(finished):
    folder = Path(finished["directory"])
    again = classicnets(*TRAIN, "--runs", str(folder.parents[1]))
    assert json.loads(again.stdout) == finished
    assert len(json.loads((folder / "environment.json").read_text())) == 1
    assert len(timeless(folder)) == 6


def test_killed_and_resumed_runs_end_in_the_same_bits(finished, tmp_path):
    """Killed at the second listed checkpoint, and again in the middle of a later save."""
    words = command(*TRAIN, "--runs", str(tmp_path))
    for pattern in ("*/*/checkpoints/22", "*/*/checkpoints/tmp-44/state*"):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda pattern=pattern: any(tmp_path.glob(pattern)), process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    root = next(tmp_path.glob("*/*/checkpoints"))
    assert all(checkpoints.damage(root, step) is None for step in checkpoints.steps(root))
    resumed = json.loads(classicnets(*TRAIN, "--runs", str(tmp_path)).stdout)
    assert resumed["parameters_sha256"] == finished["parameters_sha256"]
    assert timeless(Path(resumed["directory"])) == timeless(Path(finished["directory"]))
    assert not list(root.glob("tmp-*"))


def test_eval_repeats_the_recorded_errors(finished):
    root = str(Path(finished["directory"]).parents[1])
    found = json.loads(classicnets("eval", finished["run"], "--runs", root, "--json").stdout)
    assert found["step"] == 66
    for key in ("train_error", "validation_error", "test_error", "train_loss"):
        assert found[key] == finished[key]


def test_resume_takes_its_options_from_the_record_and_refuses_others(finished):
    root = str(Path(finished["directory"]).parents[1])
    again = classicnets("resume", finished["run"], "--runs", root, "--json")
    assert json.loads(again.stdout) == finished
    before = sorted(Path(root).rglob("*"))
    other = classicnets("resume", finished["run"], "--runs", root, "--learning-rate", "0.2")
    assert other.returncode == 2
    assert "Unrecognized options: --learning-rate, 0.2" in other.stderr
    assert sorted(Path(root).rglob("*")) == before


def test_the_record_says_how_and_by_what_the_run_was_computed(finished):
    (segment,) = json.loads((Path(finished["directory"]) / "environment.json").read_text())
    assert segment["resolved"]["conv"] == "canonical"
    assert (segment["execution"]["conv"], segment["execution"]["unroll"]) == ("auto", False)
    assert segment["data_sha256"] == SHA256
    assert segment["versions"]["jax"] == jax.__version__
    assert segment["sources_sha256"] == sources_sha256()


def test_a_run_of_other_sources_is_returned_with_a_warning(finished):
    folder = Path(finished["directory"])
    text = (folder / "environment.json").read_text()
    (folder / "environment.json").write_text(text.replace(sources_sha256(), "0" * 64))
    again = classicnets(*TRAIN, "--runs", str(folder.parents[1]))
    (folder / "environment.json").write_text(text)
    assert json.loads(again.stdout) == finished
    assert "comes from other sources" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_a_renamed_run_is_not_resumed_as_another(finished, tmp_path):
    shutil.copytree(finished["directory"], tmp_path / "default" / "backup")
    done = classicnets("resume", str(tmp_path / "default" / "backup"))
    assert done.returncode == 2
    assert "backup' was renamed" in done.stderr
    assert [path.name for path in tmp_path.glob("default/*")] == ["backup"]


def test_a_flipped_bit_is_found_and_the_step_before_is_used(finished):
    root = Path(finished["directory"]) / "checkpoints"
    before, newest = checkpoints.steps(root)
    victim = max((p for p in (root / str(newest)).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    assert checkpoints.damage(root, newest) == str(victim.relative_to(root / str(newest)))
    assert checkpoints.newest_good(root) == before
    state = trainer_for(create("cifar_resnet", depth=8, width=0.25), Recipe(epochs=6), DataConfig(), 1).abstract_state()
    step, restored, skipped = checkpoints.restore_newest(root, state)
    assert (step, int(restored.step), list(skipped)) == (before, before, [newest])
    assert (root / f"damaged-{newest}").is_dir()


def test_a_second_start_is_refused_with_the_holder(tmp_path):
    words = command(*TRAIN, "--epochs", "400", "--runs", str(tmp_path))
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: any(tmp_path.glob("*/*/status.json")), process)
        second = classicnets(*TRAIN, "--epochs", "400", "--runs", str(tmp_path))
        assert second.returncode == 4
        assert f"held by process {process.pid}" in second.stderr
    finally:
        process.kill()
        process.wait()


def test_a_diverged_run_says_so_and_is_not_trained_again(tmp_path):
    words = [*NET, "--epochs", "3", "--learning-rate", "1e30", "--runs", str(tmp_path), "--json"]
    first, again = classicnets(*words), classicnets(*words)
    assert [first.returncode, again.returncode] == [3, 3]
    found = json.loads(first.stdout)
    assert (found["state"], json.loads(again.stdout)) == ("diverged", found)
    last = classicnets(*NET, "--steps", "1", "--learning-rate", "1e38", "--runs", str(tmp_path), "--json")
    assert (last.returncode, json.loads(last.stdout)["state"]) == (3, "diverged")

"""Runs through the command line, in real processes: same bits, resume after kill -9, refusals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from classicnets.data import DataConfig
from classicnets.data.dataset import DIGITS_SHA256
from classicnets.models import create
from classicnets.runs import checkpoints
from classicnets.system.environment import differences, environment, sources_sha256
from classicnets.training import Recipe
from classicnets.training.programs import trainer_for

NET = ["train", "cifar_resnet", "--depth", "8", "--width", "0.25"]
TRAIN = [*NET, "--dataset", "digits", "--epochs", "6", "--checkpoint-seconds", "0", "--json"]


def command(*arguments):
    cache = str(Path(os.environ.get("TMPDIR", "/tmp")) / "classicnets-test-cache")
    settings = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return [sys.executable, "-m", "classicnets.cli.main", *arguments], {**os.environ, **settings}


def classicnets(*arguments, **more):
    words, environment = command(*arguments)
    return subprocess.run(words, env=environment | more, capture_output=True, text=True, check=False)


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
    words, environment = command(*TRAIN, "--runs", str(tmp_path))
    for pattern in ("*/*/checkpoints/22", "*/*/checkpoints/tmp-44/state*"):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    again = classicnets("train", "--resume", finished["run"], "--runs", root, "--json")
    assert json.loads(again.stdout) == finished
    before = sorted(Path(root).rglob("*"))
    other = classicnets("train", "--resume", finished["run"], "--runs", root, "--learning-rate", "0.2")
    assert other.returncode == 2
    assert f"learning_rate is 0.1 in the record of {finished['run']}, got 0.2" in other.stderr
    assert len(other.stderr.splitlines()) == 1
    assert sorted(Path(root).rglob("*")) == before


def test_the_record_says_how_and_by_what_the_run_was_computed(finished):
    (segment,) = json.loads((Path(finished["directory"]) / "environment.json").read_text())
    assert segment["resolved"]["conv"] == "canonical"
    assert (segment["execution"]["conv"], segment["execution"]["unroll"]) == ("auto", False)
    assert segment["data_sha256"] == DIGITS_SHA256
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


def test_damaged_records_are_named_and_listed(finished, tmp_path):
    folder = tmp_path / "default" / finished["run"]
    shutil.copytree(finished["directory"], folder)
    for name, text, reason in (
        ("status.json", "[]", "it lacks 'state'"),
        ("status.json", '{"state"', "status.json is damaged"),
        (
            "config.json",
            '{"schema": 99, "model": {}, "data": {}, "recipe": {}, "seed": 0}',
            "schema 99, this version reads 1 to 4",
        ),
    ):
        good = (folder / name).read_text()
        (folder / name).write_text(text)
        (row,) = json.loads(classicnets("runs", "--runs", str(tmp_path), "--json").stdout)
        assert (row["state"], reason in row["reason"]) == ("damaged", True)
        (folder / name).write_text(good)


def test_a_renamed_run_is_not_resumed_as_another(finished, tmp_path):
    shutil.copytree(finished["directory"], tmp_path / "default" / "backup")
    done = classicnets("train", "--resume", str(tmp_path / "default" / "backup"))
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
    words, environment = command(*TRAIN, "--epochs", "400", "--runs", str(tmp_path))
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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


def test_describe_and_models_as_json():
    found = json.loads(classicnets("describe", "cifar_resnet", "--depth", "20", "--shortcut", "none", "--json").stdout)
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"]) == 269_722
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"]) == 40_551_040
    rows = {row["name"]: row for row in json.loads(classicnets("models", "--filter", "cifar_resnet", "--json").stdout)}
    assert rows["cifar_resnet"]["parameters"] == 269_722
    # VGG-16's pool5 sees 212 pixels; fc6, over 7x7 of its positions 32 pixels apart, 192 more
    vgg = json.loads(classicnets("describe", "vgg16", "--json").stdout)
    fields = {layer["name"]: layer["receptive_field"] for layer in vgg["layers"]}
    assert (fields["pool5"], fields["fc6/dense"], fields["fc8/dense"]) == (212, 404, 404)
    assert [(row["printed"], row["verdict"]) for row in vgg["printed"]] == [("138 M", "rounded"), ("15.3 G", "differs")]
    text = classicnets("describe", "resnet50").stdout
    assert "note: a network with strides in a stage's first 1x1" in text
    assert "He et al. 2016 (CVPR), Table 1  the network  multiply-adds    3.8 G  3,857,973,248  cut" in text
    assert "printed in" not in classicnets("describe", "cifar_resnet", "--width", "2").stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--depth 21", "depth must be 6n+2 with n >= 1, got 21; the nearest is 20"),
        ("--shortcut D", "shortcut must be one of none, A, B, C, pool, got 'D'"),
        ("--dataset digts", "unknown data set 'digts'; the nearest is 'digits'"),
        ("--learning-rate=-0.1", "learning_rate must be positive, got -0.1"),
        ("--epochs 0", "epochs must be at least 1, got 0"),
        ("--runs {file}/below", "is a file"),
        ("--dpeth 20", "unknown option --dpeth; the nearest is '--depth'"),
        ("--depth twenty", "Error parsing --depth: invalid literal for int() with base 10: 'twenty'"),
        ("--dataset cifar10", "data set 'cifar10' is not here yet; `classicnets data prepare cifar10` fetches it"),
        ("--batch-size 2000", "batch_size 2000 is more than the 1408 training images"),
        ("--devices 3", "devices must be at most"),
        ("--steps 0", "steps must be at least 1, got 0"),
        ("--steps 9999999999", "steps must be less than 2**31, got 9999999999"),
        ("--width inf", "width must be finite, got inf"),
        ("--checkpoint-seconds inf", "checkpoint_seconds must be finite, got inf"),
        ("--learning-rate nan", "learning_rate must be finite, got nan"),
        ("--dtype float64", "dtype float64 needs jax_enable_x64, which is off"),
        ("--experiment ../x", "experiment and name are up to 100 letters, digits and -_.+, got '../x'"),
        ("--coordinator here --processes 2 --process 0", "coordinator must be HOST:PORT, got 'here'"),
        ("--dtype float16", "dtype must be float32, bfloat16 or float64, got float16"),
        ("--process 0", "coordinator, processes and process are given together"),
        ("--resume no-such-run", "no run 'no-such-run'"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, sentence, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    words = arguments.format(file=file).split()
    if "--runs" not in words:
        words += ["--runs", str(tmp_path / "runs")]
    done = classicnets("train", "cifar_resnet", *words, CLASSICNETS_DATA=str(tmp_path / "data"))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [file]


def test_another_processor_is_another_condition():
    here = environment()
    assert re.fullmatch(r".+ [0-9a-f]{8}", here["processor"])
    assert differences({**here, "processor": "another"}, here) == [f"processor another -> {here['processor']}"]

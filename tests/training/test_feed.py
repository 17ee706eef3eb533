"""A set on the devices and one that the host reads are one to a run; each example is seen once, from any step on."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from helpers.images import class_folders

from classicnets.data import DataConfig, load
from classicnets.data.prepare import prepare
from classicnets.models import create
from classicnets.runs import Run, checkpoints
from classicnets.sweeps import Job
from classicnets.sweeps.jobs import packable
from classicnets.training import Config, Execution, Recipe, Trained, evaluate, train, train_packed
from classicnets.training import feed as feeds
from classicnets.training.feed import HostFeed
from classicnets.training.programs import Trainer, trainer_for

RECIPE = Recipe(epochs=2, batch_size=8)


class Small(nn.Module):
    classes: int = 3
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.Conv(4, (3, 3), (2, 2), name="conv1")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name, name="norm1")(x))
        return nn.Dense(self.classes, name="head")(x.mean((1, 2)))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The folder of prepared sets: `a` as arrays and `s` as shards of the same 90 images, `m` of several sizes."""
    root = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSICNETS_DATA", str(root / "data"))
        class_folders(root / "equal", 3, 30, size=(10, 12))
        prepare("a", root / "equal", kept_as="arrays")
        prepare("s", root / "equal", kept_as="shards")
        class_folders(root / "mixed", 3, 30)
        prepare("m", root / "mixed")
    return root / "data"


@pytest.fixture(autouse=True)
def here(sets, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(sets))


def trainer(data, devices=1, recipe=RECIPE):
    return trainer_for(Small(), recipe, data, devices)


def host(data, replicas=1, own=None):
    """The feed of some of so many replicas."""
    whole = trainer(data, 1)
    problem = Trainer(Small(), RECIPE, whole.dataset, data, jax.devices()[:replicas]).problem
    return HostFeed(problem, range(replicas) if own is None else own, threads=2)


def epochs(feed, begin=0, end=None):
    """[step, replica, n] numbers and [step, replica, n, h, w, c] pixels of each step of two epochs."""
    end = 2 * feed.problem.steps_per_epoch if end is None else end
    numbers, pixels = [], []
    at = begin
    while at < end:
        steps = min(3, end - at, feed.problem.steps_per_epoch - at % feed.problem.steps_per_epoch)
        for block, count in feed.training(lambda at=at: at, 0, steps):
            first = at - int(block.first[0])
            numbers += list(np.swapaxes(block.examples[:, first : first + count], 0, 1))
            pixels += list(np.swapaxes(block.images[:, first : first + count], 0, 1))
            labels = np.swapaxes(block.labels[:, first : first + count], 0, 1)
            assert (labels == feed.problem.dataset.labels[np.array(numbers[-count:])]).all()
            at += count
    feed.close()
    return np.array(numbers), np.array(pixels)


VIEWS = {
    "shift": {},
    "area": {"crop": "area", "image_size": 8},
    "scale": {"crop": "scale", "image_size": 8, "scales": (9, 14), "colour": "photometric"},
    "colour": {"colour": "pca", "flip": False, "normalise": "pixel"},
    "resized": {"image_size": 6, "augment": False},
}


@pytest.mark.parametrize("view", VIEWS)
def test_an_array_and_its_shards_train_to_the_same_bits(view, tmp_path):
    runs = [
        train(
            Small(),
            Config(DataConfig(name, **VIEWS[view]), RECIPE),
            runs=tmp_path,
            experiment="e",
            name=name,
            execution=Execution(devices=1),
        )
        for name in "as"
    ]
    a, s = (run.status for run in runs)
    kept = [key for key in a if key.endswith(("_loss", "_error", "_sha256", "_statistics"))]
    assert len(kept) > 6
    assert {key: a[key] for key in kept} == {key: s[key] for key in kept}
    assert runs[0].id.rpartition("-")[2] != runs[1].id.rpartition("-")[2]
    assert load(DataConfig("a", **VIEWS[view])).is_resident == (view in ("shift", "colour", "resized"))


@pytest.mark.parametrize("length", [1, 2, 5, 100])
def test_each_example_of_an_epoch_is_read_once_whoever_reads_it(length, monkeypatch):
    data = DataConfig("m", image_size=8)
    size = 8 * 8 * 3 * 8
    monkeypatch.setattr(feeds, "BLOCK", length * size)
    alone = host(data)
    assert alone.length == min(length, alone.problem.steps_per_epoch)
    numbers, pixels = epochs(alone)
    per_epoch, train_size = alone.problem.steps_per_epoch, alone.problem.dataset.sizes["train"]
    assert numbers.shape == (2 * per_epoch, 1, 8)
    for epoch in range(2):
        seen = Counter(numbers[epoch * per_epoch : (epoch + 1) * per_epoch].ravel().tolist())
        assert set(seen.values()) == {1}
        assert len(seen) == per_epoch * 8 and max(seen) < train_size
    assert (numbers[:per_epoch] != numbers[per_epoch:]).any()
    for replicas, processes in ((2, [[0, 1]]), (4, [[0, 1, 2, 3]]), (2, [[0], [1]]), (4, [[0, 1], [2, 3]])):
        parts = [epochs(host(data, replicas, own)) for own in processes]
        spread = np.concatenate([part[0] for part in parts], 1)
        np.testing.assert_array_equal(spread.reshape(numbers.shape), numbers)
        together = np.concatenate([part[1] for part in parts], 1)
        np.testing.assert_array_equal(together.reshape(pixels.shape), pixels)


def test_a_feed_goes_on_from_any_step():
    data = DataConfig("m", image_size=8, crop="area")
    numbers, pixels = epochs(host(data))
    for begin in (1, 4, 7, 11):
        again = epochs(host(data), begin)
        np.testing.assert_array_equal(again[0], numbers[begin:])
        np.testing.assert_array_equal(again[1], pixels[begin:])


def test_crops_differ_between_steps_and_are_what_the_data_set_says():
    data = DataConfig("m", image_size=8, crop="area")
    feed = host(data)
    numbers, pixels = epochs(feed)
    dataset = feed.problem.dataset
    for step in (0, 5, 12):
        for example, image in zip(numbers[step, 0], pixels[step, 0], strict=True):
            np.testing.assert_array_equal(image, dataset.trained(int(example), 0, step))
    assert (dataset.trained(3, 0, 1) != dataset.trained(3, 0, 2)).any()
    assert (dataset.trained(3, 0, 1) != dataset.trained(3, 1, 1)).any()
    np.testing.assert_array_equal(dataset.trained(3, 0, 1, augment=False), dataset.evaluated(3))


def test_a_feed_that_is_asked_for_another_step_or_seed_begins_there():
    feed = host(DataConfig("m", image_size=8))
    ((first, _),) = feed.training(lambda: 2, 0, 1)
    ((other, _),) = feed.training(lambda: 2, 1, 1)
    ((again, _),) = feed.training(lambda: 2, 0, 1)
    feed.close()
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.examples != other.examples).any()


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_evaluation_counts_each_example_once(devices, statistics):
    data = DataConfig("m", image_size=8)
    own = trainer(data, devices)
    state = own.train(own.initial_state(0), 0, 2)
    host_state = own.unreplicate(state)
    variables = {"params": host_state.params, "batch_stats": host_state.batch_stats}
    for split in ("train", "validation", "test"):
        start, size = own.dataset.span(split)
        assert size % RECIPE.batch_size  # the last batch is filled up
        (found,) = own.evaluate(state, split, statistics)
        filled = start + np.arange(-(-size // 8) * 8) % size
        x = (own.dataset.shown(filled).astype(np.float32) - own.problem.mean) / own.problem.std
        if statistics == "running":
            logits = np.asarray(Small().apply(variables, x, train=False))
        else:
            parts = [
                Small().apply(variables, x[i : i + 8], train=True, mutable=["batch_stats"])[0]
                for i in range(0, len(x), 8)
            ]
            logits = np.concatenate(parts)
        logits, labels = logits[:size], own.dataset.labels[start : start + size]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        np.testing.assert_allclose(found.loss, losses.mean(), rtol=2e-5)
        assert found.error == 100 * (logits.argmax(-1) != labels).sum().item() / size


def test_devices_agree_to_rounding():
    data = DataConfig("m", image_size=8, crop="area")
    ends = []
    for devices in (1, 2, 4):
        own = trainer(data, devices)
        ends.append(own.unreplicate(own.train(own.initial_state(0), 0, own.steps_per_epoch)).params)
    for other in ends[1:]:
        for one, same in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(one, same, atol=2e-5, rtol=2e-4)


def test_a_run_from_a_checkpoint_in_mid_epoch_ends_in_the_same_bits(tmp_path):
    config = Config(DataConfig("m", image_size=8, crop="area"), RECIPE)
    how = Execution(devices=1, checkpoint_seconds=0.0, keep=99, steps_per_dispatch=3)
    options = {"experiment": "e", "name": "r", "execution": how}
    whole = train(Small(), config, runs=tmp_path / "whole", **options)
    steps = checkpoints.steps(whole.checkpoints)
    per_epoch = trainer(config.data).steps_per_epoch
    middle = next(step for step in steps if step % per_epoch)
    path = tmp_path / "part" / "e" / whole.id
    shutil.copytree(whole.path, path)
    for step in steps:
        if step > middle:
            shutil.rmtree(path / "checkpoints" / str(step))
    Run(path).set_status("interrupted", step=middle)
    again = train(Small(), config, runs=tmp_path / "part", **options)
    assert again.status["parameters_sha256"] == whole.status["parameters_sha256"]
    assert len(again.environment) == 2


def test_a_trained_network_and_its_errors(tmp_path):
    config = Config(DataConfig("m", image_size=8), RECIPE)
    run = train(Small(), config, runs=tmp_path, experiment="e", name="r", execution=Execution(devices=1))
    errors = evaluate(run, Small(), config)
    assert {key: errors[key] for key in errors if key.endswith("error")} == {
        key: run.status[key] for key in errors if key.endswith("error")
    }
    trained = Trained.of(run, Small(), config)
    start, size = trained.trainer.dataset.span("test")
    logits = trained.logits(trained.trainer.dataset.shown(start + np.arange(size)))
    wrong = (logits.argmax(-1) != trained.trainer.dataset.labels[start:]).mean()
    np.testing.assert_allclose(100 * wrong, run.status["test_error"])


def test_packs_are_refused(tmp_path):
    configs = [(f"s{seed}", Config(DataConfig("m", image_size=8), RECIPE, seed)) for seed in (0, 1)]
    with pytest.raises(ValueError, match="m is read by the host, and runs are packed on data that live on the device"):
        train_packed(Small(), configs, runs=tmp_path, experiment="e", execution=Execution(devices=1))
    assert not list(tmp_path.glob("*/*"))


def test_a_sweep_packs_what_lives_on_the_device_alone():
    def job(seed, name):
        return Job(create("cifar_resnet", depth=8), Config(DataConfig(name, image_size=8), RECIPE, seed), f"s{seed}")

    assert packable(job(0, "a")) == packable(job(1, "a"))
    assert packable(job(0, "m")) != packable(job(1, "m"))


def test_without_grain_the_extra_is_named(monkeypatch, tmp_path):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "grain" else find(name, *rest))
    with pytest.raises(ValueError, match=r"needs Grain: pip install 'classicnets\[stream\]'"):
        train(Small(), Config(DataConfig("m", image_size=12), RECIPE), runs=tmp_path, experiment="e", name="r")
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.process
def test_a_run_killed_in_mid_epoch_ends_in_the_same_bits(tmp_path):
    from training.test_processes import finished, start

    words = [
        "train",
        "cifar_resnet",
        "--depth",
        "8",
        "--width",
        "0.25",
        "--dataset",
        "m",
        "--image-size",
        "8",
        "--json",
    ]
    words += ["--crop", "area", "--epochs", "60", "--batch-size", "8", "--evaluate-every", "60"]
    whole = json.loads(finished(start(*words, "--runs", tmp_path / "whole")))
    words += ["--runs", tmp_path / "killed", "--checkpoint-seconds", "0", "--steps-per-dispatch", "5"]
    process = start(*words)
    deadline = time.monotonic() + 200
    while not any(int(path.name) % 8 for path in tmp_path.glob("killed/*/*/checkpoints/[0-9]*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = json.loads(finished(start(*words)))
    assert again["parameters_sha256"] == whole["parameters_sha256"]
    assert len(json.loads((Path(again["directory"]) / "environment.json").read_text())) == 2


@pytest.mark.process
def test_two_processes_train_what_two_devices_do(tmp_path):
    from training.test_processes import finished, free_address, start

    words = [
        "train",
        "cifar_resnet",
        "--depth",
        "8",
        "--width",
        "0.25",
        "--dataset",
        "m",
        "--image-size",
        "8",
        "--json",
    ]
    words += ["--crop", "area", "--epochs", "1", "--batch-size", "8"]
    alone = json.loads(finished(start(*words, "--runs", tmp_path / "alone", devices=2)))
    spread = ["--coordinator", free_address(), "--processes", 2, "--process"]
    several = [start(*words, "--runs", tmp_path / "both", *spread, i) for i in (0, 1)]
    outputs = [finished(process) for process in several]
    together = json.loads(outputs[0].splitlines()[-1])
    assert together["run"] == alone["run"]
    for name in ("train", "validation", "test"):
        np.testing.assert_allclose(together[f"{name}_loss"], alone[f"{name}_loss"], rtol=1e-4)
        assert abs(together[f"{name}_error"] - alone[f"{name}_error"]) < 2


@pytest.mark.process
def test_a_feed_that_is_left_open_ends_with_the_program_without_a_word():
    code = (
        "import numpy as np; from classicnets.data import DataConfig, load, stream; d = load(DataConfig('m'));"
        "left = stream.batches(lambda i: d.evaluated(i), np.arange(64)[:, None], 8); next(left)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")

"""Packed runs: each is recorded as its own and equals the run that is trained alone, to rounding."""

import importlib
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.sweeping import digests, kill, start, swept

from classicnets.data import DataConfig, load
from classicnets.models import create
from classicnets.runs import Run, checkpoints
from classicnets.runs.run import RunLocked
from classicnets.runs.verify import verify
from classicnets.sweeps.jobs import Job, packable, text
from classicnets.sweeps.worker import outcome
from classicnets.training import Config, Execution, Recipe, facts, train, train_packed
from classicnets.training.programs import Trainer, stacked, trainer_for, unstacked


class Small(nn.Module):
    """Convolution, batch norm over all replicas, ReLU, mean, dense."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.Conv(8, (3, 3))(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))
        return nn.Dense(10)(x.mean((1, 2)))


NET = Small()
# Eleven steps an epoch.
RECIPE = Recipe(epochs=2, batch_size=32)
BASE = Config(DataConfig(train_size=352), RECIPE)
OTHERS = [
    {"learning_rate": 0.05},
    {"momentum": 0.5},
    {"weight_decay": 0.0},
    {},
]
CONFIGS = [("base", BASE)] + [
    (f"other{i}", replace(BASE, seed=1 + i // 3, recipe=replace(BASE.recipe, **scalars)))
    for i, scalars in enumerate(OTHERS)
]
HOW = Execution(devices=2, steps_per_dispatch=4)


def distance(one: Run, other: Run, net=NET) -> float:
    """The greatest difference of a parameter, a batch statistic or a momentum."""
    state = trainer_for(net, BASE.recipe, BASE.data, 2).abstract_state()
    last = [checkpoints.restore(run.checkpoints, run.status["step"], state) for run in (one, other)]
    pairs = zip(*map(jax.tree.leaves, last), strict=True)
    return max(float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()) for a, b in pairs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("pack")
    packed = train_packed(NET, CONFIGS, runs=root / "packed", experiment="e", execution=HOW)
    alone = [train(NET, c, runs=root / "alone", experiment="e", name=name, execution=HOW) for name, c in CONFIGS]
    return packed, alone


def test_each_member_equals_the_run_that_is_trained_alone(trained):
    for packed, alone in zip(*trained, strict=True):
        assert packed.id == alone.id
        assert distance(packed, alone) < 1e-4
        assert len(packed.metrics) == len(alone.metrics) == 2
        for one, other in zip(packed.metrics, alone.metrics, strict=True):
            assert one.keys() == other.keys()
            assert one["learning_rate"] == other["learning_rate"]
            assert one["test_loss"] == pytest.approx(other["test_loss"], abs=1e-4)
        assert packed.status.keys() == alone.status.keys()
        assert verify(packed)["problems"] == []


def test_the_members_are_different_networks(trained):
    """Else the comparison above would hold of one network trained five times."""
    packed, _ = trained
    for i in range(5):
        assert all(distance(packed[i], packed[j]) > 1e-3 for j in range(i))


def test_the_record_tells_how_many_went_together(trained):
    packed, alone = trained
    assert [run.environment[-1].get("packed") for run in packed] == [5] * 5
    assert [run.environment[-1].get("packed") for run in alone] == [None] * 5


def test_seeds_and_rates_of_a_residual_network_on_a_cpu_have_the_bits_of_runs_alone(tmp_path):
    net = create("cifar_resnet", depth=8, width=0.25, num_classes=10)
    configs = [
        ("a", BASE),
        ("b", replace(BASE, seed=1)),
        ("c", replace(BASE, recipe=replace(RECIPE, learning_rate=0.05))),
    ]
    packed = train_packed(net, configs, runs=tmp_path / "packed", experiment="e", execution=HOW)
    alone = [train(net, c, runs=tmp_path / "alone", experiment="e", name=name, execution=HOW) for name, c in configs]
    digests = [[run.status["parameters_sha256"] for run in runs] for runs in (packed, alone)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 3


def test_steps_and_evaluations_under_vmap_equal_those_alone():
    """As on an accelerator. From one state on, since one ReLU that flips near zero moves a gradient by far more."""
    net = create("cifar_resnet", depth=8, width=0.25, num_classes=10)
    configs = [BASE, replace(BASE, seed=1), replace(BASE, recipe=replace(BASE.recipe, learning_rate=0.05))]
    trainers = [trainer_for(net, c.recipe, c.data, 2) for c in configs]
    vmapped = Trainer(net, BASE.recipe, load(BASE.data), BASE.data, jax.devices()[:2])
    vmapped._compile(in_turn=False)
    seeds, rates = [c.seed for c in configs], {"learning_rate": [c.recipe.learning_rate for c in configs]}
    states = [trainer.init(config.seed) for trainer, config in zip(trainers, configs, strict=True)]
    for _ in range(3):
        state = vmapped.train(vmapped.replicate(stacked(states)), seeds, 1, rates)
        ends = [t.train(t.replicate(s), c.seed, 1) for t, s, c in zip(trainers, states, configs, strict=True)]
        states = [trainer.unreplicate(end) for trainer, end in zip(trainers, ends, strict=True)]
        for one, other in zip(unstacked(vmapped.unreplicate(state), 3), states, strict=True):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other)
    for statistics in ("running", "batch"):
        found = vmapped.evaluate(state, "test", statistics)
        for one, trainer, end in zip(found, trainers, ends, strict=True):
            assert one == pytest.approx(trainer.evaluate(end, "test", statistics)[0], abs=1e-4)
    assert [vmapped.named(fault) for fault in unstacked(vmapped.unreplicate(state.fault), 3)] == [None] * 3


class Explodes(nn.Module):
    """Its logits are no numbers if the seed drew `scale` above 0."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        scale = self.param("scale", nn.initializers.normal(), (1, 1))
        return nn.Dense(10)(images.reshape(len(images), -1)) + jnp.where(scale > 0, jnp.nan, 0.0)


def test_a_member_that_diverges_stops_no_other(tmp_path):
    configs = [(f"s{seed}", replace(BASE, recipe=replace(RECIPE, epochs=1), seed=seed)) for seed in range(4)]
    packed = train_packed(Explodes(), configs, runs=tmp_path / "packed", experiment="e")
    alone = [train(Explodes(), c, runs=tmp_path / "alone", experiment="e", name=name) for name, c in configs]
    states = [run.status["state"] for run in packed]
    assert set(states) == {"complete", "diverged"}
    for one, other in zip(packed, alone, strict=True):
        if one.status["state"] == "diverged":
            assert one.status == other.status
            assert one.status["step"] == 1
        else:
            assert one.status["parameters_sha256"] == other.status["parameters_sha256"]


def test_what_is_complete_is_not_trained_again_and_the_rest_is_resumed(trained, tmp_path):
    _, alone = trained
    train(NET, BASE, runs=tmp_path, experiment="e", name="base", execution=HOW)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    packed = train_packed(NET, CONFIGS[:3], runs=tmp_path, experiment="e", execution=HOW)
    assert all(path.stat().st_mtime_ns == time for path, time in files.items() if path.is_file())
    assert [run.status["state"] for run in packed] == ["complete"] * 3
    assert [run.environment[-1].get("packed") for run in packed] == [None, 2, 2]
    for one, other in zip(packed, alone, strict=False):
        assert distance(one, other) < 1e-4


@pytest.mark.parametrize("steps", [(4, 8, 8), (8, 8, 4)])
def test_runs_at_different_steps_go_on_apart(steps, trained, tmp_path):
    """Each with its own scalars, of which no two members have all in common."""
    _, alone = trained
    how = replace(HOW, checkpoint_seconds=0.0, keep=9)
    packed = train_packed(NET, CONFIGS[:3], runs=tmp_path, experiment="e", execution=how)
    for run, last in zip(packed, steps, strict=True):  # as after a kill between two members' checkpoints
        for step in checkpoints.steps(run.checkpoints):
            if step > last:
                (run.checkpoints / str(step)).rename(run.path / f"gone-{step}")
        run.set_status("interrupted", step=last)
    with pytest.warns(UserWarning, match="bits can differ from here: packed 3 -> [12]"):
        again = train_packed(NET, CONFIGS[:3], runs=tmp_path, experiment="e", execution=how)
    assert [run.status["state"] for run in again] == ["complete"] * 3
    assert [run.environment[-1].get("packed") for run in again] == [2 if step == 8 else None for step in steps]
    for one, other in zip(again, alone, strict=False):
        assert [line["step"] for line in one.metrics] == [11, 22]
        assert distance(one, other) < 1e-4


@pytest.mark.parametrize(("holds", "together"), [(None, 5), (2.5, 2), (0.5, 1)])
def test_no_more_go_together_than_the_memory_of_a_device_holds(holds, together, tmp_path, monkeypatch):
    trainer = trainer_for(NET, BASE.recipe, BASE.data, 2)
    has = holds and int(holds * trainer.memory())
    module = importlib.import_module("classicnets.training.train")
    monkeypatch.setattr(module, "_device_memory", lambda _: has)  # a CPU does not say
    monkeypatch.setattr(module, "_warn_of_memory", lambda _: None)
    configs = [(f"s{seed}", replace(BASE, seed=seed, recipe=replace(RECIPE, epochs=1))) for seed in range(5)]
    runs = train_packed(NET, configs, runs=tmp_path, experiment="e", execution=HOW)
    groups = [together] * (5 // together) + [5 % together] * (5 % together > 0)
    expected = [size if size > 1 else None for size in groups for _ in range(size)]
    assert [run.environment[-1].get("packed") for run in runs] == expected


def test_a_member_that_another_process_holds_is_refused(tmp_path):
    (run,) = train_packed(NET, CONFIGS[:1], runs=tmp_path, experiment="e", execution=HOW)
    run.set_status("interrupted", step=0)
    run.acquire(run.facts)
    with pytest.raises(RunLocked, match=run.id):
        train_packed(NET, CONFIGS[:2], runs=tmp_path, experiment="e", execution=HOW)
    run.release()
    assert len(list(tmp_path.glob("*/*/config.json"))) == 1


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            replace(BASE, recipe=replace(RECIPE, epochs=3)),
            "must differ in the seed and learning_rate, momentum, weight_decay",
        ),
        (BASE, "must be different runs"),
        (replace(BASE, seed=-1), "seed must be in"),
    ],
)
def test_what_cannot_be_packed_is_refused(other, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        train_packed(NET, [("a", BASE), ("b", other)], runs=tmp_path, experiment="e")
    assert not list(tmp_path.iterdir())


def test_jobs_that_can_be_packed_have_one_key():
    one = packable(Job(NET, BASE, "a"))
    same = [replace(BASE, seed=3), replace(BASE, recipe=replace(BASE.recipe, learning_rate=1.0, momentum=0.0))]
    other = [replace(BASE, recipe=replace(RECIPE, epochs=3)), replace(BASE, data=replace(BASE.data, augment=False))]
    assert {packable(Job(NET, config, f"n{i}")) for i, config in enumerate(same)} == {one}
    assert all(packable(Job(NET, config, "a")) != one for config in other)
    assert packable(Job(NET, BASE, "a", "elsewhere")) != one


def test_a_member_that_cannot_be_read_fails_alone(tmp_path):
    jobs = [Job(NET, replace(BASE, seed=seed), f"s{seed}") for seed in range(3)]
    run = jobs[1].run(tmp_path)
    run.acquire(facts(NET, jobs[1].config, jobs[1].execution))
    run.release()
    (run.path / "status.json").write_text("{")
    errors = outcome(text(jobs), tmp_path)["errors"]
    assert [error and error.split(":")[0] for error in errors] == [None, "ValueError", None]
    assert "status.json is damaged" in errors[1]
    assert [job.run(tmp_path).status["state"] for job in jobs[::2]] == ["complete"] * 2


GRID = ["sweep", "cifar_resnet", "--width", "0.25", "--epochs", "3", "--checkpoint-seconds", "0", "--json"]
GRID += ["--steps-per-dispatch", "4", "--learning-rate", "0.1", "0.05", "--seeds", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_packed_sweep_whose_workers_are_killed_has_the_bits_of_runs_alone(engine, tmp_path):
    expected = digests(swept(tmp_path / "alone", grid=GRID))
    words, rng, root = ["--pack", "--engine", engine], random.Random(0), tmp_path / "packed"
    process = start(root, *words, "--retries", "3", grid=GRID)
    for _ in range(2):
        written = total(root)
        while total(root) == written and process.poll() is None:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1))
        kill(f"classicnets.sweeps.worker {root}", rng)
    out, err = process.communicate(timeout=600)
    rows = json.loads(out)
    assert digests(rows) == expected, err
    segments = [Run(Path(row["directory"])).environment for row in rows]
    assert all(each[0]["packed"] == 4 for each in segments)
    assert max(map(len, segments)) > 1


def total(root: Path) -> int:
    """How many checkpoints there are."""
    return len(list(root.glob("*/*/checkpoints/[0-9]*")))

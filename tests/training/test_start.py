"""A run starts from a checkpoint or weights, whole or in part, with parts frozen; averages and plateaus resume."""

import shutil
from dataclasses import replace

import flax.linen as nn
import jax
import numpy as np
import pytest

from classicnets.data import DataConfig, load
from classicnets.models import create
from classicnets.runs import Run, checkpoints
from classicnets.training import Config, Execution, Parent, Recipe, Start, Trained, Weights, evaluate, facts, train
from classicnets.training.programs import trainer_for
from classicnets.training.start import started

HOW = Execution(devices=1, checkpoint_seconds=0.0, keep=9)
ONE = Config(recipe=Recipe(epochs=1))


class Small(nn.Module):
    width: int = 4
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = nn.Conv(self.width, (3, 3), (2, 2), name="conv1")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name, name="norm1")(x))
        return nn.Dense(10, name="head")(x.mean((1, 2)))


def once(root, name, config=ONE, start=None, model=None):
    return train(model or Small(), config, runs=root, experiment="e", name=name, execution=HOW, start=start)


def last(run):
    return checkpoints.variables(run.checkpoints, run.status["step"])


def equal(one, other):
    return [bool((a == b).all()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return once(tmp_path_factory.mktemp("parent"), "parent")


def test_frozen_parts_stay_as_they_begin_and_fresh_ones_come_from_the_seed(parent, tmp_path):
    start = Start(Parent.newest(parent), fresh=("head",), frozen=("conv1", "norm1"))
    run = once(tmp_path, "fine", start=start)
    before, after = last(parent), last(run)
    for layer in ("conv1", "norm1"):
        assert all(equal(before["params"][layer], after["params"][layer]))
    assert all(equal(before["batch_stats"], after["batch_stats"]))
    assert not any(equal(before["params"]["head"], after["params"]["head"]))
    assert run.facts["parent"]["run"] == parent.id
    assert run.facts["start"] == {"fresh": ["head"], "frozen": ["conv1", "norm1"]}
    again = Start.of_record(Run(run.path))
    assert again is not None
    assert again.facts == start.facts
    found = evaluate(run, Small(), ONE)
    assert found["test_error"] == run.metrics[-1]["test_error"]


def test_a_norm_that_is_not_frozen_moves(parent, tmp_path):
    run = once(tmp_path, "fine", start=Start(Parent.newest(parent), frozen=("conv1",)))
    assert not any(equal(last(parent)["batch_stats"], last(run)["batch_stats"]))
    assert not any(equal(last(parent)["params"]["norm1"], last(run)["params"]["norm1"]))


def test_the_batch_norm_of_our_networks_is_frozen_by_its_running_statistics():
    net = create("cifar_resnet", depth=8, width=0.25, num_classes=10)
    trainers = [trainer_for(net, Recipe(epochs=1), DataConfig(), 1, frozen) for frozen in ((), ("conv1_norm",))]
    layers = sorted(trainers[0].abstract_state().batch_stats)
    states = [trainer.unreplicate(trainer.train_one(trainer.initial_state(0), 0)) for trainer in trainers]
    first = trainers[0].init(0)
    kept = [all(equal(first.batch_stats[layer], states[1].batch_stats[layer])) for layer in layers]
    assert kept == [layer == "conv1_norm" for layer in layers]
    assert not any(equal(first.batch_stats["conv1_norm"], states[0].batch_stats["conv1_norm"]))
    assert states[0].sums[0] != states[1].sums[0]


def test_a_plain_fork_is_named_by_its_parent_alone(parent):
    told = Start(Parent.newest(parent))
    assert told.facts == {"parent": told.source.facts, "start": None}
    assert set(facts(Small(), ONE, HOW, told)) - set(facts(Small(), ONE, HOW)) == {"parent"}


def test_weights_of_elsewhere_are_named_by_their_digest(parent, tmp_path):
    run = once(tmp_path, "w", start=Start(Weights("ab" * 32, last(parent)), layers=("conv1",)))
    assert run.facts["start"] == {"weights_sha256": "ab" * 32, "layers": ["conv1"]}
    trainer = trainer_for(Small(), ONE.recipe, ONE.data, 1)
    start = Start(Weights("", last(parent)), layers=("conv1",))
    state = started(trainer.init(3), start.variables(trainer))
    assert all(equal(state.params["conv1"], last(parent)["params"]["conv1"]))
    assert all(equal(state.params["head"], trainer.init(3).params["head"]))
    with pytest.raises(ValueError, match=r"the weights of SHA-256 abababababab\.\.\., from which this run starts"):
        once(tmp_path, "none", replace(ONE, seed=5), Start(Weights("ab" * 32)))


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ({"layers": ("conv2",)}, "layers names 'conv2', which the network does not have.*conv1"),
        ({"fresh": ("heads",)}, "fresh names 'heads', which the network does not have.*head"),
        ({"frozen": ("norm",)}, "frozen names 'norm', which the network does not have.*norm1"),
        ({"layers": ("conv1", "head")}, r"conv1/bias has shape \(4,\) in the source, \(5,\) here"),
        ({}, r"conv1/bias has shape \(4,\) in the source, \(5,\) here"),
    ],
)
def test_layers_that_do_not_fit_are_refused_by_name(start, sentence, parent, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        once(tmp_path, "x", start=Start(Parent.newest(parent), **start), model=Small(width=5))
    assert not list(tmp_path.iterdir())


def test_a_rate_for_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rates names 'biases', which the network does not have"):
        once(tmp_path, "x", Config(recipe=Recipe(epochs=1, rates=("biases=2",))))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=4, schedule="plateau", plateau_epochs=1, learning_rate=1.0, ema_decay=0.9),
        Recipe(epochs=4, optimizer="rmsprop", schedule="exponential", decay_every=1, warmup_epochs=1),
        Recipe(epochs=4, optimizer="adam", schedule="linear", ema_decay=0.5, rates=("bias=2",), decay="kernels"),
    ],
    ids=["plateau", "rmsprop", "adam"],
)
def test_a_resumed_run_has_the_same_bits_and_evaluates_the_average(recipe, tmp_path):
    config = Config(recipe=recipe)
    run = once(tmp_path / "whole", "run", config)
    rates = [line["learning_rate"] for line in run.metrics]
    assert len(set(rates)) > 1
    for step in (22, 33):
        path = tmp_path / str(step) / "e" / run.id
        shutil.copytree(run.path, path)
        part = Run(path)
        for other in checkpoints.steps(part.checkpoints):
            if other > step:
                shutil.rmtree(part.checkpoints / str(other))
        part.set_status("interrupted", step=step)
        again = once(tmp_path / str(step), "run", config)
        assert again.status == run.status
        assert [line["learning_rate"] for line in again.metrics] == rates
    trained = Trained.of(run, Small(), config)
    digits = load(config.data)
    images, labels = digits.images[-260:], digits.labels[-260:]
    assert 100 * (trained.logits(images).argmax(-1) != labels).mean() == pytest.approx(run.status["test_error"])
    assert all(equal(trained.variables["params"], last(run)["params"])) == (recipe.ema_decay is None)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_1_and_4_devices_agree(optimizer):
    # The bias before a batch norm has no gradient but rounding, which an epsilon of 1e-8 would blow up.
    recipe = Recipe(epochs=4, optimizer=optimizer, adam_epsilon=1.0, ema_decay=0.9)
    states = []
    for devices in (1, 4):
        trainer = trainer_for(Small(), recipe, DataConfig(), devices)
        states.append(trainer.unreplicate(trainer.train(trainer.initial_state(5), 5, 3)))
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)

"""Layers that change nothing change nothing, and what starts from them is named by what they were made of."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import classicnets
from classicnets.claims import Claim
from classicnets.claims.criteria import EverySeed
from classicnets.compare.configurations import configurations, differing, lineages
from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.runs.identity import digest
from classicnets.runs.modules import built, written
from classicnets.sweeps import Job
from classicnets.sweeps.jobs import packable, read, text
from classicnets.training import Config, Execution, Recipe, Start, Weights, facts, train
from experiments.deepening import BLOCKS, Deepened, identity, kept, moments, preset

DATA = DataConfig("digits", train_size=256, augment=False)
CONFIG = Config(DATA, Recipe(epochs=12, batch_size=64, learning_rate=0.05))
PLACE = {"experiment": "e", "execution": Execution(devices=1, evaluate_every=12)}


def plain(depth):
    return create("cifar_resnet", depth=depth, shortcut="none", width=0.25, num_classes=10)


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    return train(plain(14), CONFIG, name="plain14", runs=tmp_path_factory.mktemp("deepened"), **PLACE)


def test_identity_layers_change_no_output_and_in_training_as_little_as_a_batch_differs(shallow):
    net, deeper = classicnets.load(str(shallow.path)), plain(26)
    source = Deepened.to(26, shallow)
    tree = source.variables()
    images = net.trainer.prepared(net.trainer.dataset.images[:64])
    before = net.model.apply(net.variables, images, train=False)
    assert np.abs(deeper.apply(tree, images, train=False) - before).max() < 1e-4 * np.abs(before).max()
    training = [
        np.asarray(model.apply(variables, images, train=True, mutable=["batch_stats"])[0])
        for model, variables in ((net.model, net.variables), (deeper, tree))
    ]
    # A quarter of what is trained on, so that moments differ; without the layers' own they would be far off.
    assert (training[0].argmax(-1) == training[1].argmax(-1)).mean() > 0.9
    unscaled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.ones_like(leaf) if path[-1].key == "scale" else leaf, tree["params"]
    )
    wrong = deeper.apply({**tree, "params": unscaled}, images, train=False)
    assert np.abs(wrong - before).max() > 0.1 * np.abs(before).max()


def test_moments_are_those_of_batches_in_training(shallow):
    net = classicnets.load(str(shallow.path))
    found = moments(net, net.variables)
    batches = [net.trainer.prepared(net.trainer.dataset.images[i : i + 64]) for i in range(0, 256, 64)]
    for block in BLOCKS:
        outputs = [
            np.asarray(classicnets.features(net.model, net.variables, x, [block], train=True)[block], np.float64)
            for x in batches
        ]
        mean = np.mean([x.mean((0, 1, 2)) for x in outputs], 0)
        variance = np.mean([((x - x.mean((0, 1, 2))) ** 2).mean((0, 1, 2)) for x in outputs], 0)
        assert found[block][0] == pytest.approx(mean, rel=1e-5)
        assert found[block][1] == pytest.approx(variance, rel=1e-5)


def test_a_run_made_deeper_keeps_its_error_and_goes_on_from_its_last_step(shallow):
    root = shallow.path.parents[1]
    step = replace(CONFIG, recipe=replace(CONFIG.recipe, epochs=1, steps=1))
    start = replace(kept(shallow), source=Deepened.to(26, shallow))
    run = train(plain(26), step, name="deep", runs=root, start=start, **PLACE)
    assert run.status["train_error"] == shallow.status["train_error"]
    assert run.status["test_error"] == shallow.status["test_error"]
    told = {
        "run": shallow.id,
        "step": shallow.status["step"],
        "parameters_sha256": shallow.status["parameters_sha256"],
        "made_by": "identity layers to depth 26, version 1",
    }
    assert run.facts["parent"] == told
    again = Start.of_record(run)
    assert again.facts == start.facts
    with pytest.raises(
        ValueError, match=r"what identity layers to depth 26, version 1 made of plain14-.* must be given"
    ):
        again.source.variables()
    same = Deepened.to(26, run).variables()
    assert jax.tree.all(jax.tree.map(np.array_equal, same["params"], start.source.variables()["params"]))
    newest = run.path / "checkpoints" / str(run.status["step"])
    newest.rename(newest.with_name("gone"))
    with pytest.raises(ValueError, match=rf"run {run.id} holds no good checkpoint|its last"):
        Deepened.to(26, run)


def test_runs_of_one_parent_differ_in_what_was_made_of_it(shallow):
    """In their names, their configurations and in which runs differ by the seed alone."""
    starts = [Start(Deepened.to(depth, shallow)) for depth in (26, 56)]
    starts.append(Start(replace(starts[0].source, made_by="identity layers to depth 26, version 2")))
    told = [facts(plain(26), CONFIG, start=start) for start in starts]
    assert len({digest(one) for one in told}) == 3
    records = [SimpleNamespace(facts=one, fields={}, path=shallow.path) for one in told]
    column = differing(configurations(records))["parent"]
    assert column[0] == (
        f"{shallow.id} at step {shallow.status['step']} ({shallow.status['parameters_sha256'][:12]}), "
        "changed by identity layers to depth 26, version 1"
    )
    assert len(set(column)) == len(set(lineages(records))) == 3
    assert "made_by" in lineages([records[0], records[0]])[0]


def test_a_case_does_not_start_from_a_run_that_diverged(shallow):
    diverged = SimpleNamespace(id="plain-s0", status={"state": "diverged"})
    trial = Claim("c", "s", "t", {"p": preset(DATA, CONFIG.recipe)}, identity, EverySeed({"a": "> 0"})).trial("p")
    with pytest.raises(ValueError, match="identity56 cannot start from plain-s0, which is diverged"):
        trial.jobs_after({("plain20", 30): diverged})


def test_a_start_travels_to_a_worker_with_its_job(shallow):
    start = kept(shallow)
    job = Job(plain(56), CONFIG, "deep", start=start)
    (other,) = read(text([job]))
    assert other.start.facts == start.facts
    assert other.start.source.run.path == shallow.path
    named = facts(job.model, job.config, job.execution, start)
    assert facts(other.model, other.config, other.execution, other.start) == named
    assert named["parent"]["made_by"] == "identity layers to depth 56, version 1"
    assert packable(job) == text([job])
    assert packable(replace(job, start=None)) == packable(replace(job, start=None, config=replace(CONFIG, seed=1)))
    assert built(written(shallow)).path == shallow.path
    with pytest.raises(ValueError, match="start of job deep must be a checkpoint or what is made of one, got weights"):
        replace(job, start=Start(Weights("ab"))).run(shallow.path.parents[1])

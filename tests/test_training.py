"""Device count changes nothing, each example counts once, plain and residual see the same batches."""

import dataclasses
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from classicnets.data import DataConfig, load
from classicnets.models import create
from classicnets.training import Recipe
from classicnets.training.step import Trainer

DIGITS = load(DataConfig("digits"))
MODEL = create("cifar_resnet", depth=8, width=0.25)


def trainer(devices, dataset=DIGITS, **recipe):
    return Trainer(MODEL, Recipe(**recipe), dataset, DataConfig("digits"), jax.local_devices()[:devices])


def test_the_split_is_fixed_and_disjoint():
    assert DIGITS.images.shape == (1797, 8, 8, 1)
    assert DIGITS.images.max() == 16
    assert [DIGITS.span(split) for split in ("train", "validation", "test")] == [(0, 1408), (1408, 129), (1537, 260)]
    assert np.bincount(DIGITS.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_1_2_and_4_devices_agree():
    runs = {}
    for devices in (1, 2, 4):
        t = trainer(devices)
        first = t.train(t.initial_state(5), 5, 1)
        loss = np.asarray(first.sums)[:, 0]
        third = t.train(first, 5, 2)
        for leaf in jax.tree.leaves(jax.device_get(third.batch_stats)):
            np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
        runs[devices] = loss[0], jax.tree.leaves(t.unreplicate(third).params)
    for devices in (2, 4):
        np.testing.assert_allclose(runs[devices][0], runs[1][0], rtol=1e-6)
        for a, b in zip(runs[devices][1], runs[1][1], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(("devices", "batch"), [(1, 128), (4, 128), (4, 1000)])
def test_evaluation_counts_each_example_once(devices, batch):
    whole = dataclasses.replace(DIGITS, sizes={"train": 1797})
    t = trainer(devices, whole, batch_size=batch)
    state = t.initial_state(0)
    one = t.unreplicate(state)
    images = (jnp.asarray(whole.images, jnp.float32) - t.mean) / t.std
    logits = MODEL.apply({"params": one.params, "batch_stats": one.batch_stats}, images, train=False)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(whole.labels)).mean()
    found = t.evaluate(state, "train")
    wrong = int((np.asarray(logits.argmax(-1)) != whole.labels).sum())
    assert found.error == 100 * wrong / 1797
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)


def test_a_batch_that_devices_do_not_divide_or_data_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="batch_size 130 is not divided by 4 devices"):
        trainer(4, batch_size=130)
    with pytest.raises(ValueError, match="batch_size 2000 is more than the 1408 training images"):
        trainer(4, batch_size=2000)


def test_steps_in_one_dispatch_equal_steps_one_by_one():
    t = trainer(2)
    together = t.train(t.initial_state(1), 1, 3)
    single = t.initial_state(1)
    for _ in range(3):
        single = t.train(single, 1, 1)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(single), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_readme_trains_a_users_own_module(tmp_path, monkeypatch, capsys):
    """The example as printed; its module has no batch norm and is told apart by its source."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    source = text.split("## Your own Flax module")[1].split("```python\n")[1].split("```")[0]
    script = tmp_path / "widths.py"
    script.write_text(source.replace("(16, 64, 256)", "(16,)"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("widths")
    width, error = capsys.readouterr().out.split()
    assert width == "16"
    assert 0 < float(error) < 50
    config = json.loads(next(tmp_path.glob("runs/widths/mlp16-*/config.json")).read_text())
    assert config["model"]["module"] == "widths:Mlp"
    assert len(config["model"]["source_sha256"]) == 64

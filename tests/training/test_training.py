"""Device count changes nothing, each example counts once, plain and residual see the same batches."""

import dataclasses
import importlib
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from classicnets.data import DataConfig, load
from classicnets.data.augmentation import pad_crop_flip
from classicnets.models import create
from classicnets.runs.identity import NUMERICS, describe
from classicnets.training import Config, Execution, Recipe, facts, train
from classicnets.training.programs import Trainer, trainer_for
from classicnets.training.session import _record
from classicnets.training.step import not_finite

pytestmark = pytest.mark.usefixtures("without_expensive_passes")

DIGITS = load(DataConfig("digits"))
MODEL = create("cifar_resnet", depth=8, width=0.25)


def trainer(devices, dataset=DIGITS, **recipe):
    return Trainer(MODEL, Recipe(**recipe), dataset, DataConfig("digits"), jax.local_devices()[:devices])


def test_one_value_that_is_not_finite_is_found_at_any_place():
    rng, shapes = np.random.default_rng(0), [(1,), (7,), (0,), (3, 3, 16, 17), (70_001,), (400, 400)]
    tensors = [jnp.asarray(rng.uniform(-3e38, 3e38, shape), jnp.float32) for shape in shapes]
    tensors += [tensors[4].astype(jnp.bfloat16), jnp.arange(5)]
    found = jax.jit(not_finite)
    assert not found(tensors).any()
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        for i in (0, 1, 3, 4, 5, 6):
            place = rng.integers(tensors[i].size)
            poisoned = tensors[i].reshape(-1).at[place].set(bad).reshape(tensors[i].shape)
            assert found([*tensors[:i], poisoned, *tensors[i + 1 :]]).nonzero()[0].tolist() == [i]


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
    images = (jnp.asarray(whole.images, jnp.float32) - t.problem.mean) / t.problem.std
    logits = MODEL.apply({"params": one.params, "batch_stats": one.batch_stats}, images, train=False)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(whole.labels)).mean()
    (found,) = t.evaluate(state, "train")
    wrong = int((np.asarray(logits.argmax(-1)) != whole.labels).sum())
    assert found.error == 100 * wrong / 1797
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)


def test_a_batch_that_devices_do_not_divide_or_data_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="batch_size 130 is not divided by 4 devices"):
        trainer(4, batch_size=130)
    with pytest.raises(ValueError, match="batch_size 2000 is more than the 1408 training images"):
        trainer(4, batch_size=2000)


def test_dropout_is_the_same_on_any_number_of_devices():
    """The masks hang on the example, so that one step of an AlexNet with dropout agrees to rounding."""
    net = create("alexnet", stem="small", head="pooled", width=1 / 16, num_classes=10, pooling="average")
    losses = {}
    for devices in (1, 4):
        t = Trainer(net, Recipe(), DIGITS, DataConfig("digits"), jax.local_devices()[:devices])
        losses[devices] = t.unreplicate(t.train(t.initial_state(0), 0, 1)).sums
    np.testing.assert_allclose(losses[4], losses[1], rtol=1e-5)
    still = Trainer(net.clone(dropout=0.0), Recipe(), DIGITS, DataConfig("digits"), jax.local_devices()[:1])
    without = still.unreplicate(still.train(still.initial_state(0), 0, 1)).sums
    assert abs(without[2] - losses[1][2]) > 1e-3 * losses[1][2]


def test_steps_in_one_dispatch_equal_steps_one_by_one():
    t = trainer(2)
    together = t.train(t.initial_state(1), 1, 3)
    single = t.initial_state(1)
    for _ in range(3):
        single = t.train(single, 1, 1)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(single), strict=True):
        np.testing.assert_array_equal(a, b)


def test_crops_shift_within_the_padding_and_flips_mirror_left_and_right():
    image = jnp.arange(1.0, 17.0).reshape(4, 4, 1)
    keys = jax.random.split(jax.random.key(0), 64)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    crops = [padded[i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    for flip, expected in ((False, crops), (True, [*crops, *(crop[:, ::-1] for crop in crops)])):
        found = pad_crop_flip(keys, jnp.broadcast_to(image, (64, 4, 4, 1)), 1, flip)
        assert {np.asarray(one).tobytes() for one in found} == {crop.tobytes() for crop in expected}


def test_the_log_means_over_an_epoch_and_batch_statistics_are_the_batchs():
    t = trainer(1, batch_size=704)
    state = t.initial_state(0)
    one_by_one = []
    for _ in range(4):
        before = np.zeros(3) if len(one_by_one) % 2 == 0 else np.asarray(t.unreplicate(state).sums)
        state = t.train(state, 0, 1)
        one_by_one.append(np.asarray(t.unreplicate(state).sums) - before)
    record = _record(t.recipe, t.steps_per_epoch, t.unreplicate(state).sums, 4, 2, 1.0)
    assert record["train_loss_running"] == pytest.approx(np.mean(one_by_one[2:], 0)[0], rel=1e-5)
    assert record["gradient_norm"] == pytest.approx(np.mean(one_by_one[2:], 0)[2], rel=1e-5)
    assert record["gradient_norm"] > 0.01
    assert record["learning_rate"] == pytest.approx(0.1 * (1 + np.cos(np.pi * 3 / 40)) / 2)
    assert t.evaluate(state, "test", "batch")[0].loss != t.evaluate(state, "test")[0].loss


class Dropped(nn.Module):
    """A foreign network with dropout and a function among its fields."""

    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, images, *, train: bool):
        x = self.activation(nn.Dense(16)(images.reshape(len(images), -1)))
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not train)(x))


def test_a_network_with_dropout_is_trained_to_its_end(tmp_path):
    config = Config(recipe=Recipe(epochs=1))
    run = train(Dropped(nn.relu), config, runs=tmp_path, experiment="dropout", name="net")
    assert run.status["state"] == "complete"


def test_whole_numbers_in_float_fields_are_the_same_recipe_and_wrong_types_are_refused():
    assert Recipe(learning_rate=1) == Recipe(learning_rate=1.0)
    assert isinstance(Recipe(learning_rate=1).learning_rate, float)
    for recipe, sentence in (
        (Recipe(epochs=2.5), "epochs must be an integer, got 2.5"),  # pyright: ignore[reportArgumentType]
        (Recipe(nesterov="no"), "nesterov must be True or False, got 'no'"),  # pyright: ignore[reportArgumentType]
        (Recipe(clip_norm=float("inf")), "clip_norm must be finite, got inf"),
    ):
        with pytest.raises(ValueError, match=sentence):
            recipe.check()


class Watched(nn.Module):
    """A network that also keeps what it sees: the sum of every image of the last batch."""

    net: nn.Module

    @nn.compact
    def __call__(self, images, *, train: bool):
        seen = self.variable("batch_stats", "seen", jnp.zeros, (128,))
        if train:
            seen.value = images.sum((1, 2, 3))
        return self.net(images, train=train)


def test_plain_and_residual_see_the_same_batches_in_the_same_order():
    seen = {}
    for shortcut in ("none", "A"):
        net = create("cifar_resnet", depth=8, width=0.25, shortcut=shortcut)
        t = Trainer(Watched(net), Recipe(), DIGITS, DataConfig("digits"), jax.local_devices()[:1])
        state, seen[shortcut] = t.initial_state(7), []
        for _ in range(12):  # into the second epoch
            state = t.train(state, 7, 1)
            seen[shortcut].append(np.asarray(t.unreplicate(state).batch_stats["seen"]))
    np.testing.assert_array_equal(seen["none"], seen["A"])
    assert len({batch.tobytes() for batch in seen["A"]}) == 12


def test_per_replica_batch_norm_is_another_run_on_each_number_of_devices():
    config = Config(recipe=Recipe(batch_norm="per_replica"))
    assert [facts(MODEL, config, Execution(devices=n))["devices"] for n in (1, 4)] == [1, 4]
    assert "devices" not in facts(MODEL, Config(), Execution(devices=4))
    losses = {}
    for kind in ("per_replica", "synchronised"):
        t = trainer(4, batch_norm=kind)
        state = t.train(t.initial_state(5), 5, 2)
        losses[kind] = np.asarray(state.sums)[0, 0]
        for leaf in jax.tree.leaves(jax.device_get(state.batch_stats)):
            np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    assert abs(losses["per_replica"] - losses["synchronised"]) > 1e-3


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    model = create("cifar_resnet", depth=8, width=0.25, dtype="bfloat16")
    t = Trainer(model, Recipe(), DIGITS, DataConfig("digits"), jax.local_devices()[:1])
    state = t.unreplicate(t.train(t.initial_state(0), 0, 2))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    wide = trainer(1)
    expected = wide.unreplicate(wide.train(wide.initial_state(0), 0, 2)).sums[0]
    assert 1e-6 < abs(state.sums[0] - expected) / expected < 0.02
    assert describe(model)["dtype"] == "bfloat16"


def test_pixel_means_are_of_the_training_images():
    t = Trainer(MODEL, Recipe(), DIGITS, DataConfig("digits", normalise="pixel"), jax.local_devices()[:1])
    train = DIGITS.images[:1408].astype(np.float64)
    np.testing.assert_allclose(t.problem.mean, train.mean(0, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(t.problem.std, train.std(), rtol=1e-6)
    np.testing.assert_allclose(trainer(1).problem.mean, train.mean(), rtol=1e-6)


# Losses of the first steps under each NUMERICS: a change of what is computed shows here, and then NUMERICS is raised.
# 4 sums in another order than 3, which these digits do not show.
GOLDEN = {
    2: [2.472609, 2.503778, 2.369136, 2.314189],
    3: [2.492639, 2.392298, 2.340388, 2.305981],
    4: [2.492639, 2.392298, 2.340388, 2.305981],
}


def test_a_change_of_the_numbers_raises_numerics():
    t = trainer(1)
    state, sums = t.initial_state(0), [0.0]
    for _ in range(4):
        state = t.train(state, 0, 1)
        sums.append(float(t.unreplicate(state).sums[0]))
    np.testing.assert_allclose(np.diff(sums), GOLDEN[NUMERICS], rtol=1e-4)


def test_the_readme_trains_a_users_own_module(tmp_path, monkeypatch, capsys):
    """The example as printed; its module has no batch norm and is told apart by its source."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
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
    assert len(config["model"]["program_sha256"]) == 64


def test_images_are_resized_inside_the_step_and_otherwise_untouched():
    """A network for larger images trains on small ones; the images are jax.image.resize's of the normalised ones."""
    model, recipe = create("cifar_resnet", depth=8, width=0.25, num_classes=10), Recipe(epochs=1)
    plain, large = (trainer_for(model, recipe, DataConfig(image_size=size), 1) for size in (None, 20))
    images = jnp.asarray(plain.dataset.images[:3])
    assert plain.prepared(images).shape == (3, 8, 8, 1)
    expected = jax.image.resize(plain.prepared(images), (3, 20, 20, 1), "bilinear")
    np.testing.assert_array_equal(large.prepared(images), expected)
    trained = [t.unreplicate(t.train(t.initial_state(0), 0, 1)) for t in (plain, large)]
    gaps = jax.tree.map(lambda a, b: float(abs(a - b).max()), *(state.params for state in trained))
    assert max(jax.tree.leaves(gaps)) > 1e-4
    with pytest.raises(ValueError, match=r"image_size must be in \[1, 4096\], got 0"):
        Config(DataConfig(image_size=0)).check()

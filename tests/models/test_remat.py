"""Rematerialisation changes memory alone."""

import jax
import numpy as np
import pytest
from helpers.commands import answer

from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.training import Config, facts

IMAGES = jax.random.normal(jax.random.key(0), (64, 16, 16, 1))


def net(**fields):
    return create("cifar_resnet", depth=20, width=0.25, shortcut="B", **fields)


@pytest.fixture(scope="module")
def variables():
    return net().init(jax.random.key(0), IMAGES[:1], train=False)


def gradients(variables, remat):
    """The compiled program, and (loss, statistics), gradients of it."""

    def loss(params):
        logits, state = net(remat=remat).apply(
            {**variables, "params": params}, IMAGES, train=True, mutable="batch_stats"
        )
        return (logits**2).mean(), state

    program = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(variables["params"]).compile()
    return program, program(variables["params"])


@pytest.fixture(scope="module")
def kept(variables):
    return gradients(variables, ())


@pytest.mark.parametrize("remat", [("block*",), ("block*/unit*",)])
def test_what_is_computed_again_is_equal_and_takes_less_memory(remat, variables, kept):
    program, outputs = gradients(variables, remat)
    if remat == ("block*/unit*",):  # whole stages gain little on a CPU
        assert program.memory_analysis().temp_size_in_bytes < 0.7 * kept[0].memory_analysis().temp_size_in_bytes
    assert jax.tree.structure(outputs) == jax.tree.structure(kept[1])
    for again, once in zip(jax.tree.leaves(outputs), jax.tree.leaves(kept[1]), strict=True):
        assert again == pytest.approx(np.asarray(once), rel=1e-4, abs=1e-6)


def recomputed(remat, train=True):
    """How often the trace of a gradient says that it computes something again."""
    model = net(remat=remat)

    def loss(variables):
        return model.apply(variables, IMAGES, train=train, mutable="batch_stats")[0].sum()

    return str(jax.make_jaxpr(jax.grad(loss))(model.init(jax.random.key(0), IMAGES[:1], train=False))).count("remat")


def test_only_training_and_only_named_layers_are_computed_again():
    assert recomputed(()) == recomputed(("block1",), train=False) == 0
    assert 0 < recomputed(("block1",)) < recomputed(("block1", "block3"))
    # The wildcard fits every layer in them too.
    assert recomputed(("block*",)) == recomputed(("block1", "block2", "block3"))


def test_dropout_is_drawn_as_without():
    """In the layers that are computed again, and alike both times."""
    fields = {"depth": 16, "width": 0.25, "dropout": 0.5}
    variables = create("cifar_wide_resnet", **fields).init(jax.random.key(0), IMAGES[:1], train=False)

    def gradient(remat):
        def loss(params):
            logits, _ = create("cifar_wide_resnet", **fields, remat=remat).apply(
                {**variables, "params": params},
                IMAGES,
                train=True,
                mutable="batch_stats",
                rngs={"dropout": jax.random.key(1)},
            )
            return (logits**2).mean()

        return jax.jit(jax.grad(loss))(variables["params"])

    for again, once in zip(*map(jax.tree.leaves, (gradient(("block*/unit*",)), gradient(()))), strict=True):
        assert again == pytest.approx(np.asarray(once), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_a_pattern_that_fits_no_layer_is_refused_by_name(variables, train):
    sentence = "remat names 'blok1', which the network does not have; the nearest is 'block1'"
    with pytest.raises(ValueError, match=sentence):
        net(remat=("blok1",)).apply(variables, IMAGES, train=train, mutable="batch_stats")


def test_it_is_refused_before_anything_is_written(tmp_path, capsys):
    options = ("--depth", "8", "--dataset", "digits", "--remat", "blok1", "--runs", str(tmp_path))
    code, out, err = answer(capsys, "train", "cifar_resnet", *options)
    assert (code, out) == (2, "")
    assert err == "classicnets: remat names 'blok1', which the network does not have; the nearest is 'block1'\n"
    assert not list(tmp_path.iterdir())


def test_it_is_no_part_of_what_names_a_run():
    config = Config(DataConfig("digits", augment=False))
    assert facts(net(remat=("block1",)), config) == facts(net(), config)
    assert net(remat=("block1",)).execution()["remat"] == ["block1"]
    assert "remat" not in net().execution()

"""Sums are made in float32, whatever the network computes in."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from classicnets.data import DataConfig, load
from classicnets.models import create
from classicnets.models.layers import AdaptiveAvgPool, AvgPool, GlobalAvgPool, SlidingAvgPool
from classicnets.models.norm import LocalResponseNorm
from classicnets.training import Recipe
from classicnets.training.feed import DeviceFeed, Resident
from classicnets.training.programs import Trainer
from classicnets.training.step import cross_entropy

POOLS = {
    "window": AvgPool(7, 1),
    "padded": AvgPool(7, 1, padding=0, count_padding=False),
    "sliding": SlidingAvgPool(7),
    "global": GlobalAvgPool(),
    "adaptive": AdaptiveAvgPool(1),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_means_of_bfloat16_maps_are_of_their_values(pool):
    images = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (4, 7, 7, 8)), jnp.bfloat16)
    mean = np.asarray(images, np.float64).mean((1, 2))
    pooled = pool.apply({}, images)
    assert pooled.dtype == jnp.bfloat16
    # To the last of bfloat16's 8 digits; a sum in bfloat16 is off by 2 %.
    np.testing.assert_allclose(np.asarray(pooled, np.float64).reshape(4, 8), mean, rtol=2**-8)


def test_the_mean_of_integers_is_no_integer():
    images = jnp.asarray([1, 2, 2, 2], jnp.uint8).reshape(1, 2, 2, 1)
    assert AvgPool(2, 2).apply({}, images) == SlidingAvgPool(2).apply({}, images) == 1.75


def test_response_norm_of_a_bfloat16_map_sums_in_float32():
    images = jnp.asarray(np.random.default_rng(0).uniform(50, 99, (2, 3, 3, 8)), jnp.bfloat16)
    exact = LocalResponseNorm(alpha=0.01).apply({}, images.astype(jnp.float32))
    response = LocalResponseNorm(alpha=0.01).apply({}, images)
    assert response.dtype == jnp.bfloat16
    np.testing.assert_array_equal(response, exact.astype(jnp.bfloat16))


def test_the_loss_of_bfloat16_logits_is_float32s():
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 4, (64, 10)), jnp.bfloat16)
    labels = logits.argmax(-1)  # small losses, which bfloat16 rounds to a few values
    exact = np.asarray(logits, np.float64)
    losses = np.log(np.exp(exact).sum(-1)) - exact.max(-1)
    for smoothing in (0.0, 0.1):
        computed = cross_entropy(logits, labels, smoothing)
        assert (computed.dtype, computed.shape) == (jnp.float32, (64,))
    np.testing.assert_allclose(cross_entropy(logits, labels), losses, rtol=1e-4, atol=1e-7)


def test_an_evaluation_in_bfloat16_sums_what_float32_would():
    model, data = create("cifar_resnet", depth=8, width=0.25, num_classes=10, dtype="bfloat16"), DataConfig()
    dataset = load(data)
    trainer = Trainer(model, Recipe(epochs=1), dataset, data, jax.devices()[:1])
    state = trainer.initial_state(0)
    head = jax.tree.map(lambda leaf: leaf * 8, state.params["logits"])
    state = replace(state, params={**state.params, "logits": head})
    start, size = dataset.span("test")
    variables = {"params": trainer.unreplicate(state.params), "batch_stats": trainer.unreplicate(state.batch_stats)}
    apply = jax.jit(lambda images: model.apply(variables, trainer.prepared(images), train=False))
    logits = np.asarray(apply(jnp.asarray(dataset.images)), np.float64)
    # A network that is always right, whose losses are small: bfloat16 makes most of them zero.
    labels = logits.argmax(-1).astype(np.int32)
    trainer.feed = DeviceFeed(trainer.replicate(Resident(dataset.images, labels)))
    losses = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1))[start : start + size]
    assert 0 < losses.mean() < 0.5
    assert trainer.evaluate(state, "test")[0].loss == pytest.approx(losses.mean(), rel=0.02)

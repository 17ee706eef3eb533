"""Every network by name: one training step, jit against none, bfloat16 against float32, scanned against unrolled."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from classicnets.models import MODELS, create, input_size

# Sizes at which each kind of layer still has several positions; what is not here takes the paper's own.
SIZES = {"vgg": 64, "inception_v1": 96, "inception_v2": 96, "inception_v3": 139, "resnet": 64, "plain": 64, "wide": 64}

# Biases whose gradient is zero but for rounding: every way from them to the loss passes a batch norm, which takes
# constants away again. In tf-slim's v2 that holds of what is added to the path of the identities.
CANCELLED = {
    **{f"vgg{depth}_bn": r"conv\d_\d/conv/bias" for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}_v2_slim": r"(conv1|.*/(conv3|shortcut))/bias" for depth in (50, 101, 152, 200)},
}


def size_of(name):
    return next((size for family, size in SIZES.items() if name.startswith(family)), input_size(name))


def images_of(size, n):
    return jnp.asarray(np.random.default_rng(1).normal(size=(n, size, size, 3)), jnp.float32)


def loss_of(model, variables, images, params):
    """Cross-entropy, with 0.3 times that of each auxiliary head; of features, their mean square."""
    variables = {**variables, "params": params}
    rngs = {"dropout": jax.random.key(1)}
    outputs, _ = model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)
    if model.num_classes is None:
        return (outputs**2).mean()
    labels = jnp.arange(len(images)) % model.num_classes
    logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
    losses = [optax.softmax_cross_entropy_with_integer_labels(x, labels).mean() for x in (logits, *auxiliary)]
    return losses[0] + 0.3 * sum(losses[1:])


def distance(a, b):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_each_name(name):
    model, size = create(name), size_of(name)
    variables = model.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False)
    gradients = jax.jit(jax.grad(partial(loss_of, model, variables, images_of(size, 8))))(variables["params"])
    for keys, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        path = "/".join(key.key for key in keys)
        assert np.isfinite(gradient).all(), path
        if not re.fullmatch(CANCELLED.get(name, "none"), path):
            each = gradient if re.search(r"/(units_\d+_\d+|stage\d)/", f"/{path}") else gradient[None]
            assert all(np.any(one) for one in each), path

    images = images_of(size, 2)

    def evaluated(**options):
        return jax.jit(lambda v, x: model.clone(**options).apply(v, x, train=False))(variables, images)

    logits = evaluated()
    assert distance(model.apply(variables, images, train=False), logits) < 1e-4
    assert distance(evaluated(dtype=jnp.bfloat16), logits) < 0.02
    if hasattr(model, "unroll"):
        assert distance(evaluated(unroll=True), logits) < 1e-4

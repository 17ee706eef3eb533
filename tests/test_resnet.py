"""Section 4.2's networks: exact counts, pairing, batch norm, scanned equals unrolled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from classicnets.models import create
from classicnets.models.layers import BatchNorm

# reference: parameters of the nets of Table 6, counted by independent implementations
COUNTS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}


def parameters(model, shape=(1, 32, 32, 3)):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("depth", COUNTS)
def test_parameter_counts(depth):
    assert parameters(create("cifar_resnet", depth=depth, shortcut="none")) == COUNTS[depth]
    assert parameters(create("cifar_resnet", depth=depth, shortcut="A")) == COUNTS[depth]
    assert parameters(create("cifar_resnet", depth=depth, shortcut="B")) == COUNTS[depth] + 2_752


def test_plain_and_option_a_start_bit_identical():
    images = jnp.zeros((2, 8, 8, 1))
    plain, residual = (
        jax.jit(lambda key, s=s: create("cifar_resnet", depth=20, shortcut=s).init(key, images, train=False))(
            jax.random.key(3)
        )
        for s in ("none", "A")
    )
    assert jax.tree.structure(plain) == jax.tree.structure(residual)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(residual), strict=True):
        np.testing.assert_array_equal(a, b)
    kernel = plain["params"]["stage2"]["conv1"]["kernel"]
    assert abs(float(kernel.std()) - (2 / (9 * 32)) ** 0.5) < 0.002
    assert not np.array_equal(kernel[0], kernel[1])


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
def test_unrolled_equals_scanned(shortcut):
    images = jax.random.normal(jax.random.key(1), (4, 9, 9, 3))
    scanned = create("cifar_resnet", depth=20, width=0.25, shortcut=shortcut)
    variables = jax.jit(lambda: scanned.init(jax.random.key(0), images, train=False))()
    outputs = [
        jax.jit(lambda v, m=m: m.apply(v, images, train=True, mutable=["batch_stats"]))(variables)
        for m in (scanned, scanned.clone(unroll=True))
    ]
    for a, b in zip(*(jax.tree.leaves(o) for o in outputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_batch_norm_equals_flax_forward_and_backward():
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (6, 3, 3, 5), jnp.float64) * 3 + 1
        ours, theirs = BatchNorm(use_running_average=False), nn.BatchNorm(use_running_average=False, momentum=0.9)
        variables = theirs.init(jax.random.key(1), x)
        variables = jax.tree.map(lambda a: a.astype(jnp.float64), variables)
        params = jax.tree.map(lambda a: a + jnp.linspace(0.1, 1, 5), variables["params"])

        def run(norm):
            def loss(params, x):
                y, new = norm.apply({**variables, "params": params}, x, mutable=["batch_stats"])
                return jnp.sin(y).sum(), new

            return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

        for a, b in zip(jax.tree.leaves(run(ours)), jax.tree.leaves(run(theirs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 21}, "depth must be 6n\\+2 with n >= 1, got 21; the nearest is 20"),
        ({"shortcut": "D"}, "shortcut must be one of none, A, B, C, got 'D'"),
        ({"widht": 2.0}, "no field 'widht'; the nearest is 'width'"),
        ({"width": 0.0}, "width .* got 0.0"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        create("cifar_resnet", **fields)

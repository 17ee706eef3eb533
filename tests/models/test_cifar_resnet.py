"""Section 4.2's networks: exact counts, pairing, batch norm, scanned equals unrolled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from classicnets.models import create
from classicnets.models.norm import BatchNorm


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
    kernel = plain["params"]["block2"]["units_2_3"]["conv1"]["kernel"]
    assert abs(float(kernel.std()) - (2 / (9 * 32)) ** 0.5) < 0.002
    assert not np.array_equal(kernel[0], kernel[1])


@pytest.mark.parametrize("unroll, factors", [(False, ["1", "1", "1"]), (True, ["3", "2", "2"])])
def test_unrolling_is_of_a_whole_scan(unroll, factors):
    net, images = create("cifar_resnet", depth=20, width=0.25, unroll=unroll), jnp.zeros((1, 8, 8, 1))
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))
    program = jax.make_jaxpr(lambda variables: net.apply(variables, images, train=False))(variables)
    assert re.findall(r"unroll=(\d+)", str(program)) == factors


def test_options_of_the_cifar_networks():
    images = jax.random.normal(jax.random.key(1), (4, 9, 9, 3))
    net = create("cifar_resnet", depth=14, width=0.25)
    variables = net.init(jax.random.key(0), images, train=False)

    def run(train=False, **fields):
        rngs = {"dropout": jax.random.key(2)}
        return net.clone(**fields).apply(variables, images, train=train, rngs=rngs, mutable=["batch_stats"])[0]

    assert float(jnp.abs(run(activation="tanh") - run()).max()) > 1e-3
    np.testing.assert_array_equal(run(dropout=0.5), run())
    assert float(jnp.abs(run(train=True, dropout=0.5) - run(train=True)).max()) > 1e-3
    bare = create("cifar_resnet", depth=14, width=0.25, norm=None).init(jax.random.key(0), images, train=False)
    assert set(bare) == {"params"}
    assert set(bare["params"]["conv1"]) == {"kernel", "bias"}
    zero = create("cifar_resnet", depth=14, width=0.25, zero_init=True).init(jax.random.key(0), images, train=False)
    assert not zero["params"]["block1"]["units_1_2"]["norm2"]["scale"].any()
    assert zero["params"]["block1"]["units_1_2"]["norm1"]["scale"].all()


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
        ({"shortcut": "D"}, "shortcut must be one of none, A, B, C, pool, got 'D'"),
        ({"widht": 2.0}, "no field 'widht'; the nearest is 'width'"),
        ({"zero_init": True, "norm": None}, "zero_init must be False without norm"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        create("cifar_resnet", **fields)

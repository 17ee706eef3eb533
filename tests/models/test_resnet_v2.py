"""Pre-activation networks and wide ones: exact counts, the first units, dropout, training, bad fields."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.networks import count, drawn, images_of, traced

from classicnets.models.resnet_v2 import CifarResNetV2, CifarWideResNet

SMALL = {
    "basic": partial(CifarResNetV2, depth=14, width=0.25),
    "bottleneck": partial(CifarResNetV2, depth=20, block="bottleneck", width=0.125),
    "wide": partial(CifarWideResNet, depth=16, widen=2, width=0.125),
}


def test_shapes_and_names():
    _, logits, endpoints = traced(CifarWideResNet(depth=16, widen=4), 32)
    assert logits.shape == (1, 10)
    expected = {"conv1": (32, 32, 16), "global_pool": (256,), "logits": (10,)}
    for i, (size, channels) in enumerate([(32, 64), (16, 128), (8, 256)], 1):
        expected |= {f"block{i}/unit_1/shortcut": (size, size, channels), f"block{i}/unit_2": (size, size, channels)}
        expected[f"block{i}"] = (size, size, channels)
    assert {name: endpoints[name] for name in expected} == expected
    assert traced(CifarResNetV2(depth=20, num_classes=None), 32)[1].shape == (1, 64)
    assert traced(CifarResNetV2(depth=20), 1)[1].shape == (1, 10)


def test_shortcuts():
    def size(**fields):
        return count(traced(CifarResNetV2(depth=20, **fields), 32)[0]["params"])

    assert size() - size(shortcut="A") == size() - size(shortcut="none") == 16 * 32 + 32 * 64
    assert size(shortcut="pool") == size()
    assert size(shortcut="C") - size() == 3 * 16 * 16 + 2 * 32 * 32 + 2 * 64 * 64


def test_what_the_shortcut_reads():
    """A unit with f at zero gives x where its shortcut is the identity and W relu(BN(x)) where it projects."""
    net = SMALL["wide"](zero_init=True, num_classes=None)
    images = images_of(2, 6)
    variables = net.init(jax.random.key(0), images, train=False)
    _, state = net.apply(variables, images, train=False, capture_intermediates=True, mutable=["intermediates"])
    seen = state["intermediates"]

    def output(module):
        return module["__call__"][0]

    kernel = variables["params"]["block1"]["unit_1"]["shortcut"]["kernel"][0, 0]
    first = output(seen["block1"]["unit_1"])
    rectified = jnp.maximum(output(seen["block1"]["unit_1"]["preact"]), 0)
    np.testing.assert_allclose(first, rectified @ kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(output(seen["block1"]), first)


def test_dropout_is_between_the_convolutions():
    images = images_of(4, 6)
    for net in (SMALL["bottleneck"](dropout=0.5), SMALL["wide"](depth=22, dropout=0.5)):
        variables = drawn(net, 6)
        run = partial(
            net.apply,
            variables,
            images,
            train=True,
            capture_intermediates=True,
            mutable=["batch_stats", "intermediates"],
        )
        (first, state), (second, _) = (run(rngs={"dropout": jax.random.key(i)}) for i in (0, 1))
        assert np.abs(first - second).max() > 1e-3
        np.testing.assert_array_equal(
            net.apply(variables, images, train=False), net.clone(dropout=0.0).apply(variables, images, train=False)
        )
    dropped = state["intermediates"]["block2"]["units_2_3"]["dropout"]["__call__"][0]
    assert np.mean(dropped[0] == 0) > 0.6  # half by the ReLU, half of the rest
    # Each unit of a stack has its own noise: the zeros of two agree no more than chance has it.
    assert np.mean((dropped[0] == 0) == (dropped[1] == 0)) < 0.75


@pytest.mark.parametrize(
    ("network", "fields", "message"),
    [
        (CifarResNetV2, {"depth": 111}, r"depth must be 6n\+2 with n >= 1, got 111; the nearest is 110"),
        (CifarResNetV2, {"depth": 2}, r"depth must be 6n\+2 with n >= 1, got 2; the nearest is 8"),
        (
            CifarResNetV2,
            {"depth": 1000, "block": "bottleneck"},
            r"depth must be 9n\+2 .* got 1000; the nearest is 1001",
        ),
        (CifarResNetV2, {"block": "wide"}, "block must be one of basic, bottleneck, got 'wide'"),
        (CifarResNetV2, {"shortcut": "D"}, "shortcut must be one of none, A, B, C, pool, got 'D'"),
        (CifarWideResNet, {"depth": 26}, r"depth must be 6n\+4 with n >= 1, got 26; the nearest is 28"),
        (CifarWideResNet, {"widen": 0}, "widen must be at least 1, got 0"),
    ],
)
def test_bad_fields_are_named(network, fields, message):
    with pytest.raises(ValueError, match=message):
        network(**fields).check()

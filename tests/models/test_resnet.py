"""Table 1's networks: exact counts, slim's endpoints and values, one-argument differences, options, training."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers.networks import count, drawn, images_of, outputs, traced

from classicnets.models import ENTRIES, create
from classicnets.models.residual import Bottleneck, PreactBottleneck, Stage, subsample
from classicnets.models.resnet import ResNet

# slim's unit tests: resnet_v1_small
SMALL = {"units": (3, 3, 3, 2), "features": (1, 2, 4, 8), "num_classes": 10}
# A network that compiles in a second: two stages, with a stack in each.
TINY = partial(ResNet, units=(2, 3), features=(2, 4), stem="small", num_classes=5)
FORMS = {
    "basic": {"block": "basic", "features": (8, 16)},
    "bottleneck": {},
    "stride in 3x3": {"stride_in": "3x3"},
    "slim": {"stride_in": "last"},
    "pool": {"shortcut": "pool"},
    "basic v2": {"block": "basic", "features": (8, 16), "preactivation": True},
    "bottleneck v2": {"preactivation": True, "stride_in": "3x3"},
    "slim v2": {"preactivation": True, "stride_in": "last", "biases": "unnormed"},
}


def test_option_a_has_no_projections():
    variables, _, _ = traced(create("resnet50", shortcut="A"), 64)
    # without four projections (64 to 256, 256 to 512, ...) and their norms
    assert count(variables["params"]) == 25_557_032 - 2_768_896 - 7_680


def slim_endpoints(root: bool, blocks) -> dict:
    """{name: shape} of a bottleneck network: blocks of (units, size, size after the last unit, channels)."""
    table = {"conv1": (blocks[0][1] * 2, blocks[0][1] * 2, 64)} if root else {}
    for b, (units, size, after, c) in enumerate(blocks, 1):
        for u in range(1, units + 1):
            unit, out = f"block{b}/unit_{u}", after if u == units else size
            table |= {f"{unit}/conv1": (size, size, c), f"{unit}/conv2": (out, out, c)}
            table |= {f"{unit}/conv3": (out, out, 4 * c), unit: (out, out, 4 * c)}
        table |= {f"block{b}/unit_1/shortcut": (size, size, 4 * c), f"block{b}": (after, after, 4 * c)}
    return table


def assert_slim_endpoints(network):
    # slim's tests: 224, half of it, fully convolutional, rootless, atrous
    for size, fields, blocks in [
        (224, {}, [(3, 56, 28, 1), (3, 28, 14, 2), (3, 14, 7, 4), (2, 7, 7, 8)]),
        (112, {}, [(3, 28, 14, 1), (3, 14, 7, 2), (3, 7, 4, 4), (2, 4, 4, 8)]),
        (321, {"global_pool": False}, [(3, 81, 41, 1), (3, 41, 21, 2), (3, 21, 11, 4), (2, 11, 11, 8)]),
        (128, {"stem": "none"}, [(3, 128, 64, 1), (3, 64, 32, 2), (3, 32, 16, 4), (2, 16, 16, 8)]),
        (
            321,
            {"output_stride": 8, "global_pool": False},
            [(3, 81, 41, 1), (3, 41, 41, 2), (3, 41, 41, 4), (2, 41, 41, 8)],
        ),
    ]:
        variables, logits, endpoints = traced(network(**SMALL, **fields), size)
        table = slim_endpoints("stem" not in fields, blocks)
        if size == 321:
            table["conv1"] = (161, 161, 64)
        assert {name: endpoints[name] for name in table} == table
        assert {name for name in endpoints if re.search("conv|shortcut$|unit_.$|block.$", name)} - {
            name for name in endpoints if "norm" in name
        } == set(table)
        last = blocks[-1][2]
        assert logits.shape == ((1, last, last, 10) if "global_pool" in fields else (1, 10))
        assert endpoints["logits"] == logits.shape[1:]
        assert endpoints.get("global_pool", (32,)) == (32,)
        assert ("pool1" in endpoints) == ("stem" not in fields)
    return variables


def test_slim_endpoints_v1():
    variables = assert_slim_endpoints(partial(create, "resnet50_v1_slim"))
    assert (count(variables["params"]), count(variables["batch_stats"])) == (14_497, 692)  # slim, derived


def test_slim_endpoints_v2():
    variables = assert_slim_endpoints(partial(create, "resnet50_v2_slim"))
    assert (count(variables["params"]), count(variables["batch_stats"])) == (14_649, 572)  # slim, derived


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("resnet50", (3, 4, 6, 3)),
        ("resnet101", (3, 4, 23, 3)),
        ("resnet152", (3, 8, 36, 3)),
        ("resnet200", (3, 24, 36, 3)),
    ],
)
@pytest.mark.parametrize("form", ["v1_slim", "v2_slim"])
def test_slim_block_tables(name, units, form):
    network = partial(create, f"{name}_{form}")
    _, _, endpoints = traced(network(), 224)
    assert [endpoints[f"block{i}"] for i in range(1, 5)] == [
        (28, 28, 256),
        (14, 14, 512),
        (7, 7, 1024),
        (7, 7, 2048),
    ]
    assert endpoints["conv1"] == (112, 112, 64)
    assert {f"block{b}/unit_{n}" for b, n in enumerate(units, 1)} <= set(endpoints)
    sizes = {8: (41, 41, 41, 41), 16: (41, 21, 21, 21), 32: (41, 21, 11, 11), None: (41, 21, 11, 11)}
    for output_stride in sizes:
        net = network(output_stride=output_stride, global_pool=False, num_classes=21)
        _, logits, endpoints = traced(net, 321)
        found = [endpoints[f"block{i}"] for i in range(1, 5)]
        assert found == [(s, s, 256 * 2**i) for i, s in enumerate(sizes[output_stride])]
        assert logits.shape == (1, found[3][0], found[3][0], 21)


@pytest.mark.parametrize(("output_stride", "size"), [(None, 3), (8, 9)])
@pytest.mark.parametrize("form", ["resnet50_v1_slim", "resnet50_v2_slim"])
def test_features_at_each_position(form, output_stride, size):
    net = create(form, **SMALL | {"num_classes": None}, output_stride=output_stride, global_pool=False)
    assert traced(net, 65)[1].shape == (1, size, size, 32)  # slim, asserted


def test_conv2d_same_and_subsample_as_slim_asserts_them():
    np.testing.assert_array_equal(subsample(jnp.arange(9).reshape(1, 3, 3, 1), 2).squeeze(), [[0, 2], [6, 8]])
    np.testing.assert_array_equal(subsample(jnp.arange(16).reshape(1, 4, 4, 1), 2).squeeze(), [[0, 2], [8, 10]])

    def grid(n):
        return (jnp.arange(n)[:, None] + jnp.arange(n)[None, :]).reshape(n, n, 1).astype(jnp.float32)

    kernel = {"params": {"kernel": grid(3)[..., None]}}

    def same(n, strides, padding):
        return nn.Conv(1, (3, 3), strides, padding=padding, use_bias=False).apply(kernel, grid(n)[None])

    even = [[14, 28, 43, 26], [28, 48, 66, 37], [43, 66, 84, 46], [26, 37, 46, 22]]
    np.testing.assert_array_equal(same(4, 1, 1).squeeze(), even)
    np.testing.assert_array_equal(same(4, 2, 1).squeeze(), [[14, 43], [43, 84]])
    np.testing.assert_array_equal(same(4, 2, "SAME").squeeze(), [[48, 37], [37, 22]])
    odd = [[14, 43, 34], [43, 84, 55], [34, 55, 30]]
    for padding in (1, "SAME"):
        np.testing.assert_array_equal(same(5, 2, padding).squeeze(), odd)
    np.testing.assert_array_equal(subsample(same(5, 1, 1), 2).squeeze(), odd)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "pool"])  # whose strides do not subsample
def test_dilation_in_the_place_of_strides_gives_the_same_values_between(form):
    """subsample(dense) == strided (slim's atrous test), in every form, on an odd map with an even one within."""
    net = partial(ResNet, units=(2, 2, 3), stem="none", num_classes=None, global_pool=False, **FORMS[form])
    net = partial(net, features=(4, 6, 8))
    images = images_of(2, 21)
    variables = drawn(net(), images.shape[1])
    sparse = jax.jit(lambda v, x: net().apply(v, x, train=False))(variables, images)
    assert sparse.shape[1] == 6
    for output_stride, factor in ((1, 4), (2, 2), (4, 1)):
        dense = jax.jit(lambda v, x, s=output_stride: net(output_stride=s).apply(v, x, train=False))(variables, images)
        np.testing.assert_allclose(subsample(dense, factor), sparse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unit", [Bottleneck, PreactBottleneck])
def test_stride_in_the_last_unit_is_a_subsampled_stage(unit):
    conv, norm = partial(nn.Conv, use_bias=False), partial(nn.BatchNorm, use_running_average=True)
    unit = partial(unit, conv=conv, norm=norm, inner=2, stride_in="3x3")
    dense, strided = (Stage(unit, 8, 3, strides, "B", strided=True, last=True) for strides in (1, 2))
    images = images_of(2, 9)
    variables = strided.init(jax.random.key(0), images)
    np.testing.assert_allclose(
        subsample(dense.apply(variables, images), 2), strided.apply(variables, images), rtol=1e-5, atol=1e-5
    )


def different(a, b) -> set:
    return {f.name for f in dataclasses.fields(a) if getattr(a, f.name) != getattr(b, f.name)}


def test_one_argument_differences():
    nets = {name: create(name) for name, entry in ENTRIES.items() if entry.network is ResNet}
    assert different(nets["plain34"], nets["resnet34"]) == {"shortcut"}
    assert different(nets["resnet50"], nets["resnet50_v1_5"]) == {"stride_in"}
    assert different(nets["resnet50_v1_5"], nets["resnet50_v2"]) == {"preactivation"}
    assert different(nets["resnet50_v1_5"], nets["wide_resnet50_2"]) == {"widen"}
    assert different(nets["resnet50"], nets["resnet50_v1_slim"]) == {"stride_in", "pool_padding"}
    trees = [traced(nets[name], 64)[0]["params"] for name in ("resnet50", "resnet50_v1_5")]
    assert jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])


def test_options():
    def size(**fields):
        return count(traced(TINY(**fields), 8)[0]["params"])

    def shape(**fields):
        return traced(TINY(**fields), 8)[1].shape

    projections = 64 * 8 + 2 * 8, 8 * 16 + 2 * 16
    assert size() - size(shortcut="A") == size() - size(shortcut="none") == sum(projections)
    assert size(shortcut="pool") == size()
    assert size(shortcut="C") - size() == (8 * 8 + 2 * 8) + 2 * (16 * 16 + 2 * 16)
    assert "batch_stats" not in traced(TINY(norm=None), 8)[0]
    channels = 64 + 2 * (2 + 2 + 8) + 3 * (4 + 4 + 16) + 8 + 16  # a bias for each, as many as norms have scales
    assert len(jax.tree.leaves(traced(TINY(norm=None, units=(1, 1)), 8)[0]["params"])) == 2 * (1 + 2 * 4) + 2
    assert size(biases="all") - size() == channels
    assert size(biases="unnormed") == size()
    assert size(width=0.5) < size()
    assert size(width=0.01, min_depth=2) == size(features=(2, 2), width=1.0) - (64 - 2) * (27 + 2 + 2 + 8)
    assert shape(head="convolutional") == shape(head="dense") == shape() == (1, 5)
    assert size(head="dense") - size() == (4 * 4 - 1) * 16 * 5  # a weight for each position of the map
    assert shape(global_pool=False) == (1, 4, 4, 5)
    assert shape(global_pool=False, num_classes=None) == (1, 4, 4, 16)
    assert shape(num_classes=None) == (1, 16)


def test_options_of_values():
    images = images_of(4, 9)
    net = TINY()
    variables = drawn(net, images.shape[1])

    def run(net, train=False, **rngs):
        return net.apply(variables, images, train=train, rngs=rngs, mutable=["batch_stats"] if train else False)

    base = run(net)
    np.testing.assert_allclose(run(net.clone(head="convolutional")), base, rtol=1e-4, atol=1e-5)
    for fields in ({"activation": "tanh"}, {"activation": "sigmoid"}, {"stride_in": "3x3"}):
        assert np.abs(run(net.clone(**fields)) - base).max() > 1e-3
    np.testing.assert_array_equal(run(net.clone(dropout=0.5)), base)
    dropped = [run(net.clone(dropout=0.5), True, dropout=jax.random.key(i))[0] for i in (0, 1)]
    assert np.abs(dropped[0] - dropped[1]).max() > 1e-3


def test_pools_differ_at_the_edges_only_where_they_should():
    stem = partial(ResNet, units=(1,), features=(1,), num_classes=None, width=0.125, min_depth=1)
    images = images_of(1, 8)
    for preactivation in (False, True):
        net = stem(preactivation=preactivation)
        variables = drawn(net, images.shape[1])
        pools = {}
        for padding in ("symmetric", "same", "zeros"):
            pools[padding] = outputs(net.clone(pool_padding=padding), variables, images)["pool1"]
        assert pools["same"].shape == pools["symmetric"].shape == (1, 2, 2, 8)
        assert np.abs(pools["same"] - pools["symmetric"]).max() > 0
        # A ReLU came before v1's pool, so that zeros change nothing there.
        assert np.array_equal(pools["zeros"], pools["symmetric"]) == (not preactivation)


@pytest.mark.parametrize("form", FORMS)
def test_zero_init_starts_each_branch_at_zero(form):
    """With option A and all branches at zero, a rootless network averages its own (rectified) images."""
    net = TINY(**{**FORMS[form], "shortcut": "A"}, zero_init=True, num_classes=None, global_pool=False)
    net = net.clone(stem="none", units=(1, 2))
    images = images_of(2, 5)
    variables = net.init(jax.random.key(0), images, train=False)
    found = net.apply(variables, images, train=False)
    expected = nn.relu(subsample(images, 2))
    np.testing.assert_allclose(found[..., :3], expected, rtol=1e-4, atol=1e-6)
    assert not found[..., 3:].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shortcut": "D"}, "shortcut must be one of none, A, B, C, pool, got 'D'"),
        ({"stride_in": "1x"}, "stride_in must be one of 1x1, 3x3, last, got '1x'; the nearest is '1x1'"),
        ({"block": "bottlenek"}, "block .* nearest is 'bottleneck'"),
        ({"biases": "some"}, "biases must be one of none, unnormed, all, got 'some'"),
        ({"stem": "tiny"}, "stem must be one of imagenet, small, none, got 'tiny'"),
        ({"pool_padding": "valid"}, "pool_padding must be one of symmetric, same, zeros, got 'valid'"),
        ({"head": "dense", "global_pool": False}, "global_pool must be True where head is 'dense'"),
        ({"output_stride": 6}, "output_stride must be one of 4, 8, 16, 32, got 6"),
        ({"output_stride": 64}, "output_stride must be one of 4, 8, 16, 32, got 64"),
        ({"output_stride": 16, "stem": "none"}, "output_stride must be one of 1, 2, 4, 8, got 16"),
        ({"units": ()}, r"units must be one or more numbers of at least 1, got \(\)"),
        ({"units": (3, 0, 1, 1)}, "units must be"),
        ({"features": (64,)}, r"features must be 4 numbers of at least 1, got \(64,\)"),
        ({"widen": 0}, "widen must be at least 1, and 1 in basic blocks, got 0"),
        ({"widen": 2, "block": "basic"}, "widen must be .* got 2"),
        ({"zero_init": True, "norm": None}, "zero_init must be False without norm"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**fields).check()


def test_any_size_of_image_will_do():
    assert traced(create("resnet50"), 1)[1].shape == (1, 1000)
    with pytest.raises(ValueError, match="images must be at least 1x1 pixels, got 0x0"):
        traced(create("resnet50"), 0)

"""GoogLeNet: exact counts, Table 1 row by row, slim's endpoints, options, one training step, torchvision's names."""

import contextlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from flax.traverse_util import flatten_dict, unflatten_dict

from classicnets.complexity.counts import describe
from classicnets.models.features import features
from classicnets.models.inception_v1 import BRANCHES, MODULES, Inception, InceptionV1, inception_v1, inception_v1_bn
from classicnets.models.layers import ConvNorm
from classicnets.weights.inception_v1 import torchvision

SLIM = {"padding": "same", "max_pool": "same", "use_scale": False, "auxiliary": False}
TINY = {"width": 0.01, "min_depth": 8, "num_classes": 10, "stem": "small", "dropout": 0.0, "auxiliary_dropout": 0.0}

# Table 1 recomputed from its filters: the module's weights and biases, and its multiply-adds at 224.
TABLE1 = {
    "mixed_3b": (163_696, 128_049_152),
    "mixed_3c": (388_736, 304_267_264),
    "mixed_4b": (376_176, 73_608_192),
    "mixed_4c": (449_160, 87_908_352),
    "mixed_4d": (510_104, 99_850_240),
    "mixed_4e": (605_376, 118_515_712),
    "mixed_4f": (868_352, 169_996_288),
    "mixed_5b": (1_043_456, 51_079_168),
    "mixed_5c": (1_444_080, 70_697_984),
}

# slim inception_v1_test: end points of a 224x224 image; and what a module trains (beta, no gamma).
ENDPOINTS = {
    "Conv2d_1a_7x7": (112, 112, 64),
    "MaxPool_2a_3x3": (56, 56, 64),
    "Conv2d_2b_1x1": (56, 56, 64),
    "Conv2d_2c_3x3": (56, 56, 192),
    "MaxPool_3a_3x3": (28, 28, 192),
    "Mixed_3b": (28, 28, 256),
    "Mixed_3c": (28, 28, 480),
    "MaxPool_4a_3x3": (14, 14, 480),
    "Mixed_4b": (14, 14, 512),
    "Mixed_4c": (14, 14, 512),
    "Mixed_4d": (14, 14, 512),
    "Mixed_4e": (14, 14, 528),
    "Mixed_4f": (14, 14, 832),
    "MaxPool_5a_2x2": (7, 7, 832),
    "Mixed_5b": (7, 7, 832),
    "Mixed_5c": (7, 7, 1024),
    "AvgPool_0a_7x7": (1, 1, 1024),
    "Logits": (1, 1, 1000),
}
TRAINED = {
    "Conv2d_1a_7x7": 9_472,
    "Conv2d_2b_1x1": 4_160,
    "Conv2d_2c_3x3": 110_784,
    "Mixed_3b": 155_504,
    "Mixed_3c": 339_584,
    "Mixed_4b": 363_888,
    "Mixed_4c": 424_584,
    "Mixed_4d": 485_528,
    "Mixed_4e": 572_608,
    "Mixed_4f": 802_816,
    "Mixed_5b": 977_920,
    "Mixed_5c": 1_345_776,
}


@cache
def traced(network, size):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    options: dict = {"train": False, "capture_intermediates": True, "mutable": True}
    return jax.eval_shape(lambda key, x: network.init(key, x, **options), jax.random.key(0), images)


def shapes(network, size=(224, 224)):
    """The shapes of a network's variables; nothing is computed."""
    return {name: tree for name, tree in traced(network, size).items() if name != "intermediates"}


def total(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def endpoints(network, size=(224, 224)):
    """{name of a layer directly in the network: shape of its output without the batch}."""
    found = traced(network, size)["intermediates"]
    return {name: value["__call__"][0].shape[1:] for name, value in found.items() if name != "__call__"}


def drawn(network, size=(32, 32)):
    """Variables with He-scaled kernels and the initial values of everything else: compiling `init` is slow."""
    rng = np.random.default_rng(0)
    values = {"scale": np.ones, "var": np.ones, "bias": np.zeros, "mean": np.zeros}

    def value(path, leaf):
        if path[-1] == "kernel":
            return rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape).astype("f")
        return values[path[-1]](leaf.shape, "f")

    return unflatten_dict({path: value(path, leaf) for path, leaf in flatten_dict(shapes(network, size)).items()})


def images_of(size, n=4):
    return np.random.default_rng(1).normal(size=(n, size, size, 3)).astype("f")


def test_table_1_by_its_filters():
    found = describe(inception_v1(), (224, 224, 3))
    variables = shapes(inception_v1())["params"]
    macs = {name: sum(x["macs"] for x in found["layers"] if x["name"].startswith(f"{name}/")) for name in MODULES}
    assert {name: (total(variables[name]), macs[name]) for name in MODULES} == TABLE1
    assert found["macs"] == 1_582_671_872
    assert describe(inception_v1_bn(), (224, 224, 3))["macs"] == 1_498_376_192


def test_slim_endpoints():
    network = inception_v1_bn(**SLIM, head="convolutional")
    found = endpoints(network)
    assert {name: found[name.lower()] for name in ENDPOINTS} == ENDPOINTS
    assert set(found) == {name.lower() for name in ENDPOINTS} | {"dropout"}
    trained = shapes(network)["params"]
    assert {name: total(trained[name.lower()]) for name in TRAINED} == TRAINED


def test_dense_head_reads_the_whole_map():
    network = inception_v1(head="dense")
    assert shapes(network)["params"]["logits"]["kernel"].shape == (7 * 7 * 1024, 1000)
    assert not any("avgpool" in name for name in endpoints(network))


def test_slim_endpoints_of_other_images():
    network = inception_v1_bn(**SLIM, num_classes=25)
    assert endpoints(network, (112, 112))["mixed_5c"] == (4, 4, 1024)
    assert endpoints(network, (250, 300))["mixed_5c"] == (8, 10, 1024)
    assert endpoints(network, (250, 300))["logits"] == (25,)  # slim with global_pool
    unpooled = network.clone(head="convolutional", branches=("3x3",))
    assert endpoints(unpooled, (250, 300))["logits"] == (2, 4, 25)  # and without
    assert endpoints(unpooled, (160, 300))["avgpool_0a_7x7"][:2] == (1, 4)  # the window is cut to a map of 5x10
    features = endpoints(inception_v1_bn(**SLIM, num_classes=None))
    assert features["avgpool_0a_7x7"] == (1024,)
    assert not {"logits", "dropout"} & set(features)


def test_the_papers_layers():
    found = endpoints(inception_v1())
    assert found["maxpool_5a_3x3"] == (7, 7, 832)
    assert {"lrn_2a", "lrn_2c"} < set(found)
    assert found["mixed_5c"] == (7, 7, 1024)
    small = endpoints(inception_v1(stem="small", lrn=False, branches=("1x1", "5x5")), (32, 32))
    assert small["conv2d_1a_3x3"] == (32, 32, 64)
    assert not {"maxpool_2a_3x3", "lrn_2a", "lrn_2c"} & set(small)
    assert small["mixed_5c"] == (4, 4, 384 + 128)


@pytest.mark.parametrize("branches", [("1x1",), ("5x5", "3x3"), ("1x1", "pool"), BRANCHES])
@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("kernel", [5, 3])
def test_module(branches, reduce, kernel):
    one, _, three, reduce_five, five, pooled = MODULES["mixed_3b"]
    module = Inception(MODULES["mixed_3b"], kernel, branches, reduce, ConvNorm)
    output, variables = jax.eval_shape(
        lambda key: module.init_with_output(key, jnp.zeros((1, 28, 28, 192))), jax.random.key(0)
    )
    features = {"1x1": one, "3x3": three, "5x5": five, "pool": pooled if reduce else 192}
    assert output.shape == (1, 28, 28, sum(features[branch] for branch in branches))
    reductions = {"3x3": "3x3_reduce", "5x5": "5x5_reduce", "pool": "pool_proj"}
    added = {reductions[branch] for branch in branches if branch in reductions and reduce}
    assert set(variables["params"]) == added | set(branches) - {"pool"}
    if "5x5" in branches:
        shape = (kernel, kernel, reduce_five if reduce else 192, five)
        assert variables["params"]["5x5"]["conv"]["kernel"].shape == shape


def test_network_passes_its_options_on():
    found = shapes(inception_v1(branches=("5x5", "pool"), reduce=False, kernel=3, norm="batch", auxiliary=False))
    assert set(found["params"]["mixed_3b"]) == {"5x5"}
    assert found["params"]["mixed_3b"]["5x5"]["conv"]["kernel"].shape == (3, 3, 192, 32)
    assert set(found["params"]["mixed_3b"]["5x5"]) == {"conv", "norm"}
    assert set(shapes(inception_v1())["params"]["mixed_3b"]["1x1"]["conv"]) == {"kernel", "bias"}


def test_width():
    narrow = shapes(inception_v1(width=0.25, branches=("3x3", "5x5")))["params"]
    assert narrow["mixed_3b"]["3x3"]["conv"]["kernel"].shape[-1] == 32
    assert narrow["mixed_3b"]["5x5_reduce"]["conv"]["kernel"].shape[-1] == 16  # min_depth, not 4
    assert narrow["mixed_4e"]["3x3"]["conv"]["kernel"].shape[-1] == 72
    assert narrow["aux1"]["fc"]["kernel"].shape == (16 * 32, 256)
    thin = shapes(inception_v1(width=0.3, min_depth=1, branches=("5x5",)))["params"]
    assert thin["mixed_3b"]["5x5_reduce"]["conv"]["kernel"].shape == (1, 1, 57, 4)  # int(192 * 0.3), int(16 * 0.3)


def test_paddings():
    """SAME starts a 7x7/2 convolution one pixel later than 3 on both sides; the pools agree on even maps only."""
    images = images_of(24, 1)
    network = inception_v1_bn(**TINY | {"stem": "imagenet"}, auxiliary=False, branches=("1x1",))
    variables = drawn(network)

    def stem(images, **fields):
        layers = ["conv2d_1a_7x7", "maxpool_2a_3x3"]
        found = jax.jit(lambda v, x: features(network.clone(**fields), v, x, layers))(variables, images)
        return [np.asarray(found[name]) for name in layers]

    symmetric, same = stem(images), stem(images, padding="same", max_pool="same")
    later, _ = stem(np.roll(images, -1, (1, 2)))
    np.testing.assert_allclose(later[:, 2:-2, 2:-2], same[0][:, 2:-2, 2:-2], rtol=1e-4, atol=1e-5)
    assert np.abs(symmetric[0] - same[0]).max() > 0.1
    assert symmetric[1].shape == same[1].shape == (1, 6, 6, 8)
    # Of a map of 11, SAME makes 6, where a window that must start inside makes 5.
    assert stem(images[:, :22, :22])[1].shape == (1, 5, 5, 8)
    assert stem(images[:, :22, :22], max_pool="same")[1].shape == (1, 6, 6, 8)


def test_epsilon_of_batch_norm():
    network = inception_v1_bn(**TINY, auxiliary=False, branches=("1x1",))
    variables, images = drawn(network), images_of(16, 1)

    def first(var):
        stats = {"conv2d_1a_3x3": {"norm": {"mean": jnp.zeros(8), "var": jnp.full(8, var)}}}
        changed = {**variables, "batch_stats": {**variables["batch_stats"], **stats}}
        found = features(network, changed, images, ["conv2d_1a_3x3"])
        return found["conv2d_1a_3x3"]

    np.testing.assert_allclose(jax.jit(first)(0.0), jax.jit(first)(1 - 1e-3) / 1e-3**0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "least"),
    [
        ({}, 65),
        ({"stem": "small"}, 17),
        ({"auxiliary": False}, 1),
        ({"auxiliary_pool": "adaptive"}, 1),
        ({"max_pool": "ceil", "auxiliary": False}, 31),
        ({"max_pool": "ceil"}, 79),
        ({"max_pool": "ceil", "pool5": 2, "auxiliary": False}, 15),  # torchvision's meta["min_size"]
        ({"max_pool": "ceil", "stem": "small", "auxiliary": False}, 8),
    ],
)
def test_smallest_images(fields, least, monkeypatch):
    network = inception_v1(**fields, branches=("1x1",))
    assert min(endpoints(network, (least, least + 3))["mixed_5c"]) >= 1
    if least > 1:
        with pytest.raises(ValueError, match=f"images must be at least {least}x{least} pixels, got {least - 1}x300"):
            shapes(network, (least - 1, 300))
        monkeypatch.setattr(InceptionV1, "smallest", lambda self, heads: 1)
        empty = True
        with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
            found = endpoints(network, (least - 1, 300))
            empty = any(0 in shape for shape in found.values()) or 0 in jax.tree.leaves(
                jax.tree.map(lambda leaf: leaf.size, shapes(network, (least - 1, 300)))
            )
        assert empty


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branches": ("1x1", "2x2")}, "branches must be a non-empty subset of 1x1, 3x3, 5x5, pool, got .*'2x2'"),
        ({"branches": ()}, "branches must be a non-empty subset"),
        ({"branches": ("pool", "pool")}, "branches must be a non-empty subset"),
        ({"branches": "pool"}, "branches must be a tuple of"),
        ({"branches": None}, "branches must be a tuple of"),
        ({"kernel": 7}, "kernel must be one of 5, 3, got 7"),
        ({"pool5": 4}, "pool5 must be one of 3, 2, got 4"),
        ({"padding": "valid"}, "padding must be one of same, symmetric, got 'valid'"),
        ({"max_pool": "floor"}, "max_pool must be one of same, ceil, got 'floor'"),
        ({"auxiliary_pool": "5x5"}, "auxiliary_pool must be one of 5x5/3, adaptive, got '5x5'; the nearest is '5x5/3'"),
        ({"auxiliary_dropout": 1.0}, r"auxiliary_dropout must be in \[0, 1\), got 1.0"),
        ({"head": "sliding"}, "head must be one of dense, convolutional, pooled, got 'sliding'"),
        ({"stem": "large"}, "stem must be one of imagenet, small, got 'large'"),
        ({"norm": "layer"}, "norm must be one of batch, None, got 'layer'"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"width": 0.0}, "width must be"),
        ({"min_depth": 0}, "min_depth must be"),
        ({"conv": "fast"}, "conv must be one of"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        inception_v1(**fields).check()
    with pytest.raises(ValueError, match=message):
        shapes(inception_v1(**fields))


@pytest.mark.parametrize("make", [inception_v1, inception_v1_bn])
def test_training_step_jit_and_bfloat16(make):
    """At the smallest image of the small stem with the paper's heads, where the last map is 2x2 or 3x3."""
    network = make(**TINY, auxiliary_pool="5x5/3", conv="lax")
    size = network.smallest(heads=True)
    images, variables = images_of(size), drawn(network, (size, size))

    def loss(params):
        variables_ = {**variables, "params": params}
        outputs, _ = network.apply(variables_, images, train=True, mutable=["batch_stats"])
        logits, *auxiliary = (-jax.nn.log_softmax(output)[:, 3].mean() for output in outputs)
        assert len(auxiliary) == 2
        return logits + 0.3 * sum(auxiliary)

    for path, gradient in flatten_dict(jax.jit(jax.grad(loss))(variables["params"])).items():
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient), path

    def logits(dtype):
        return network.clone(dtype=dtype).apply(variables, images, train=False)

    jitted = jax.jit(logits, static_argnums=0)(jnp.float32)
    np.testing.assert_allclose(jitted, logits(jnp.float32), rtol=1e-4, atol=1e-5)
    low = np.asarray(jax.jit(logits, static_argnums=0)(jnp.bfloat16), "f")
    assert np.linalg.norm(low - jitted) < 0.02 * np.linalg.norm(jitted)


def test_heads_come_nearest_the_input_first_and_drop_out():
    network = inception_v1(**TINY | {"auxiliary_dropout": 0.7}, branches=("1x1",))
    images = jax.ShapeDtypeStruct((2, 17, 17, 3), jnp.float32)
    variables = shapes(network, (17, 17))

    def run(network, key=None):
        rngs = None if key is None else {"dropout": key}
        return jax.eval_shape(lambda v, x: network.apply(v, x, train=True, rngs=rngs), variables, images)

    assert [logits.shape for logits in run(network, jax.random.key(0))] == [(2, 10)] * 3
    assert run(network.clone(auxiliary=False)).shape == (2, 10)
    assert run(network.clone(num_classes=None)).shape == (2, 8)
    with pytest.raises(InvalidRngError):
        run(network)


def test_torchvision_names():
    """Every leaf has its own key in torchvision's state_dict, and shapes agree after the transposition."""
    leaves = flatten_dict(shapes(inception_v1_bn(width=0.5)))
    keys = {path: torchvision(path, None) for path in leaves}
    assert len({key for key, _ in keys.values()}) == len(leaves)
    norm = ("mixed_4f", "5x5_reduce", "norm", "var")
    assert keys["batch_stats", *norm][0] == "inception4e.branch3.0.bn.running_var"
    assert keys["params", "conv2d_2c_3x3", "norm", "scale"][0] == "conv3.bn.weight"
    assert keys["params", "aux2", "conv", "conv", "kernel"][0] == "aux2.conv.conv.weight"
    assert keys["params", "aux1", "logits", "bias"][0] == "aux1.fc2.bias"
    assert keys["params", "logits", "kernel"][0] == "fc.weight"
    assert keys["params", "mixed_5c", "pool_proj", "conv", "kernel"][0] == "inception5b.branch4.1.conv.weight"
    convolution = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    _, change = keys["params", "mixed_3b", "3x3", "conv", "kernel"]
    np.testing.assert_array_equal(change(convolution), np.einsum("oihw->hwio", convolution))
    # Our head flattens [h, w, c], torch's [c, h, w]: the products agree.
    rng = np.random.default_rng(0)
    channels_first, weight = rng.normal(size=(2, 6, 4, 4)), rng.normal(size=(7, 6 * 4 * 4))
    _, change = keys["params", "aux1", "fc", "kernel"]
    ours = np.einsum("nchw->nhwc", channels_first).reshape(2, -1) @ change(weight)
    np.testing.assert_allclose(ours, channels_first.reshape(2, -1) @ weight.T)
    _, change = keys["params", "logits", "kernel"]
    np.testing.assert_array_equal(change(weight), weight.T)

"""GoogLeNet: exact counts, Table 1 row by row, slim's endpoints, options, one training step, torchvision's names."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from helpers.networks import count, drawn, endpoints, images_of, outputs, shapes

from classicnets.complexity.counts import describe
from classicnets.models import create
from classicnets.models.inception_v1 import MODULES

inception_v1, inception_v1_bn = (partial(create, name) for name in ("inception_v1", "inception_v1_bn"))
BRANCHES = inception_v1().branches
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


def test_table_1_by_its_filters():
    found = describe(inception_v1(), (224, 224, 3))
    variables = shapes(inception_v1(), 224)["params"]
    macs = {name: sum(x["macs"] for x in found["layers"] if x["name"].startswith(f"{name}/")) for name in MODULES}
    assert {name: (count(variables[name]), macs[name]) for name in MODULES} == TABLE1
    assert found["macs"] == 1_582_671_872
    assert describe(inception_v1_bn(), (224, 224, 3))["macs"] == 1_498_376_192


def test_slim_endpoints():
    network = inception_v1_bn(**SLIM, head="convolutional")
    found = endpoints(network, 224)
    assert {name: found[name.lower()] for name in ENDPOINTS} == ENDPOINTS
    assert set(found) == {name.lower() for name in ENDPOINTS} | {"dropout"}
    trained = shapes(network, 224)["params"]
    assert {name: count(trained[name.lower()]) for name in TRAINED} == TRAINED


def test_dense_head_reads_the_whole_map():
    network = inception_v1(head="dense")
    assert shapes(network, 224)["params"]["logits"]["kernel"].shape == (7 * 7 * 1024, 1000)
    assert not any("avgpool" in name for name in endpoints(network, 224))


def test_slim_endpoints_of_other_images():
    network = inception_v1_bn(**SLIM, num_classes=25)
    assert endpoints(network, 112, 112)["mixed_5c"] == (4, 4, 1024)
    assert endpoints(network, 250, 300)["mixed_5c"] == (8, 10, 1024)
    assert endpoints(network, 250, 300)["logits"] == (25,)  # slim with global_pool
    unpooled = network.clone(head="convolutional", branches=("3x3",))
    assert endpoints(unpooled, 250, 300)["logits"] == (2, 4, 25)  # and without
    assert endpoints(unpooled, 160, 300)["avgpool_0a_7x7"][:2] == (1, 4)  # the window is cut to a map of 5x10
    features = endpoints(inception_v1_bn(**SLIM, num_classes=None), 224)
    assert features["avgpool_0a_7x7"] == (1024,)
    assert not {"logits", "dropout"} & set(features)


def test_the_papers_layers():
    found = endpoints(inception_v1(), 224)
    assert found["maxpool_5a_3x3"] == (7, 7, 832)
    assert {"lrn_2a", "lrn_2c"} < set(found)
    assert found["mixed_5c"] == (7, 7, 1024)
    small = endpoints(inception_v1(stem="small", lrn=False, branches=("1x1", "5x5")), 32)
    assert small["conv2d_1a_3x3"] == (32, 32, 64)
    assert not {"maxpool_2a_3x3", "lrn_2a", "lrn_2c"} & set(small)
    assert small["mixed_5c"] == (4, 4, 384 + 128)


@pytest.mark.parametrize("branches", [("1x1",), ("5x5", "3x3"), ("1x1", "pool"), BRANCHES])
@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("kernel", [5, 3])
def test_module(branches, reduce, kernel):
    model = inception_v1(branches=branches, reduce=reduce, kernel=kernel)
    module = shapes(model, 224)["params"].get("mixed_3b", {})
    features = {"1x1": 64, "3x3": 128, "5x5": 32, "pool": 32 if reduce else 192}
    assert endpoints(model, 224)["mixed_3b"] == (28, 28, sum(features[branch] for branch in branches))
    reductions = {"3x3": "3x3_reduce", "5x5": "5x5_reduce", "pool": "pool_proj"}
    added = {reductions[branch] for branch in branches if branch in reductions and reduce}
    assert set(module) == added | set(branches) - {"pool"}
    if "5x5" in branches:
        assert module["5x5"]["conv"]["kernel"].shape == (kernel, kernel, 16 if reduce else 192, 32)


def test_network_passes_its_options_on():
    found = shapes(inception_v1(branches=("5x5", "pool"), reduce=False, kernel=3, norm="batch", auxiliary=False), 224)
    assert set(found["params"]["mixed_3b"]) == {"5x5"}
    assert found["params"]["mixed_3b"]["5x5"]["conv"]["kernel"].shape == (3, 3, 192, 32)
    assert set(found["params"]["mixed_3b"]["5x5"]) == {"conv", "norm"}
    assert set(shapes(inception_v1(), 224)["params"]["mixed_3b"]["1x1"]["conv"]) == {"kernel", "bias"}


def test_width():
    narrow = shapes(inception_v1(width=0.25, branches=("3x3", "5x5")), 224)["params"]
    assert narrow["mixed_3b"]["3x3"]["conv"]["kernel"].shape[-1] == 32
    assert narrow["mixed_3b"]["5x5_reduce"]["conv"]["kernel"].shape[-1] == 16  # min_depth, not 4
    assert narrow["mixed_4e"]["3x3"]["conv"]["kernel"].shape[-1] == 72
    assert narrow["aux1"]["conv"]["conv"]["kernel"].shape[:2] == (1, 1)
    assert narrow["aux1"]["fc"]["kernel"].shape == (16 * 32, 256)
    thin = shapes(inception_v1(width=0.3, min_depth=1, branches=("5x5",)), 224)["params"]
    assert thin["mixed_3b"]["5x5_reduce"]["conv"]["kernel"].shape == (1, 1, 57, 4)  # int(192 * 0.3), int(16 * 0.3)


def test_paddings():
    """SAME starts a 7x7/2 convolution one pixel later than 3 on both sides; the pools agree on even maps only."""
    images = images_of(1, 24)
    network = inception_v1_bn(**TINY | {"stem": "imagenet"}, auxiliary=False, branches=("1x1",))
    variables = drawn(network, 32)

    def stem(images, **fields):
        layers = ["conv2d_1a_7x7", "maxpool_2a_3x3"]
        found = outputs(network.clone(**fields), variables, images)
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
    variables, images = drawn(network, 32), images_of(1, 16)

    variables["params"]["conv2d_1a_3x3"]["norm"]["bias"] *= 0

    def first(var):
        stats = {"conv2d_1a_3x3": {"norm": {"mean": jnp.zeros(8), "var": jnp.full(8, var)}}}
        changed = {**variables, "batch_stats": {**variables["batch_stats"], **stats}}
        return outputs(network, changed, images)["conv2d_1a_3x3"]

    np.testing.assert_allclose(first(0.0), first(1 - 1e-3) / 1e-3**0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branches": ("1x1", "2x2")}, "branches must be one or more of 1x1, 3x3, 5x5, pool, each once, got .*'2x2'"),
        ({"branches": ()}, "branches must be one or more of"),
        ({"branches": ("pool", "pool")}, "branches must be one or more of"),
        ({"branches": "pool"}, "branches must be a tuple of"),
        ({"branches": None}, "branches must be a tuple of"),
        ({"kernel": 7}, "kernel must be one of 5, 3, got 7"),
        ({"pool5": 4}, "pool5 must be one of 3, 2, got 4"),
        ({"padding": "valid"}, "padding must be one of same, symmetric, got 'valid'"),
        ({"max_pool": "floor"}, "max_pool must be one of same, ceil, got 'floor'"),
        ({"auxiliary_pool": "5x5"}, "auxiliary_pool must be one of 5x5/3, adaptive, got '5x5'; the nearest is '5x5/3'"),
        ({"auxiliary_dropout": 1.0}, r"auxiliary_dropout must be in \[0, 1\), got 1.0"),
        ({"stem": "large"}, "stem must be one of imagenet, small, got 'large'"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        inception_v1(**fields)


def test_heads_come_nearest_the_input_first_and_drop_out():
    network = inception_v1(**TINY | {"auxiliary_dropout": 0.7}, branches=("1x1",))
    images = jax.ShapeDtypeStruct((2, 17, 17, 3), jnp.float32)
    variables = shapes(network, 17)

    def run(network, key=None):
        rngs = None if key is None else {"dropout": key}
        return jax.eval_shape(lambda v, x: network.apply(v, x, train=True, rngs=rngs), variables, images)

    assert [logits.shape for logits in run(network, jax.random.key(0))] == [(2, 10)] * 3
    assert run(network.clone(auxiliary=False)).shape == (2, 10)
    assert run(network.clone(num_classes=None)).shape == (2, 8)
    with pytest.raises(InvalidRngError):
        run(network)

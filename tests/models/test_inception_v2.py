"""BN-Inception: exact counts, slim's endpoints and widths, every option, one training step."""

from functools import partial

import numpy as np
import pytest
from helpers.networks import count, drawn, endpoints, images_of, outputs, shapes

from classicnets.models import create

inception_v2, inception_v2_slim = (partial(create, name) for name in ("inception_v2", "inception_v2_slim"))
BRANCHES = inception_v2().branches
TINY = {"width": 0.01, "min_depth": 8, "num_classes": 10, "stem": "small", "dropout": 0.0}

# slim inception_v2_test: end points of a 224x224 image; and what a layer trains (beta, no gamma).
ENDPOINTS = {
    "Conv2d_1a_7x7": (112, 112, 64),
    "MaxPool_2a_3x3": (56, 56, 64),
    "Conv2d_2b_1x1": (56, 56, 64),
    "Conv2d_2c_3x3": (56, 56, 192),
    "MaxPool_3a_3x3": (28, 28, 192),
    "Mixed_3b": (28, 28, 256),
    "Mixed_3c": (28, 28, 320),
    "Mixed_4a": (14, 14, 576),
    "Mixed_4b": (14, 14, 576),
    "Mixed_4c": (14, 14, 576),
    "Mixed_4d": (14, 14, 576),
    "Mixed_4e": (14, 14, 576),
    "Mixed_5a": (7, 7, 1024),
    "Mixed_5b": (7, 7, 1024),
    "Mixed_5c": (7, 7, 1024),
    "AvgPool_1a": (1, 1, 1024),
    "Logits": (1, 1, 1000),
}
TRAINED = {
    "Conv2d_1a_7x7": 2_776,
    "Conv2d_2b_1x1": 4_160,
    "Conv2d_2c_3x3": 110_784,
    "Mixed_3b": 218_592,
    "Mixed_3c": 259_616,
    "Mixed_4a": 384_544,
    "Mixed_4b": 609_120,
    "Mixed_4c": 664_448,
    "Mixed_4d": 894_944,
    "Mixed_4e": 1_106_976,
    "Mixed_5a": 1_438_720,
    "Mixed_5b": 2_180_672,
    "Mixed_5c": 2_277_984,
}
# slim's channels at a depth_multiplier, of the layers above from Conv2d_1a_7x7 to Mixed_5c
CHANNELS = {
    0.5: (32, 32, 32, 96, 96, 128, 160, 288, 288, 288, 288, 288, 512, 512, 512),
    0.25: (16, 16, 16, 48, 48, 72, 80, 144, 144, 144, 144, 144, 256, 256, 256),
    2.0: (128, 128, 128, 384, 384, 512, 640, 1152, 1152, 1152, 1152, 1152, 2048, 2048, 2048),
}


def test_slim_endpoints():
    network = inception_v2_slim(head="convolutional")
    found = endpoints(network, 224)
    assert {name: found[name.lower()] for name in ENDPOINTS} == ENDPOINTS
    assert set(found) == {name.lower() for name in ENDPOINTS} | {"dropout"}
    trained = shapes(network, 224)["params"]
    assert {name: count(trained[name.lower()]) for name in TRAINED} == TRAINED


@pytest.mark.parametrize("width", CHANNELS)
def test_slim_depth_multipliers(width):
    found = endpoints(inception_v2_slim(num_classes=None, width=width), 224)
    assert tuple(found[name.lower()][-1] for name in list(ENDPOINTS)[:15]) == CHANNELS[width]
    assert [found[name.lower()][:2] for name in list(ENDPOINTS)[:15]] == [s[:2] for s in list(ENDPOINTS.values())[:15]]


def test_dense_head_reads_the_whole_map():
    network = inception_v2(head="dense")
    assert shapes(network, 224)["params"]["logits"]["kernel"].shape == (7 * 7 * 1024, 1000)
    assert not any("avgpool" in name for name in endpoints(network, 224))


def test_slim_endpoints_of_other_images():
    network = inception_v2_slim(num_classes=25)
    assert endpoints(network, 112, 112)["mixed_5c"] == (4, 4, 1024)
    assert endpoints(network, 250, 300)["mixed_5c"] == (8, 10, 1024)
    assert endpoints(network, 250, 300)["logits"] == (25,)  # slim with global_pool
    unpooled = network.clone(head="convolutional", branches=("3x3",))
    assert endpoints(unpooled, 250, 300)["logits"] == (2, 4, 25)  # and without
    assert endpoints(inception_v2_slim(num_classes=None), 224)["avgpool_1a"] == (1024,)


def test_the_figures_channels():
    found = endpoints(inception_v2(), 224)
    assert [found[f"mixed_{name}"][-1] for name in ("4c", "4d", "4e", "5a", "5b")] == [576, 608, 608, 1056, 1024]
    params = shapes(inception_v2(), 224)["params"]
    assert set(params["conv2d_1a_7x7"]) == {"conv", "norm"}
    separable = shapes(inception_v2(use_separable=True), 224)["params"]["conv2d_1a_7x7"]
    assert separable["depthwise"]["kernel"].shape == (7, 7, 1, 24)
    assert separable["pointwise"]["kernel"].shape == (1, 1, 24, 64)
    assert set(separable) == {"depthwise", "pointwise", "norm"}
    slim = shapes(inception_v2_slim(), 224)["params"]
    assert set(slim["conv2d_1a_7x7"]) == {"depthwise", "pointwise"}
    assert set(slim["conv2d_1a_7x7"]["pointwise"]) == {"kernel", "bias"}
    assert set(slim["conv2d_2b_1x1"]["norm"]) == {"bias"}


@pytest.mark.parametrize("branches", [("1x1",), ("double3x3", "3x3"), ("1x1", "pool"), BRANCHES])
@pytest.mark.parametrize("reduce", [True, False])
def test_modules_with_and_without_strides(branches, reduce):
    model = inception_v2(branches=branches, reduce=reduce)
    params, maps = shapes(model, 224)["params"], endpoints(model, 224)
    channels = {"1x1": 64, "3x3": 64, "double3x3": 96, "pool": 32 if reduce else 192}
    assert maps["mixed_3b"] == (28, 28, sum(channels[branch] for branch in branches))
    halving = [branch for branch in branches if branch != "1x1"] or ["pool"]
    channels = {"3x3": 160, "double3x3": 96, "pool": maps["mixed_3c"][-1]}
    assert maps["mixed_4a"] == (14, 14, sum(channels[branch] for branch in halving))
    layers = {
        "1x1": {"1x1"},
        "3x3": {"3x3"} | ({"3x3_reduce"} if reduce else set()),
        "double3x3": {"double3x3_1", "double3x3_2"} | ({"double3x3_reduce"} if reduce else set()),
        "pool": {"pool_proj"} if reduce else set(),
    }
    assert set(params["mixed_3b"]) == set().union(*(layers[branch] for branch in branches))
    layers["pool"] = set()
    assert set(params.get("mixed_4a", {})) == set().union(*(layers[branch] for branch in halving))


def test_network_passes_its_options_on():
    network = inception_v2(branches=("1x1",), norm=None)
    assert endpoints(network, 224)["mixed_4a"] == (14, 14, 64)  # its max pool alone
    assert set(shapes(network, 224)["params"]["mixed_4b"]["1x1"]["conv"]) == {"kernel", "bias"}
    assert "mixed_4a" not in shapes(network, 224)["params"]
    naive = endpoints(inception_v2(branches=("3x3", "pool"), reduce=False), 224)
    assert naive["mixed_3b"] == (28, 28, 64 + 192)
    small = endpoints(inception_v2(stem="small", branches=("1x1",)), 32)
    assert small["conv2d_1a_3x3"] == (32, 32, 64)
    assert "maxpool_2a_3x3" not in small
    assert small["mixed_5c"] == (4, 4, 352)


def test_paddings():
    """Caffe counts the padding of its average pools; the last pool of all is a max pool."""
    images = images_of(1, 32)
    network = inception_v2(**TINY, branches=("pool",))
    variables = drawn(network, 32)

    def run(layers, **fields):
        found = outputs(network.clone(**fields), variables, images)
        return [np.asarray(found[name])[0] for name in layers]

    layers = ["maxpool_3a_3x3", "mixed_3b/pool", "mixed_5c/pool"]
    stem, plain, last = run(layers)
    _, counted, _ = run(layers, count_padding=True)
    np.testing.assert_allclose(plain[1:-1, 1:-1], counted[1:-1, 1:-1], rtol=1e-5)
    np.testing.assert_allclose(plain[0, 0], stem[:2, :2].mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(counted[0, 0], stem[:2, :2].sum((0, 1)) / 9, rtol=1e-4)
    (before,) = run(["mixed_5b"])
    np.testing.assert_array_equal(last[0, 0], before[:2, :2].max((0, 1)))


def test_halved_maps_of_caffe():
    caffe = inception_v2(padding="symmetric", max_pool="ceil", count_padding=True)
    assert endpoints(caffe, 224) == endpoints(inception_v2(), 224)
    with pytest.raises(
        ValueError, match=r"max_pool='ceil' halves a map .* only if it is even, got 5x5; .*multiple of 32"
    ):
        shapes(caffe, 40, 40)
    assert endpoints(caffe.clone(max_pool="same"), 40)["mixed_5c"] == (2, 2, 1024)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"branches": ("5x5",)},
            r"branches must be one or more of 1x1, 3x3, double3x3, pool, each once, got \('5x5',\)",
        ),
        ({"branches": ()}, "branches must be one or more of"),
        ({"pool_projection": 64}, "pool_projection must be one of 128, 96, got 64"),
        ({"padding": "valid"}, "padding must be one of same, symmetric, got 'valid'"),
        ({"max_pool": "floor"}, "max_pool must be one of same, ceil, got 'floor'"),
        ({"stem": "large"}, "stem must be one of imagenet, small, got 'large'"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        inception_v2(**fields)

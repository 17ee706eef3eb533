"""Inception v3: exact counts, slim's endpoints, what each option changes, one training step, torchvision's names."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from helpers.networks import apply, distance, drawn, images_of, leaves, traced

from classicnets.models import create
from classicnets.models import inception_v3 as networks
from classicnets.models.inception_v3 import figure5, figure6, figure7, unfactorised
from classicnets.models.layers import AvgPool

inception_v3 = partial(create, "inception_v3")
SLIM = {"use_scale": False, "count_padding": False, "dropout": 0.2}
# slim's inception_v3_test: endpoint -> shape at 299x299
ENDPOINTS = {
    "conv2d_1a_3x3": (149, 149, 32),
    "conv2d_2a_3x3": (147, 147, 32),
    "conv2d_2b_3x3": (147, 147, 64),
    "maxpool_3a_3x3": (73, 73, 64),
    "conv2d_3b_1x1": (73, 73, 80),
    "conv2d_4a_3x3": (71, 71, 192),
    "maxpool_5a_3x3": (35, 35, 192),
    "mixed_5b": (35, 35, 256),
    "mixed_5c": (35, 35, 288),
    "mixed_5d": (35, 35, 288),
    "mixed_6a": (17, 17, 768),
    "mixed_6b": (17, 17, 768),
    "mixed_6c": (17, 17, 768),
    "mixed_6d": (17, 17, 768),
    "mixed_6e": (17, 17, 768),
    "mixed_7a": (8, 8, 1280),
    "mixed_7b": (8, 8, 2048),
    "mixed_7c": (8, 8, 2048),
    "auxlogits": (1000,),
    "avgpool_1a": (1, 1, 2048),
    "prelogits": (1, 1, 2048),
    "logits": (1000,),
}
# slim, trainable without gamma
TRAINABLE = {
    "conv2d_1a_3x3": 896,
    "conv2d_2a_3x3": 9_248,
    "conv2d_2b_3x3": 18_496,
    "conv2d_3b_1x1": 5_200,
    "conv2d_4a_3x3": 138_432,
    "mixed_5b": 255_440,
    "mixed_5c": 276_976,
    "mixed_5d": 284_656,
    "mixed_6a": 1_152_640,
    "mixed_6b": 1_295_872,
    "mixed_6c": 1_689_280,
    "mixed_6d": 1_689_280,
    "mixed_6e": 2_140_032,
    "mixed_7a": 1_697_024,
    "mixed_7b": 5_041_344,
    "mixed_7c": 6_073_536,
    "auxlogits": 3_325_800,
    "logits": 2_049_000,
}
# slim's channels of the base network with depth_multiplier, in the order of ENDPOINTS
CHANNELS = {
    0.5: (16, 16, 32, 32, 40, 96, 96, 128, 144, 144, 384, 384, 384, 384, 384, 640, 1024, 1024),
    0.25: (16, 16, 16, 16, 20, 48, 48, 72, 72, 72, 192, 192, 192, 192, 192, 320, 512, 512),
    2.0: (64, 64, 128, 128, 160, 384, 384, 512, 576, 576, 1536, 1536, 1536, 1536, 1536, 2560, 4096, 4096),
}
TINY = {"width": 1 / 16, "min_depth": 2, "num_classes": 5, "stem": "small"}


def trace(height=299, width=299, /, **fields):
    """({path: shape} of the variables, {module path: shape of its output}, shape of the logits)."""
    variables, output, layers = traced(inception_v3(**fields), height, width)
    return leaves(variables), layers, output.shape


def total(shapes, *prefix):
    return sum(math.prod(shape) for path, shape in shapes.items() if path[: len(prefix)] == prefix)


def test_slim_endpoints_and_their_parameters():
    shapes, outputs, logits = trace(**SLIM)
    assert {name: outputs[name] for name in ENDPOINTS} == ENDPOINTS
    assert {name: total(shapes, "params", name) for name in TRAINABLE} == TRAINABLE
    assert logits == (1, 1000)


@pytest.mark.parametrize("width", CHANNELS)
def test_slim_depth_multiplier(width):
    _, outputs, features = trace(**SLIM, num_classes=None, width=width)
    assert tuple(outputs[name][-1] for name in list(ENDPOINTS)[:18]) == CHANNELS[width]
    assert features == (1, CHANNELS[width][-1])


@pytest.mark.parametrize(
    ("size", "mixed_7c"),
    [((150, 150), (3, 3, 2048)), ((330, 400), (8, 11, 2048)), ((400, 600), (11, 17, 2048))],
)
def test_slim_other_sizes(size, mixed_7c):
    _, outputs, logits = trace(*size)
    assert outputs["mixed_7c"] == mixed_7c
    assert logits == (1, 1000)
    assert outputs["auxlogits"] == (1000,)


def test_convolutional_head_has_the_parameters_of_the_dense_one():
    shapes, outputs, logits = trace(330, 400, head="convolutional")
    assert (outputs["logits"], logits) == ((1, 4, 1000), (1, 1, 4, 1000))
    assert shapes == trace(330, 400)[0]
    assert trace(num_classes=25, head="convolutional")[2] == (1, 1, 1, 25)
    assert trace(290, 400, num_classes=None, head="convolutional")[2] == (1, 1, 4, 2048)


def test_dense_head_reads_the_whole_map():
    shapes, outputs, logits = trace(head="dense")
    assert logits == (1, 1000)
    assert shapes["params", "logits", "kernel"] == (8 * 8 * 2048, 1000)
    assert "avgpool_1a" not in outputs


def test_multiply_adds():
    shapes, outputs, _ = trace()
    count = 0
    for path, shape in shapes.items():
        if path[-1] == "kernel" and "auxlogits" not in path:
            count += math.prod(shape) * math.prod(outputs["/".join(path[1:-1])][:-1])
    assert count == 5_713_216_096  # torchvision at 299x299, inference; the paper says 5 billion


@pytest.mark.parametrize("size", [28, 32])
def test_small_images(size):
    _, outputs, logits = trace(size, size, **TINY)
    assert outputs["conv2d_1a_3x3"][:2] == (size - 2, size - 2)
    assert "maxpool_3a_3x3" not in outputs
    assert logits == (1, 5)


@pytest.mark.parametrize(
    ("stem", "padding", "least"), [("imagenet", "VALID", 75), ("imagenet", "SAME", 49), ("small", "VALID", 21)]
)
def test_maps_of_the_smallest_images(stem, padding, least):
    _, layers, _ = trace(least, least + 1, **{**TINY, "stem": stem, "stem_padding": padding})
    assert (layers["mixed_6e"][:2], layers["mixed_7c"][:2]) == ((3, 3), (1, 1))


def test_same_stem():
    _, outputs, _ = trace(**{**TINY, "stem": "imagenet", "stem_padding": "SAME"})
    assert [outputs[name][0] for name in list(ENDPOINTS)[:8]] == [150, 150, 150, 75, 75, 75, 38, 38]


def test_branches():
    shapes, outputs, _ = trace(21, 21, **TINY, branches=("pool", "1x1"))
    assert {path[2] for path in shapes if path[1] == "mixed_6b"} == {"1x1", "pool"}
    assert outputs["mixed_6b"][-1] == 24
    assert {path[2].split("_")[0] for path in shapes if path[1] == "mixed_7a"} == {"nxn", "double"}


def test_naive_modules_have_no_1x1_but_the_branch():
    shapes, outputs, _ = trace(21, 21, **TINY, reduce=False)
    pointwise = {path[2] for path, shape in shapes.items() if "mixed" in path[1] and shape[:2] == (1, 1)}
    assert pointwise == {"1x1"}
    assert outputs["mixed_5b"][-1] == 4 + 4 + 6 + 12  # the pool passes all of its 12 inputs
    assert outputs["mixed_6a"][-1] == 24 + 6 + outputs["mixed_5d"][-1]
    assert shapes["params", "mixed_6b", "nxn_1", "conv", "kernel"] == (1, 7, outputs["mixed_6a"][-1], 8)


def test_not_factorised():
    one, three, seven = (1, 1), (3, 3), (7, 7)
    assert unfactorised(figure6(160)["nxn"]) == ((one, 160), (seven, 192))
    assert unfactorised(figure6(160)["double"]) == ((one, 160), (seven, 160), (seven, 192))
    assert unfactorised(figure7()["double"]) == ((one, 448), (three, 384), (three, 768))
    for row in figure5(32).values():
        assert unfactorised(row) == row
    shapes, outputs, _ = trace(21, 21, **TINY, factorised=False)
    assert all(shape[0] == shape[1] for path, shape in shapes.items() if path[-1] == "kernel" and "conv" in path)
    assert shapes["params", "mixed_7a", "double_2", "conv", "kernel"] == (7, 7, 12, 12)
    assert outputs["mixed_7c"] == (1, 1, 128)


def test_no_norm_gives_biases():
    shapes, _, _ = trace(21, 21, **TINY, norm=None)
    assert {path[-2:] for path in shapes} - {("logits", "kernel"), ("logits", "bias")} == {
        ("conv", "kernel"),
        ("conv", "bias"),
    }


@pytest.mark.parametrize(("count_padding", "corner"), [(True, 4 / 9), (False, 1.0)])
def test_padding_of_average_pools(count_padding, corner):
    pool = AvgPool(3, 1, "SAME", count_padding=count_padding)
    output = pool.apply({}, np.ones((1, 4, 5, 2), np.float32))
    assert output.shape == (1, 4, 5, 2)
    np.testing.assert_allclose(output[0, 0, 0], corner, rtol=1e-6)
    np.testing.assert_allclose(output[0, 1, 1], 1.0, rtol=1e-6)


@pytest.fixture
def tiny(monkeypatch):
    """(network of one module of each kind, its variables, images)."""
    kinds = ("mixed_5b", "mixed_6a", "mixed_6e", "mixed_7a", "mixed_7b")
    monkeypatch.setattr(networks, "MODULES", {name: networks.MODULES[name] for name in kinds})
    traced.cache_clear()
    model = inception_v3(**TINY)
    yield model, drawn(model, 28), images_of(4, 28)
    traced.cache_clear()


def test_heads_and_options(tiny):
    model, variables, images = tiny
    logits = apply(model, variables, images)
    assert distance(logits[0], logits[1]) > 0.005
    maps = model.clone(head="convolutional").apply(variables, images, train=False)
    assert distance(maps, logits[:, None, None]) < 1e-5
    for fields in ({"count_padding": False}, {"activation": "tanh"}):
        assert distance(model.clone(**fields).apply(variables, images, train=False), logits) > 0.01, fields
    keys = [jax.random.key(3), jax.random.key(4)]
    for dropout, equal in ((0.0, True), (0.5, False)):
        trained = model.clone(dropout=dropout, auxiliary=False)
        one, other = (
            trained.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]
            for key in keys
        )
        assert np.array_equal(one, other) == equal


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branches": ("1x1", "5x5")}, "branches must be one of 1x1, nxn, double, pool, got '5x5'"),
        ({"branches": ()}, "branches must be one or more of 1x1, nxn, double, pool, each once, got \\(\\)"),
        ({"branches": ("1x1", "1x1")}, "each once, got \\('1x1', '1x1'\\)"),
        ({"stem": "smal"}, "stem must be one of imagenet, small, got 'smal'; the nearest is 'small'"),
        ({"stem_padding": "same"}, "stem_padding must be one of VALID, SAME, got 'same'"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        inception_v3(**fields)

"""Inception v3: exact counts, slim's endpoints, what each option changes, one training step, torchvision's names."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from classicnets.models import inception_v3 as networks
from classicnets.models.inception_v3 import SMALLEST, Inception, figure5, figure6, figure7, inception_v3, unfactorised
from classicnets.weights.inception_v3 import torchvision

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


@cache
def traced(height, width, fields):
    """({path: shape} of the variables, {module path: shape of its output}, shape of the logits)."""
    images = jnp.zeros((1, height, width, 3))
    model = inception_v3(**dict(fields))
    output, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), images, train=False, mutable=True, capture_intermediates=True)
    )
    outputs = {path[:-1]: leaf[0].shape[1:] for path, leaf in flatten_dict(variables.pop("intermediates")).items()}
    leaves = {path: leaf.shape for path, leaf in flatten_dict(variables).items()}
    return leaves, {"/".join(path): shape for path, shape in outputs.items()}, output.shape


def trace(height=299, width=299, /, **fields):
    return traced(height, width, tuple(fields.items()))


def total(leaves, *prefix):
    return sum(math.prod(shape) for path, shape in leaves.items() if path[: len(prefix)] == prefix)


def test_slim_endpoints_and_their_parameters():
    leaves, outputs, logits = trace(**SLIM)
    assert {name: outputs[name] for name in ENDPOINTS} == ENDPOINTS
    assert {name: total(leaves, "params", name) for name in TRAINABLE} == TRAINABLE
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
    leaves, outputs, logits = trace(330, 400, head="convolutional")
    assert (outputs["logits"], logits) == ((1, 4, 1000), (1, 1, 4, 1000))
    assert leaves == trace(330, 400)[0]
    assert trace(num_classes=25, head="convolutional")[2] == (1, 1, 1, 25)
    assert trace(290, 400, num_classes=None, head="convolutional")[2] == (1, 1, 4, 2048)


def test_dense_head_reads_the_whole_map():
    leaves, outputs, logits = trace(head="dense")
    assert logits == (1, 1000)
    assert leaves["params", "logits", "kernel"] == (8 * 8 * 2048, 1000)
    assert "avgpool_1a" not in outputs


def test_multiply_adds():
    leaves, outputs, _ = trace()
    count = 0
    for path, shape in leaves.items():
        if path[-1] == "kernel" and "auxlogits" not in path:
            count += math.prod(shape) * math.prod(outputs["/".join(path[1:-1])][:-1])
    assert count == 5_713_216_096  # torchvision at 299x299, inference; the paper says 5 billion


@pytest.mark.parametrize("size", [28, 32])
def test_small_images(size):
    _, outputs, logits = trace(size, size, **TINY)
    assert outputs["conv2d_1a_3x3"][:2] == (size - 2, size - 2)
    assert "maxpool_3a_3x3" not in outputs
    assert logits == (1, 5)


@pytest.mark.parametrize(("stem", "padding"), SMALLEST)
def test_smallest_images(stem, padding):
    smallest = SMALLEST[stem, padding]
    fields = {**TINY, "stem": stem, "stem_padding": padding}
    _, outputs, _ = trace(smallest, smallest + 1, **fields)
    assert (outputs["mixed_6e"][:2], outputs["mixed_7c"][:2]) == ((3, 3), (1, 1))
    message = f"at least {smallest}x{smallest} pixels, got {smallest - 1}x{smallest}"
    with pytest.raises(ValueError, match=message):
        trace(smallest - 1, smallest, **fields)


def test_same_stem():
    _, outputs, _ = trace(**{**TINY, "stem": "imagenet", "stem_padding": "SAME"})
    assert [outputs[name][0] for name in list(ENDPOINTS)[:8]] == [150, 150, 150, 75, 75, 75, 38, 38]


def test_branches():
    leaves, outputs, _ = trace(21, 21, **TINY, branches=("pool", "1x1"))
    assert {path[2] for path in leaves if path[1] == "mixed_6b"} == {"1x1", "pool"}
    assert outputs["mixed_6b"][-1] == 24
    assert {path[2].split("_")[0] for path in leaves if path[1] == "mixed_7a"} == {"nxn", "double"}


def test_naive_modules_have_no_1x1_but_the_branch():
    leaves, outputs, _ = trace(21, 21, **TINY, reduce=False)
    pointwise = {path[2] for path, shape in leaves.items() if "mixed" in path[1] and shape[:2] == (1, 1)}
    assert pointwise == {"1x1"}
    assert outputs["mixed_5b"][-1] == 4 + 4 + 6 + 12  # the pool passes all of its 12 inputs
    assert outputs["mixed_6a"][-1] == 24 + 6 + outputs["mixed_5d"][-1]
    assert leaves["params", "mixed_6b", "nxn_1", "conv", "kernel"] == (1, 7, outputs["mixed_6a"][-1], 8)


def test_not_factorised():
    assert unfactorised(figure6(160)["nxn"]) == (("1x1", 160), ("7x7", 192))
    assert unfactorised(figure6(160)["double"]) == (("1x1", 160), ("7x7", 160), ("7x7", 192))
    assert unfactorised(figure7()["double"]) == (("1x1", 448), ("3x3", 384), ("3x3", 768))
    for layers in figure5(32).values():
        assert unfactorised(layers) == layers
    leaves, outputs, _ = trace(21, 21, **TINY, factorised=False)
    assert all(shape[0] == shape[1] for path, shape in leaves.items() if path[-1] == "kernel" and "conv" in path)
    assert leaves["params", "mixed_7a", "double_2", "conv", "kernel"] == (7, 7, 12, 12)
    assert outputs["mixed_7c"] == (1, 1, 128)


def test_no_norm_gives_biases():
    leaves, _, _ = trace(21, 21, **TINY, norm=None)
    assert {path[-2:] for path in leaves} - {("logits", "kernel"), ("logits", "bias")} == {
        ("conv", "kernel"),
        ("conv", "bias"),
    }


@pytest.mark.parametrize(("count_padding", "corner"), [(True, 4 / 9), (False, 1.0)])
def test_padding_of_average_pools(count_padding, corner):
    pool = Inception({"pool": ()}, strides=1, count_padding=count_padding, unit=None)
    output = pool.apply({}, jnp.ones((1, 4, 5, 2)))
    assert output.shape == (1, 4, 5, 2)
    np.testing.assert_allclose(output[0, 0, 0], corner, rtol=1e-6)
    np.testing.assert_allclose(output[0, 1, 1], 1.0, rtol=1e-6)
    assert pool.apply({}, jnp.ones((1, 4, 5, 2), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.fixture
def tiny(monkeypatch):
    """(network of one module of each kind, variables with scales, biases and statistics of their own, images)."""
    kinds = ("mixed_5b", "mixed_6a", "mixed_6e", "mixed_7a", "mixed_7b")
    monkeypatch.setattr(networks, "MODULES", {name: networks.MODULES[name] for name in kinds})
    model = inception_v3(**TINY)
    images = jax.random.normal(jax.random.key(1), (4, 28, 28, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    rng = np.random.default_rng(0)

    def draw(leaf):
        if leaf.ndim == 1:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        return jnp.asarray(rng.normal(size=leaf.shape) * (2 / math.prod(leaf.shape[:-1])) ** 0.5, jnp.float32)

    return model, jax.tree.map(draw, shapes), images


def difference(a, b):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def test_one_training_step(tiny):
    model, variables, images = tiny

    def loss(params):
        (logits, auxiliary), new = model.apply(
            {**variables, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )
        entropies = [-jax.nn.log_softmax(scores)[jnp.arange(4), jnp.arange(4)].mean() for scores in (logits, auxiliary)]
        return entropies[0] + 0.4 * entropies[1], new

    gradients, new = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    for path, gradient in flatten_dict(gradients).items():
        assert np.isfinite(gradient).all() and np.any(gradient), path
    before = flatten_dict(variables["batch_stats"])
    for path, statistic in flatten_dict(new["batch_stats"]).items():
        assert np.any(statistic != before[path]), path


def test_jit_bfloat16_heads_and_options(tiny):
    model, variables, images = tiny
    logits, coarse = (
        jax.jit(lambda v, x, m=m: m.apply(v, x, train=False))(variables, images)
        for m in (model, model.clone(dtype=jnp.bfloat16))
    )
    assert difference(logits[0], logits[1]) > 0.005
    assert difference(coarse, logits) < 0.02
    # Without jit from here on.
    assert difference(model.apply(variables, images, train=False), logits) < 1e-5
    maps = model.clone(head="convolutional").apply(variables, images, train=False)
    assert difference(maps, logits[:, None, None]) < 1e-5
    for fields in ({"count_padding": False}, {"activation": "tanh"}):
        assert difference(model.clone(**fields).apply(variables, images, train=False), logits) > 0.01, fields
    keys = [jax.random.key(3), jax.random.key(4)]
    for dropout, equal in ((0.0, True), (0.5, False)):
        trained = model.clone(dropout=dropout, auxiliary=False)
        one, other = (
            trained.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]
            for key in keys
        )
        assert np.array_equal(one, other) == equal


def test_names_of_torchvision():
    leaves, _, _ = trace()
    keys = {path: torchvision(path, None)[0] for path in leaves}
    assert len(set(keys.values())) == len(keys) == 96 * 5 + 4
    for path, key in {
        ("params", "conv2d_4a_3x3", "conv", "kernel"): "Conv2d_4a_3x3.conv.weight",
        ("params", "mixed_5b", "nxn_2", "norm", "scale"): "Mixed_5b.branch5x5_2.bn.weight",
        ("params", "mixed_6a", "nxn", "norm", "bias"): "Mixed_6a.branch3x3.bn.bias",
        ("params", "mixed_6c", "pool", "conv", "kernel"): "Mixed_6c.branch_pool.conv.weight",
        ("batch_stats", "mixed_7a", "double_4", "norm", "mean"): "Mixed_7a.branch7x7x3_4.bn.running_mean",
        ("batch_stats", "mixed_7c", "double_3b", "norm", "var"): "Mixed_7c.branch3x3dbl_3b.bn.running_var",
        ("params", "auxlogits", "conv2d_2a_5x5", "conv", "kernel"): "AuxLogits.conv1.conv.weight",
        ("params", "auxlogits", "logits", "bias"): "AuxLogits.fc.bias",
        ("params", "logits", "kernel"): "fc.weight",
    }.items():
        assert keys[path] == key
    _, kernel = torchvision(("params", "mixed_6b", "nxn_2", "conv", "kernel"), None)
    assert kernel(np.zeros((2, 3, 1, 7))).shape == (1, 7, 3, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branches": ("1x1", "5x5")}, "branches must be one of 1x1, nxn, double, pool, got '5x5'"),
        ({"branches": ()}, "branches must be one or more of 1x1, nxn, double, pool, each once, got \\(\\)"),
        ({"branches": ("1x1", "1x1")}, "each once, got \\('1x1', '1x1'\\)"),
        ({"stem": "smal"}, "stem must be one of imagenet, small, got 'smal'; the nearest is 'small'"),
        ({"stem_padding": "same"}, "stem_padding must be one of VALID, SAME, got 'same'"),
        ({"head": "sliding"}, "head must be one of dense, convolutional, pooled, got 'sliding'"),
        ({"norm": "layer"}, "norm must be one of batch, None, got 'layer'"),
        ({"activation": "gelu"}, "activation must be one of relu, tanh, sigmoid, got 'gelu'"),
        ({"dropout": 1.0}, "dropout must be in \\[0, 1\\), got 1.0"),
        ({"width": -0.1}, "width must be .* got -0.1"),
        ({"width": 0.0}, "width must be .* got 0.0"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        inception_v3(**fields).check()

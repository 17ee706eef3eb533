"""AlexNet: exact counts, slim's and the benchmark's endpoints, two towers, LRN, the options, one training step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers.networks import count, drawn, endpoints, images_of, outputs, shapes, traced

from classicnets.models import create
from classicnets.models.alexnet import ENTRIES
from classicnets.models.norm import response_norm

alexnet, alexnet_owt, alexnet_slim = (partial(create, name) for name in ("alexnet", "alexnet_owt", "alexnet_slim"))
tiny = partial(alexnet, width=1 / 12, num_classes=10)


def test_parameters_do_not_depend_on_the_image_size():
    assert count(shapes(alexnet_owt(), 63)["params"]) == 61_100_840  # torchvision's least
    assert count(shapes(alexnet_slim(), 300)["params"]) == 50_303_912


# Counted from section 3.5 and figure 2.
LAYERS = {
    "conv1": (34_944, (55, 55, 96)),
    "conv2": (307_456, (27, 27, 256)),
    "conv3": (885_120, (13, 13, 384)),
    "conv4": (663_936, (13, 13, 384)),
    "conv5": (442_624, (13, 13, 256)),
    "fc6": (37_752_832, (4096,)),
    "fc7": (16_781_312, (4096,)),
    "fc8": (4_097_000, (1000,)),
}


def test_each_layer_of_2012():
    variables, _, layers = traced(alexnet(), 227)
    for name, (parameters, output) in LAYERS.items():
        assert (count(variables["params"][name]), layers[name]) == (parameters, output)
    assert set(variables["params"]) == set(LAYERS)


# slim's alexnet_v2 and TensorFlow's alexnet_benchmark, at 224x224.
ENDPOINTS = {
    "alexnet_slim": {
        "conv1": (54, 54, 64),
        "pool1": (26, 26, 64),
        "conv2": (26, 26, 192),
        "pool2": (12, 12, 192),
        "conv3": (12, 12, 384),
        "conv4": (12, 12, 384),
        "conv5": (12, 12, 256),
        "pool5": (5, 5, 256),
        "fc6": (1, 1, 4096),
        "fc7": (1, 1, 4096),
        "fc8": (1000,),
    },
    "alexnet_tf_benchmark": {
        "conv1": (56, 56, 64),
        "lrn1": (56, 56, 64),
        "pool1": (27, 27, 64),
        "conv2": (27, 27, 192),
        "lrn2": (27, 27, 192),
        "pool2": (13, 13, 192),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 256),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
    },
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoints(name):
    found = endpoints(create(name), 224)
    assert {layer: shape for layer, shape in found.items() if not layer.startswith("dropout")} == ENDPOINTS[name]


def test_slims_outputs():
    for fields, size, output in (
        ({}, (224, 224), (1000,)),
        ({"spatial_squeeze": False}, (300, 400), (4, 7, 1000)),
        ({"spatial_squeeze": False, "global_pool": True}, (256, 256), (1, 1, 1000)),
        ({"global_pool": True}, (300, 400), (1000,)),
        ({"num_classes": None}, (224, 224), (1, 1, 4096)),
    ):
        assert traced(alexnet_slim(**fields), *size)[1].shape[1:] == output


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("size", [28, 32])
def test_small_stem(name, size):
    classes = {} if name == "alexnet_tf_benchmark" else {"num_classes": 10}
    variables, output, layers = traced(create(name, stem="small", **classes), size)
    assert variables["params"]["conv1"]["conv"]["kernel"].shape[:2] == (3, 3)
    assert layers["conv1"][:2] == (size, size)
    assert "pool1" not in layers
    assert output.shape[1:] == ((10,) if classes else layers["pool5"])


def test_width_scales_each_tower():
    variables = shapes(alexnet(width=0.3, min_depth=20, num_classes=7), 227)
    widths = {name: layer[next(iter(layer))]["bias"].size for name, layer in variables["params"].items()}
    # 2 * max(int(c / 2 * 0.3), 20), and int(4096 * 0.3)
    expected = {"conv1": 40, "conv2": 76, "conv3": 114, "conv4": 114, "conv5": 76, "fc6": 1228, "fc7": 1228, "fc8": 7}
    assert widths == expected


def test_two_towers_meet_in_conv3():
    model = tiny(lrn=None)
    variables, images = drawn(model, 67), images_of(2, 67)
    before = outputs(model, variables, images)
    variables["params"]["conv1"]["conv"]["kernel"] *= (jnp.arange(8) < 4).reshape(
        1, 1, 1, 8
    )  # silence the second tower's half of conv1
    after = outputs(model, variables, images)
    half = before["conv2"].shape[-1] // 2
    np.testing.assert_array_equal(before["conv2"][..., :half], after["conv2"][..., :half])
    assert not np.allclose(before["conv2"][..., half:], after["conv2"][..., half:])
    half = before["conv3"].shape[-1] // 2
    assert not np.allclose(before["conv3"][..., :half], after["conv3"][..., :half])


@pytest.mark.parametrize(("name", "size"), [("alexnet", 5), ("alexnet_tf_benchmark", 11)])
def test_lrn_is_the_papers(name, size):
    model = create(name, width=0.25)
    found = outputs(model, drawn(model, 67), 40 * images_of(1, 67))
    a = np.asarray(found["conv1"], np.float64)
    total = np.stack([(a[..., max(0, i - size // 2) : i + size // 2 + 1] ** 2).sum(-1) for i in range(a.shape[-1])], -1)
    np.testing.assert_allclose(found["lrn1"], a / (2 + 1e-4 * total) ** 0.75, rtol=1e-5)
    assert np.abs(found["lrn1"] - a / 2**0.75).max() > 1
    assert "lrn1" not in outputs(tiny(lrn=None), drawn(tiny(), 67), images_of(1, 67))


@pytest.mark.parametrize(("name", "rows"), [("alexnet", 0), ("alexnet_owt", 2), ("alexnet_tf_benchmark", 3)])
def test_rows_before_the_image(name, rows):
    """TensorFlow's SAME pads 68 pixels to 75: three rows before and four after."""
    model = create(name, width=1 / 16, head="pooled")
    variables, images = drawn(model, 68), images_of(1, 68)
    kernel, bias = (variables["params"]["conv1"]["conv"][leaf] for leaf in ("kernel", "bias"))
    side = 11 - rows
    corner = np.einsum("hwc,hwco->o", images[0, :side, :side], kernel[rows:, rows:]) + bias
    found = outputs(model, variables, images)["conv1"]
    np.testing.assert_allclose(found[0, 0, 0], np.maximum(corner, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("average", np.mean)])
@pytest.mark.parametrize("overlapping", [True, False])
def test_pooling(pooling, reduce, overlapping):
    model = tiny(pooling=pooling, overlapping=overlapping)
    found = outputs(model, drawn(model, 67), images_of(1, 67))
    window = 3 if overlapping else 2
    patch = found["lrn1"][0, 4 : 4 + window, 6 : 6 + window]
    np.testing.assert_allclose(found["pool1"][0, 2, 3], reduce(patch, axis=(0, 1)), rtol=1e-5)


def test_pools_without_overlap_have_the_same_sizes():
    assert endpoints(alexnet(overlapping=False), 227) == endpoints(alexnet(), 227)


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0, 9e9), ("tanh", -1, 1), ("sigmoid", 0, 1)])
def test_activation(activation, low, high):
    model = tiny(activation=activation)
    found = outputs(model, drawn(model, 67), 3 * images_of(2, 67))
    for name in ("conv1", "conv5", "fc6", "fc7"):
        assert low <= found[name].min() < found[name].max() <= high
    assert found["fc8"].min() < 0
    assert (found["conv1"].min() < 0) == (activation == "tanh")
    assert (found["conv1"].max() > 1) == (activation == "relu")


def test_dropout_of_outputs_or_of_inputs():
    variables, images = drawn(tiny(), 67), images_of(2, 67)
    for dropout_inputs, dropped, whole in ((False, ("fc6", "fc7"), "pool5"), (True, ("pool5", "fc6"), "fc7")):
        model = tiny(dropout_inputs=dropout_inputs)
        found = outputs(model, variables, images, train=True, rngs={"dropout": jax.random.key(0)})
        for name in dropped:
            kept = found[f"dropout{name[-1]}"]
            assert 0.3 < jnp.mean(kept[found[name] > 0] == 0) < 0.7
            np.testing.assert_allclose(kept[kept != 0], 2 * found[name][kept != 0], rtol=1e-6)
        assert f"dropout{whole[-1]}" not in found
    np.testing.assert_array_equal(
        tiny(dropout=0.0).apply(variables, images, train=True), tiny().apply(variables, images, train=False)
    )


def test_batch_norm_replaces_the_biases():
    names = {f"conv{i}" for i in range(1, 6)}
    variables = shapes(tiny(norm="batch"), 67)
    assert set(variables["batch_stats"]) == names
    assert all(set(variables["params"][name]["conv"]) == {"kernel"} for name in names)


def test_dense_and_convolutional_heads_share_parameters():
    dense = alexnet(width=1 / 48, num_classes=5)
    convolutional = dense.clone(head="convolutional")
    variables, images = drawn(dense, 227), images_of(2, 259)
    np.testing.assert_allclose(
        dense.apply(variables, images[:, :227, :227], train=False),
        convolutional.apply(variables, images[:, :227, :227], train=False),
        rtol=1e-5,
        atol=1e-6,
    )
    logits = convolutional.apply(variables, images, train=False)
    assert logits.shape == (2, 2, 2, 5)
    pooled = convolutional.clone(global_pool=True).apply(variables, images, train=False)
    np.testing.assert_allclose(pooled, logits.mean((1, 2)), rtol=1e-4, atol=1e-5)


# The standard deviation of conv3's and of fc6's kernel at width 1/4, and the biases that are not zero.
NOT_ZERO = ("conv2", "conv4", "conv5", "fc6", "fc7")
INITIAL = {
    "paper": (0.01, 0.01, dict.fromkeys(NOT_ZERO, 1.0)),
    # sqrt(1 / (3 * fan in)), for 9 * 64 and 64
    "torchvision": ((1 / (3 * 9 * 64)) ** 0.5, (1 / (3 * 64)) ** 0.5, {}),
    # sqrt(2 / (9 * (64 + 96))); a Gaussian cut at two standard deviations has 0.88 of its standard deviation
    "slim": ((2 / (9 * 160)) ** 0.5, 0.88 * 0.005, dict.fromkeys(("conv1", "conv3", *NOT_ZERO), 0.1)),
    "tensorflow": (0.88 * 0.1, 0.88 * 0.1, {}),
}


@pytest.mark.parametrize("initializer", INITIAL)
def test_initial_weights(initializer):
    conv, dense, biases = INITIAL[initializer]
    model = alexnet(width=0.25, initializer=initializer, num_classes=10)
    params = model.init(jax.random.key(0), jnp.zeros((1, 67, 67, 3)), train=False)["params"]
    np.testing.assert_allclose(params["conv3"]["conv"]["kernel"].std(), conv, rtol=0.02)
    np.testing.assert_allclose(params["fc6"]["dense"]["kernel"].std(), dense, rtol=0.02)
    for name, layer in params.items():
        np.testing.assert_allclose(layer[next(iter(layer))]["bias"], biases.get(name, 0.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": "2013"}, "channels must be one of .*, got '2013'; the nearest is '2012'"),
        ({"towers": 3}, "towers must be one of 1, 2, got 3"),
        ({"padding": "valid2"}, "padding must be one of valid, symmetric, same, got 'valid2'; the nearest is 'valid'"),
        ({"lrn": 0}, "lrn must be at least 1 or None, got 0"),
        ({"pooling": "avg"}, "pooling must be one of max, average, got 'avg'"),
        ({"initializer": "he"}, "initializer must be one of paper, torchvision, slim, tensorflow, got 'he'"),
        ({"stem": "tiny"}, "stem must be one of imagenet, small, got 'tiny'"),
        ({"head": None}, "num_classes must be None where head is None, got 1000"),
        ({"global_pool": True}, "global_pool must be False unless head is 'convolutional', got True with 'dense'"),
        ({"fc6_window": 1}, "fc6_window must be in \\[2, 100\\], got 1"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        alexnet(**fields)


@pytest.mark.parametrize(("constants", "k", "alpha"), [("paper", 2.0, 1e-4), ("caffe", 1.0, 1e-4 / 5)])
def test_response_norm_has_the_papers_constants_or_caffes(constants, k, alpha):
    """Caffe's lrn_layer divides alpha by the size, and its k is 1 by default."""
    x = np.random.default_rng(0).normal(0, 30, (1, 2, 2, 8)).astype("f")
    norm = response_norm(constants, name="lrn")
    found = norm.apply({}, x)
    squares = np.pad(x.astype(np.float64) ** 2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    total = sum(squares[..., i : i + 8] for i in range(5))
    np.testing.assert_allclose(found, x / (k + alpha * total) ** 0.75, rtol=1e-5)
    for name, fields in (("alexnet", {}), ("inception_v1", {"auxiliary": False})):
        model = create(name, lrn_constants=constants, num_classes=3, width=0.05, **fields)
        norms = []

        def record(call, arguments, keywords, context, norms=norms):
            norms.append(context.module)
            return call(*arguments, **keywords)

        with nn.intercept_methods(record):
            jax.eval_shape(
                lambda x, model=model: model.init(jax.random.key(0), x, train=False), np.zeros((1, 96, 96, 3))
            )
        kinds = {(module.k, module.alpha) for module in norms if isinstance(module, type(norm))}
        assert kinds == {(k, alpha)}

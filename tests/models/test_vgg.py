"""VGG: exact counts, slim's endpoints, the heads, single kernels, warm start, one training step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.networks import apply, count, distance, drawn, endpoints, images_of, outputs, shapes, traced

from classicnets.complexity.counts import describe
from classicnets.models import create
from classicnets.models.vgg import ENTRIES, VGG, warm_start

vgg11, vgg13, vgg16_c, vgg16, vgg19 = (partial(create, f"vgg{name}") for name in ("11", "13", "16_c", "16", "19"))
tiny = partial(VGG, width=1 / 16, num_classes=10)


def test_parameters_do_not_depend_on_the_image_size():
    assert count(shapes(vgg16(head="convolutional"), 256)) == 138_357_544
    assert count(shapes(vgg16(adaptive_pool=True), 32)) == 138_357_544  # torchvision's least


@pytest.mark.parametrize("name", ENTRIES)
def test_names_count_weighted_layers(name):
    variables = shapes(create(name), 224)
    layers = [layer for layer in variables["params"] if layer.startswith(("conv", "fc"))]
    assert len(layers) == int(name[3:5])


def slims(configuration):
    """slim's endpoints at 224x224: the layers of each stage and its pool, and the head as convolutions."""
    table, side = {}, 224
    for stage, (convolutions, channels) in enumerate(zip(configuration, (64, 128, 256, 512, 512), strict=True), 1):
        table |= {f"conv{stage}_{i}": (side, side, channels) for i in range(1, convolutions + 1)}
        side //= 2
        table[f"pool{stage}"] = (side, side, channels)
    return table | {"fc6": (1, 1, 4096), "fc7": (1, 1, 4096), "fc8": (1000,)}


@pytest.mark.parametrize(
    ("network", "convolutions"),
    [(vgg11, (1, 1, 2, 2, 2)), (vgg16, (2, 2, 3, 3, 3)), (vgg19, (2, 2, 4, 4, 4))],
    ids=["vgg_a", "vgg_16", "vgg_19"],
)
def test_slims_endpoints_and_outputs(network, convolutions):
    network = partial(network, head="convolutional")
    found = endpoints(network(), 224)
    assert {layer: shape for layer, shape in found.items() if not layer.startswith("dropout")} == slims(convolutions)
    assert traced(network(spatial_squeeze=False), 256, 256)[1].shape[1:] == (2, 2, 1000)
    assert traced(network(spatial_squeeze=False, global_pool=True), 256, 256)[1].shape[1:] == (1, 1, 1000)
    assert traced(network(global_pool=True), 256, 320)[1].shape[1:] == (1000,)
    assert traced(network(num_classes=None), 224, 224)[1].shape[1:] == (1, 1, 4096)


@pytest.mark.parametrize("head", ["dense", "convolutional", "pooled"])
@pytest.mark.parametrize("size", [28, 32])
def test_small_stem(head, size):
    _, output, layers = traced(vgg16(stem="small", head=head, num_classes=10), size)
    assert output.shape == (1, 10)
    assert "pool1" not in layers
    assert layers["conv2_2"] == (size, size, 128)


def test_width():
    variables = shapes(vgg16(width=0.3, min_depth=30), 224)["params"]
    widths = {name: layer[next(iter(layer))]["bias"].size for name, layer in variables.items()}
    stages = {1: 30, 2: 38, 3: 76, 4: 153, 5: 153}
    assert {name: n for name, n in widths.items() if name.startswith("conv")} == {
        f"conv{stage}_{i}": n for stage, n in stages.items() for i in range(1, 3 + (stage > 2))
    }
    assert [widths[name] for name in ("fc6", "fc7", "fc8")] == [1228, 1228, 1000]


# The side of each stage's one kernel, and the pixels that a position of pool5 sees: 1 + sum of (side - 1) * stride.
@pytest.mark.parametrize(
    ("network", "sides", "field"),
    [
        (vgg11, (3, 3, 5, 5, 5), 150),
        (vgg13, (5, 5, 5, 5, 5), 156),
        (vgg16_c, (5, 5, 5, 5, 5), 156),
        (vgg16, (5, 5, 7, 7, 7), 212),
        (vgg19, (5, 5, 9, 9, 9), 268),
    ],
)
def test_single_kernels_have_the_stacks_receptive_field(network, sides, field):
    single = network(kernel="single", width=1 / 32)
    params = shapes(single, 64)["params"]
    found = {name: layer["conv"]["kernel"].shape[:2] for name, layer in params.items() if name.startswith("conv")}
    assert found == {f"conv{stage}_1": (side, side) for stage, side in enumerate(sides, 1)}
    for model in (single, single.clone(kernel="stack")):
        fields = {layer["name"]: layer["receptive_field"] for layer in describe(model, (224, 224, 3))["layers"]}
        assert fields["pool5"] == field


def test_a_stack_has_fewer_parameters():
    stack, single = (shapes(vgg16(kernel=kernel), 224)["params"] for kernel in ("stack", "single"))
    weights = sum(stack[f"conv5_{i}"]["conv"]["kernel"].size for i in (1, 2, 3))
    assert weights == 27 * 512**2  # section 2.3: 27 C^2 beside 49 C^2
    assert single["conv5_1"]["conv"]["kernel"].size == 49 * 512**2


def test_dense_and_convolutional_heads_share_parameters():
    dense = vgg11(width=1 / 32, num_classes=5)
    convolutional = dense.clone(head="convolutional")
    variables, images = drawn(dense, 224), images_of(1, 256)
    corner = images[:, :224, :224]
    expected = apply(dense, variables, corner)
    np.testing.assert_allclose(apply(convolutional, variables, corner), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        apply(dense.clone(adaptive_pool=True), variables, corner), expected, rtol=1e-5, atol=1e-6
    )
    logits = apply(convolutional, variables, images)
    assert logits.shape == (1, 2, 2, 5)
    pooled = apply(convolutional.clone(global_pool=True), variables, images)
    np.testing.assert_allclose(pooled, logits.mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert distance(logits[:, 0, 0], logits[:, 1, 1]) > 0.01


def test_lrn_follows_the_first_convolution():
    plain, normalised = vgg11(width=1 / 8), create("vgg11_lrn", width=1 / 8)
    assert jax.tree.structure(shapes(plain, 32)) == jax.tree.structure(shapes(normalised, 32))
    assert set(endpoints(normalised, 32)) - set(endpoints(plain, 32)) == {"lrn1"}
    found = outputs(normalised, drawn(plain, 32), images_of(1, 32))
    total = np.stack([(found["conv1_1"][..., max(0, i - 2) : i + 3] ** 2).sum(-1) for i in range(8)], -1)
    np.testing.assert_allclose(found["lrn1"], found["conv1_1"] / (2 + 1e-4 * total) ** 0.75, rtol=1e-5)
    np.testing.assert_allclose(found["pool1"][0, 1, 2], found["lrn1"][0, 2:4, 4:6].max((0, 1)), rtol=1e-6)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_warm_start(norm):
    a, e = (tiny(configuration=configuration, norm=norm) for configuration in "AE")
    trained, fresh = drawn(a, 32, seed=1), drawn(e, 32, seed=2)
    warm = warm_start(fresh, trained)
    copied = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"}  # section 3.1
    before, source = flatten_dict(fresh), flatten_dict(trained)
    assert jax.tree.structure(warm) == jax.tree.structure(fresh)
    for path, leaf in flatten_dict(warm).items():
        assert leaf is (source if path[1] in copied else before)[path], path
    assert len({path[1] for path in before}) - len(copied) == 12  # the other convolutions of E


def test_warm_start_refuses_what_does_not_fit():
    trained = drawn(tiny(configuration="A"), 32)
    with pytest.raises(ValueError, match=r"^fc8 must have the same shapes in both networks, got .* for .*$"):
        warm_start(drawn(tiny(num_classes=11), 32), trained)
    with pytest.raises(ValueError, match=r"^fc6 must have the same shapes in both networks, got .* for None$"):
        warm_start(drawn(tiny(head="pooled"), 32), trained)
    with pytest.raises(ValueError, match=r"^conv1_1 must have the same shapes in both networks, got .* for .*$"):
        warm_start(drawn(tiny(norm="batch"), 32), trained)


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [("gaussian", 0.1), ("glorot", (2 / (9 * (32 + 64))) ** 0.5), ("he", (2 / (9 * 32)) ** 0.5)],
)
def test_initial_weights(initializer, deviation):
    model = vgg11(width=0.25, initializer=initializer, head=None, num_classes=None)
    params = jax.jit(model.init, static_argnames="train")(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)[
        "params"
    ]
    np.testing.assert_allclose(params["conv3_1"]["conv"]["kernel"].std(), deviation, rtol=0.02)
    assert all(not layer["conv"]["bias"].any() for layer in params.values())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"configuration": "F"}, "configuration must be one of A, B, C, D, E, got 'F'"),
        ({"kernel": "5x5"}, "kernel must be one of stack, single, got '5x5'"),
        ({"initializer": "paper"}, "initializer must be one of gaussian, glorot, he, got 'paper'"),
        ({"stem": "tiny"}, "stem must be one of imagenet, small, got 'tiny'"),
        ({"head": None}, "num_classes must be None where head is None, got 1000"),
        ({"global_pool": True, "head": "pooled"}, "global_pool must be False unless .*, got True with 'pooled'"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        VGG(**fields).check()


def test_activation_and_dropout():
    variables, images = drawn(tiny(), 32), images_of(2, 32)
    for activation, low, high in (("relu", 0, np.inf), ("tanh", -1, 1), ("sigmoid", 0, 1)):
        layers = outputs(tiny(activation=activation), variables, images)
        for name in ("conv1_1", "conv4_3", "fc7"):
            found = layers[name]
            assert low <= found.min() < found.max() <= high
            assert (found.min() < 0) == (activation == "tanh")
    one, two = (tiny().apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)}) for seed in (0, 1))
    assert not np.allclose(one, two)
    np.testing.assert_allclose(
        tiny(dropout=0.0).apply(variables, images, train=True), tiny().apply(variables, images, train=False)
    )

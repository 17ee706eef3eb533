"""VGG: exact counts, slim's endpoints, the heads, single kernels, warm start, one training step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from classicnets.complexity.counts import describe
from classicnets.models.vgg import CONFIGURATIONS, NETWORKS, VGG, vgg11, vgg13, vgg16, vgg16_c, vgg19, warm_start
from classicnets.weights.vgg import torchvision

tiny = partial(VGG, width=1 / 16, num_classes=10)


def shapes(model, *sizes):
    """(shape of the output, {layer: shape of its output}, variables as shapes) for one image of `sizes`."""
    images = jax.ShapeDtypeStruct((1, *sizes, 3), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    output, state = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, capture_intermediates=True, mutable="intermediates"),
        variables,
        images,
    )
    found = flatten_dict(state["intermediates"])
    layers = {path[0]: value[0].shape[1:] for path, value in found.items() if len(path) == 2}
    return output.shape[1:], layers, variables


def parameters(model, size=224):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model, size, size)[2]["params"]))


def drawn(model, size, seed=0):
    """Variables whose kernels are He-scaled, whose biases are small and whose variances are about 1."""
    random = np.random.default_rng(seed)
    leaves = {
        path: random.uniform(0.5, 1.5, leaf.shape)
        if path[-1] in ("scale", "var")
        else random.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim > 1 else 0.1, leaf.shape)
        for path, leaf in flatten_dict(shapes(model, size, size)[2]).items()
    }
    return unflatten_dict({path: jnp.asarray(leaf, jnp.float32) for path, leaf in leaves.items()})


def images_of(n, *sizes, seed=1):
    return jax.random.normal(jax.random.key(seed), (n, *sizes, 3))


def apply(model, variables, images):
    return jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)


def test_parameters_do_not_depend_on_the_image_size():
    assert parameters(vgg16(head="convolutional"), 256) == 138_357_544
    assert parameters(vgg16(adaptive_pool=True), 32) == 138_357_544  # torchvision's least


@pytest.mark.parametrize("name", NETWORKS)
def test_names_count_weighted_layers(name):
    variables = shapes(NETWORKS[name](), 224, 224)[2]
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
    found = shapes(network(), 224, 224)[1]
    assert {layer: shape for layer, shape in found.items() if not layer.startswith("dropout")} == slims(convolutions)
    assert shapes(network(spatial_squeeze=False), 256, 256)[0] == (2, 2, 1000)
    assert shapes(network(spatial_squeeze=False, global_pool=True), 256, 256)[0] == (1, 1, 1000)
    assert shapes(network(global_pool=True), 256, 320)[0] == (1000,)
    assert shapes(network(num_classes=None), 224, 224)[0] == (1, 1, 4096)


@pytest.mark.parametrize(
    ("fields", "smallest"),
    [({}, 32), ({"adaptive_pool": True}, 32), ({"head": "convolutional"}, 224), ({"stem": "small"}, 16)],
)
def test_smallest_images(fields, smallest):
    shapes(tiny(**fields), smallest, smallest)
    with pytest.raises(ValueError, match=rf"at least {smallest}x{smallest} pixels, got {smallest}x{smallest - 1}\b"):
        shapes(tiny(**fields), smallest, smallest - 1)


@pytest.mark.parametrize("head", ["dense", "convolutional", "pooled"])
@pytest.mark.parametrize("size", [28, 32])
def test_small_stem(head, size):
    output, layers, _ = shapes(vgg16(stem="small", head=head, num_classes=10), size, size)
    assert output == (10,)
    assert "pool1" not in layers
    assert layers["conv2_2"] == (size, size, 128)


def test_width():
    variables = shapes(vgg16(width=0.3, min_depth=30), 224, 224)[2]["params"]
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
    params = shapes(single, 64, 64)[2]["params"]
    found = {name: layer["conv"]["kernel"].shape[:2] for name, layer in params.items() if name.startswith("conv")}
    assert found == {f"conv{stage}_1": (side, side) for stage, side in enumerate(sides, 1)}
    for model in (single, single.clone(kernel="stack")):
        fields = {layer["name"]: layer["receptive_field"] for layer in describe(model, (224, 224, 3))["layers"]}
        assert fields["pool5"] == field


def test_a_stack_has_fewer_parameters():
    stack, single = (shapes(vgg16(kernel=kernel), 224, 224)[2]["params"] for kernel in ("stack", "single"))
    weights = sum(stack[f"conv5_{i}"]["conv"]["kernel"].size for i in (1, 2, 3))
    assert weights == 27 * 512**2  # section 2.3: 27 C^2 beside 49 C^2
    assert single["conv5_1"]["conv"]["kernel"].size == 49 * 512**2


def test_dense_and_convolutional_heads_share_parameters():
    dense = vgg11(width=1 / 32, num_classes=5)
    convolutional = dense.clone(head="convolutional")
    variables, images = drawn(dense, 224), images_of(1, 256, 256)
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
    assert jnp.linalg.norm(logits[:, 0, 0] - logits[:, 1, 1]) > 0.01 * jnp.linalg.norm(logits)


def test_lrn_follows_the_first_convolution():
    plain, normalised = vgg11(width=1 / 8), NETWORKS["vgg11_lrn"](width=1 / 8)
    assert jax.tree.structure(shapes(plain, 32, 32)[2]) == jax.tree.structure(shapes(normalised, 32, 32)[2])
    layers = list(shapes(normalised, 32, 32)[1])
    assert set(layers) - set(shapes(plain, 32, 32)[1]) == {"lrn1"}
    variables, images = drawn(plain, 32), images_of(1, 32, 32)
    _, state = normalised.apply(variables, images, train=False, capture_intermediates=True, mutable="intermediates")
    found = {name: state["intermediates"][name]["__call__"][0] for name in ("conv1_1", "lrn1", "pool1")}
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
        ({"norm": "layer"}, "norm must be one of batch, None, got 'layer'"),
        ({"activation": "gelu"}, "activation must be one of relu, tanh, sigmoid, got 'gelu'"),
        ({"dropout": -0.5}, r"dropout must be in \[0, 1\), got -0.5"),
        ({"head": "pool"}, "head must be one of dense, convolutional, pooled, None, got 'pool'; .* 'pooled'"),
        ({"head": None}, "num_classes must be None where head is None, got 1000"),
        ({"global_pool": True, "head": "pooled"}, "global_pool must be False unless .*, got True with 'pooled'"),
        ({"min_depth": 0}, "min_depth must be .*, got 0"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        VGG(**fields).check()


def test_activation_and_dropout():
    variables, images = drawn(tiny(), 32), images_of(2, 32, 32)
    for activation, low, high in (("relu", 0, np.inf), ("tanh", -1, 1), ("sigmoid", 0, 1)):
        _, state = tiny(activation=activation).apply(
            variables, images, train=False, capture_intermediates=True, mutable="intermediates"
        )
        for name in ("conv1_1", "conv4_3", "fc7"):
            found = state["intermediates"][name]["__call__"][0]
            assert low <= found.min() < found.max() <= high
            assert (found.min() < 0) == (activation == "tanh")
    one, two = (tiny().apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)}) for seed in (0, 1))
    assert not np.allclose(one, two)
    np.testing.assert_allclose(
        tiny(dropout=0.0).apply(variables, images, train=True), tiny().apply(variables, images, train=False)
    )


# Batch norm subtracts the mean, so that the bias before it has no effect in training: its gradient is rounding.
CANCELLED = {("conv", "bias")}


@pytest.mark.parametrize(
    "model",
    [tiny(configuration="C"), tiny(configuration="A", norm="batch", head="pooled"), tiny(configuration="A", lrn=True)],
    ids=["C", "batch", "lrn"],
)
def test_a_training_step_and_bfloat16(model):
    variables, images = drawn(model, 32), images_of(4, 32, 32)
    labels = jnp.arange(4)
    rngs = {"dropout": jax.random.key(2)}

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, images, train=True, rngs=rngs, mutable=["batch_stats"])
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    for path, gradient in flatten_dict(gradients).items():
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0) or (model.norm and path[1:] in CANCELLED), path

    logits = apply(model, variables, images)
    np.testing.assert_allclose(model.apply(variables, images, train=False), logits, rtol=1e-4, atol=1e-5)
    half = apply(model.clone(dtype=jnp.bfloat16), variables, images)
    assert half.dtype == jnp.bfloat16
    assert jnp.linalg.norm(half - logits) < 0.02 * jnp.linalg.norm(logits)


# The numbers of the convolutions in torchvision's vgg11().features and vgg16_bn().features.
NUMBERS = {
    "vgg11": (0, 3, 6, 8, 11, 13, 16, 18),
    "vgg16_bn": (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_torchvision_keys(name):
    network = NETWORKS[name]()
    paths = flatten_dict(shapes(network, 224, 224)[2])
    keys = {path: torchvision(path, None, network)[0] for path in paths}
    expected = {f"features.{i}.{leaf}" for i in NUMBERS[name] for leaf in ("weight", "bias")}
    expected |= {f"classifier.{i}.{leaf}" for i in (0, 3, 6) for leaf in ("weight", "bias")}
    if network.norm:
        leaves = ("weight", "bias", "running_mean", "running_var")
        expected |= {f"features.{i + 1}.{leaf}" for i in NUMBERS[name] for leaf in leaves}
    assert set(keys.values()) == expected
    assert len(keys) == len(expected)
    first = [
        f"conv{s}_{i}" for s, k in enumerate(CONFIGURATIONS[network.configuration], 1) for i in range(1, len(k) + 1)
    ]
    assert [keys["params", layer, "conv", "kernel"] for layer in first] == [
        f"features.{i}.weight" for i in NUMBERS[name]
    ]
    if network.norm:
        assert keys["params", "conv2_1", "norm", "scale"] == "features.8.weight"
        assert keys["batch_stats", "conv2_1", "norm", "var"] == "features.8.running_var"

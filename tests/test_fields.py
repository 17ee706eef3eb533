"""Fields of networks: types and values refused in one sentence, heads that mean one thing in every family."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import classicnets
from classicnets.complexity.counts import describe, variables_of
from classicnets.models import MODELS, create, from_facts, input_size
from classicnets.models.features import features
from classicnets.runs.identity import describe as described

CLASSES = ("alexnet", "vgg16", "inception_v1", "inception_v2", "inception_v3", "resnet50", "cifar_resnet")
CIFAR = ("cifar_resnet", "cifar_resnet_v2", "cifar_wide_resnet")


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("width", "2", "a number"),
        ("width", None, "a number"),
        ("width", True, "a number"),
        ("num_classes", 1.5, "an integer or None"),
        ("num_classes", True, "an integer or None"),
        ("min_depth", "1", "an integer"),
        ("dropout", "x", "a number"),
        ("activation", 1.5, "one of relu, tanh, sigmoid"),
        ("axis_name", 5, "a string or None"),
    ],
)
def test_a_value_of_another_type_is_refused(name, field, value, what):
    with pytest.raises(ValueError) as refused:
        classicnets.create(name, **{field: value})
    assert str(refused.value) == f"{field} must be {what}, got {value!r}"


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("resnet50", {"units": 5}, "units must be a tuple of an integer, got 5"),
        ("resnet50", {"units": (1.5,) * 4}, "units must be a tuple of an integer, got (1.5, 1.5, 1.5, 1.5)"),
        ("resnet50", {"output_stride": "8"}, "output_stride must be an integer or None, got '8'"),
        ("resnet50", {"preactivation": "false"}, "preactivation must be True or False, got 'false'"),
        (
            "inception_v3",
            {"branches": "pool"},
            "branches must be a tuple of '1x1', 'nxn', 'double', 'pool', got 'pool'",
        ),
        ("inception_v1", {"reduce": "false"}, "reduce must be True or False, got 'false'"),
        ("inception_v1", {"kernel": "3"}, "kernel must be one of 5, 3, got '3'"),
        ("alexnet", {"towers": True}, "towers must be an integer, got True"),
        ("vgg16", {"lrn": 5}, "lrn must be True or False, got 5"),
        ("cifar_resnet", {"depth": 20.0}, "depth must be an integer, got 20.0"),
        ("cifar_resnet", {"dtype": None}, "dtype must be float32, bfloat16 or float64, got None"),
        ("cifar_resnet", {"dtype": 5}, "dtype must be float32, bfloat16 or float64, got 5"),
        ("cifar_resnet", {"dtype": "int8"}, "dtype must be float32, bfloat16 or float64, got int8"),
        ("cifar_wide_resnet", {"widen": 1.5}, "widen must be an integer, got 1.5"),
    ],
)
def test_fields_of_some_networks(name, fields, sentence):
    with pytest.raises(ValueError) as refused:
        classicnets.create(name, **fields)
    assert str(refused.value) == sentence


def test_images_without_a_batch_are_refused():
    for name in CLASSES:
        with pytest.raises(ValueError, match=r"images must be \[n, h, w, c\], got 3 axes"):
            jax.eval_shape(
                lambda n=name: classicnets.create(n).init(jax.random.key(0), jnp.zeros((32, 32, 3)), train=False)
            )


def test_the_order_of_branches_makes_no_other_network():
    for name, branches in (("inception_v1", ("pool", "1x1")), ("inception_v3", ("double", "nxn"))):
        assert classicnets.create(name, branches=branches) == classicnets.create(name, branches=branches[::-1])


@pytest.mark.parametrize("name", CIFAR)
def test_heads_of_the_cifar_networks(name):
    fields = {"width": 1 / 4, **({"depth": 16, "widen": 2} if "wide" in name else {"depth": 14})}
    net = classicnets.create(name, **fields)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 12, 3)), jnp.float32)
    variables = net.init(jax.random.key(0), images, train=False)
    pooled = net.apply(variables, images, train=False)
    np.testing.assert_allclose(net.clone(head="convolutional").apply(variables, images, train=False), pooled, rtol=1e-4)
    whole = variables_of(net.clone(head="dense"), (12, 12, 3))["params"]["head" if name == "cifar_resnet" else "logits"]
    channels = 32 if "wide" in name else 16
    assert whole["kernel"].shape == (3 * 3 * channels, 10)
    assert net.clone(head="dense", num_classes=None).apply(variables, images, train=False).shape == (2, 9 * channels)
    assert features(net, variables, images, ["global_pool"])["global_pool"].shape == (2, channels)


@pytest.mark.parametrize(
    "fields", [{"shortcut": "pool"}, {"shortcut": "B", "features": (8, 8, 8, 8)}, {"shortcut": "A"}]
)
@pytest.mark.parametrize("name", ["resnet18", "resnet50_v1_slim", "resnet50_v2_slim"])
def test_dilation_in_the_place_of_strides_changes_no_parameters(name, fields):
    shapes = [
        variables_of(
            classicnets.create(name, width=1 / 8, **{"features": (8, 16, 32, 64)} | fields, output_stride=s),
            (65, 65, 3),
        )
        for s in (None, 16, 8, 4)
    ]
    assert all(jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, shapes[0]) for one in shapes)


def test_features_in_training_take_the_keys_of_dropout():
    net = classicnets.create("vgg11", width=1 / 16, num_classes=3, stem="small")
    images = jnp.ones((2, 16, 16, 3))
    variables = net.init(jax.random.key(0), images, train=False)
    (found,) = features(net, variables, images, ["fc6"], train=True, rngs={"dropout": jax.random.key(0)}).values()
    assert found.shape == (2, 256)


def test_the_receptive_field_through_an_adaptive_pool_and_dropout():
    net = classicnets.create("vgg16", adaptive_pool=True)
    fields = {
        layer["name"]: (layer["receptive_field"], layer["stride"]) for layer in describe(net, (256, 256, 3))["layers"]
    }
    assert fields["adaptive_pool"] == (244, 32)  # windows of two of pool5's eight positions
    assert fields["fc6/dense"][0] == fields["dropout6"][0] == 244 + 6 * 32
    assert set(map(input_size, MODELS)) == {32, 224, 227, 299}


@pytest.mark.parametrize("name", MODELS)
def test_a_record_names_its_network(name):
    facts = json.loads(json.dumps(described(create(name, num_classes=None))))
    found, fields = from_facts(facts)
    assert found == name
    again = create(found, **fields)
    assert described(again) == described(create(name, num_classes=None))
    assert isinstance(hash(again), int)


def test_units_of_stacks_have_names_of_their_own():
    net = create("resnet50", width=1 / 16, num_classes=3, stem="small")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    variables = net.init(jax.random.key(0), images, train=False)
    names = ["block1/unit_1", "block1/unit_3", "block1", "block3/unit_4/conv1", "block3/units_2_6/conv1"]
    found = features(net, variables, images, names)
    np.testing.assert_array_equal(found["block1/unit_3"], found["block1"])  # a block ends in its last unit
    np.testing.assert_array_equal(found["block3/unit_4/conv1"], found["block3/units_2_6/conv1"][2])
    for name in ("block4/0", "conv1/1", "block1/unit_4", "block3/unit_7/conv1"):
        with pytest.raises(ValueError, match=f"there is no layer '{name}'"):
            features(net, variables, images, [name])
    cifar = create("cifar_resnet", depth=14, width=1 / 4)
    variables = cifar.init(jax.random.key(0), images, train=False)
    found = features(cifar, variables, images, ["stage1/1", "stage1"])
    np.testing.assert_array_equal(found["stage1/1"], found["stage1"][1])


def test_a_head_of_windows_starts_like_the_dense_one():
    """fc6 of 7x7 windows has the dense layer's fans, whatever the image size."""
    for initializer in ("glorot", "he"):
        net = create("vgg11", width=1 / 32, head="convolutional", initializer=initializer)
        stds = []
        for size in (224, 256):
            variables = net.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False)
            stds.append(variables["params"]["fc6"]["dense"]["kernel"].std())
        assert abs(stds[0] / stds[1] - 1) < 0.02

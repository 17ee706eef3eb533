"""torchvision's arrays reach their places, stacks in order; what does not fit is named."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from helpers.networks import leaves, shapes

from classicnets.models import ENTRIES, create, stacks
from classicnets.models.vgg import CONFIGURATIONS
from classicnets.weights import convert
from classicnets.weights.tables.torchvision import SOURCE, place

SMALL = {"width": 1 / 16, "num_classes": 3}


def variables(name, state, **fields):
    return convert.variables(SOURCE, name, state, **fields).variables


def mapping(model):
    """The function from a leaf's path to (key, torchvision's array -> ours)."""
    return lambda path: place(path, model)[:2]


def torch_state(name):
    """(our variables at random, the same in torchvision's layout)."""
    model = create(name, **SMALL)
    find, rng, state = mapping(model), np.random.default_rng(0), {}
    ours = {path: rng.normal(size=s).astype("f") for path, s in leaves(shapes(model, ENTRIES[name].size)).items()}
    for path, array in stacks.split(ours).items():
        key, _ = find(path)
        assert key not in state
        state[key] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return unflatten_dict(ours), state


@pytest.mark.parametrize("name", ["resnet34", "resnet50_v1_5"])
def test_arrays_reach_their_places(name):
    ours, state = torch_state(name)
    state["bn1.num_batches_tracked"] = np.zeros(())
    found = variables(name, state, **SMALL)
    assert jax.tree.structure(found) == jax.tree.structure(ours)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(ours), strict=True):
        np.testing.assert_array_equal(a, b)
    second = state["layer3.2.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["params"]["block3"]["units_2_6"]["conv2"]["kernel"][1], second)


def test_what_does_not_fit_is_named():
    _, state = torch_state("resnet18")
    for change, sentence in (
        ({"fc.weight": None}, "these are not torchvision's weights of resnet18: missing 'fc.weight'$"),
        ({"fc.scale": np.zeros(1)}, "weights of resnet18: without a place 'fc.scale'$"),
        ({"fc.bias": np.zeros(4)}, r"of another shape 'fc.bias' \[4\] for params/logits/bias \[3\]$"),
        ({"fc.bias": np.full(3, np.nan)}, "'fc.bias' holds 3 numbers that are not finite"),
        ({"fc.bias": np.zeros(3, int)}, "'fc.bias' must hold floating-point numbers, got int64"),
    ):
        changed = {key: value for key, value in {**state, **change}.items() if value is not None}
        with pytest.raises(ValueError, match=sentence):
            variables("resnet18", changed, **SMALL)
    with pytest.raises(ValueError, match="torchvision has no 'resnet50_v1'; the nearest is 'resnet50_v1_5'"):
        variables("resnet50_v1", {})


def test_alexnet():
    torchvision = mapping(create("alexnet_owt"))
    numbers = {f"features.{i}" for i in (0, 3, 6, 8, 10)} | {f"classifier.{i}" for i in (1, 4, 6)}
    keys = {torchvision(path)[0] for path in leaves(shapes(create("alexnet_owt"), 224))}
    assert keys == {f"{number}.{leaf}" for number in numbers for leaf in ("weight", "bias")}

    random = np.random.default_rng(0)
    weight, image = random.normal(size=(5, 4 * 36)), random.normal(size=(4, 6, 6))
    kernel = torchvision(("params", "fc6", "dense", "kernel"))[1](weight)
    np.testing.assert_allclose(np.einsum("hwco,chw->o", kernel, image), weight @ image.ravel())
    weight = random.normal(size=(5, 4, 3, 2))
    kernel = torchvision(("params", "conv2", "conv", "kernel"))[1](weight)
    np.testing.assert_array_equal(kernel[1, 0, 3, 2], weight[2, 3, 1, 0])


# The numbers of the convolutions in torchvision's vgg11().features and vgg16_bn().features.
NUMBERS = {
    "vgg11": (0, 3, 6, 8, 11, 13, 16, 18),
    "vgg16_bn": (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_vgg(name):
    network = create(name)
    keys = {path: mapping(network)(path)[0] for path in leaves(shapes(network, 224))}
    expected = {f"features.{i}.{leaf}" for i in NUMBERS[name] for leaf in ("weight", "bias")}
    expected |= {f"classifier.{i}.{leaf}" for i in (0, 3, 6) for leaf in ("weight", "bias")}
    if network.norm:
        names = ("weight", "bias", "running_mean", "running_var")
        expected |= {f"features.{i + 1}.{leaf}" for i in NUMBERS[name] for leaf in names}
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


def test_inception_v1():
    """Every leaf has its own key in torchvision's state_dict, and shapes agree after the transposition."""
    network = create("inception_v1_bn", width=0.5)
    keys = {path: mapping(network)(path) for path in leaves(shapes(network, 224))}
    assert len({key for key, _ in keys.values()}) == len(keys)
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


def test_inception_v3():
    find = mapping(create("inception_v3"))
    keys = {path: find(path)[0] for path in leaves(shapes(create("inception_v3"), 299))}
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
    _, kernel = find(("params", "mixed_6b", "nxn_2", "conv", "kernel"))
    assert kernel(np.zeros((2, 3, 1, 7))).shape == (1, 7, 3, 2)


def test_resnet():
    network = create("resnet50_v1_5")
    keys = {}
    for path, leaf in jax.eval_shape(stacks.split, flatten_dict(shapes(network, 64))).items():
        key, convert = mapping(network)(path)
        theirs = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[leaf.ndim]
        array = np.empty([leaf.shape[axis] for axis in theirs], np.int8)
        assert convert(array).shape == leaf.shape
        assert key not in keys
        keys[key] = array.shape
    assert len(keys) == 53 + 53 * 4 + 2
    assert keys["conv1.weight"] == (64, 3, 7, 7)
    assert keys["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert keys["layer3.5.bn2.running_var"] == (256,)
    assert keys["layer4.2.conv2.weight"] == (512, 512, 3, 3)
    assert keys["fc.weight"] == (1000, 2048)

"""Caffe's networks: blobs reach their places, norms and biases are folded, layers of CIFAR's nets go by their order."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers import checkpoints
from jax import lax

from classicnets.inference.net import load_weights
from classicnets.models import create, stacks
from classicnets.weights import convert
from classicnets.weights.files import read
from classicnets.weights.sources import recognise
from classicnets.weights.tables import caffe

pytestmark = pytest.mark.usefixtures("without_expensive_passes")
RNG = np.random.default_rng(0)


def conv(inputs, outputs, bias=True, kernel=3):
    blobs = [RNG.normal(0, (2 / kernel**2 / inputs) ** 0.5, (outputs, inputs, kernel, kernel))]
    return [blob.astype("f") for blob in [*blobs, *([RNG.normal(0, 0.3, outputs)] if bias else [])]]


def norm(width, factor):
    """Mean and variance times the factor, the factor; then scale and offset."""
    mean, var = RNG.normal(0, 0.3, width), RNG.uniform(0.5, 1.5, width)
    return [(mean * factor).astype("f"), (var * factor).astype("f"), np.array([factor], "f")], [
        RNG.uniform(0.5, 1.5, width).astype("f"),
        RNG.normal(0, 0.3, width).astype("f"),
    ]


def cifar(units):
    """[(name, type, blobs)] of a network for CIFAR, layers called by their numbers, as its convolutions compute."""
    layers, before = [], 3
    widths = [16, *(width for width in (16, 32, 64) for _ in range(2 * units))]
    for i, width in enumerate(widths):
        moments, affine = norm(width, 999.98)
        layers += [(f"Convolution{i}", "Convolution", conv(before, width, bias=i % 2 == 0))]
        layers += [(f"BatchNorm{i}", "BatchNorm", moments), (f"Scale{i}", "Scale", affine)]
        before = width
    return [
        *layers,
        ("fc", "InnerProduct", [RNG.normal(0, 0.2, (10, 64)).astype("f"), RNG.normal(size=10).astype("f")]),
    ]


def theirs(layers, images, shortcut):
    """Logits as Caffe computes them, in float64: half of each pair of layers folded nowhere."""
    held = {name: [np.asarray(blob, np.float64) for blob in blobs] for name, _, blobs in layers}

    def layer(x, i, stride=1):
        kernel = held[f"Convolution{i}"][0].transpose(2, 3, 1, 0)
        x = lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        if len(held[f"Convolution{i}"]) == 2:
            x = x + held[f"Convolution{i}"][1][None, None, None]
        mean, var, factor = held[f"BatchNorm{i}"]
        scale, bias = held[f"Scale{i}"]
        x = (x - (mean / factor)[None, None, None]) / np.sqrt(var / factor + 1e-5)[None, None, None]
        return x * scale[None, None, None] + bias[None, None, None]

    x, i = jax.nn.relu(layer(images.astype(np.float64), 0)), 1
    for stage in range(3):
        for unit in range((len(layers) // 3 - 1) // 6):
            stride = 2 if stage and not unit else 1
            y = layer(jax.nn.relu(layer(x, i, stride)), i + 1)
            i += 2
            if shortcut == "A":
                x = np.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
                y = y + x
            x = jax.nn.relu(y)
    return x.mean((1, 2)) @ held["fc"][0].T + held["fc"][1][None]


@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_a_cifar_network_by_the_order_of_its_layers(shortcut, tmp_path):
    layers = cifar(1)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(checkpoints.caffemodel(layers))
    with pytest.raises(ValueError, match=r"choose one of .* --shortcut A; --source caffe .* --shortcut none"):
        load_weights(path)
    net = load_weights(path, model="cifar_resnet", shortcut=shortcut)
    images = RNG.normal(size=(3, 12, 12, 3)).astype("f")
    with jax.enable_x64(True):
        expected = np.asarray(theirs(layers, images, shortcut))
    found = np.asarray(net.model.apply(net.variables, images, train=False))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def blobs_of(name, **fields):
    """(leaves of our network drawn at random, the blobs of Caffe's that they are) by the table itself."""
    model = create(name, **fields)
    shapes = convert.shapes_of(name, fields)
    leaves = stacks.split({path: RNG.normal(size=shape.shape).astype("f") for path, shape in shapes.items()})
    places = {path: caffe.place(path, model) for path in leaves}
    return leaves, {places[path].key: places[path].theirs(leaf) for path, leaf in leaves.items()}


def test_names_of_resnet_and_what_is_folded():
    leaves, blobs = blobs_of("resnet101", width=0.05, num_classes=7, pool_padding="same")
    assert {
        "res2a_branch1.0",
        "bn2a_branch1.1",
        "scale4b22_branch2c.1",
        "res5c_branch2b.0",
        "bn_conv1.0",
    } <= blobs.keys()
    arrays = {}
    for key, blob in blobs.items():  # conv1 with a bias, as the ResNet of 50 layers has; norms with their factors
        arrays[key] = blob
        if key.startswith("bn") and key.endswith(".1"):
            name = key[:-2]
            arrays |= {f"{name}.0": blobs[f"{name}.0"] * 2, key: np.abs(blob) * 2, f"{name}.2": np.array([2.0], "f")}
    bias = RNG.normal(size=blobs["conv1.0"].shape[0]).astype("f")
    order = ["conv1.0", "conv1.1", "bn_conv1.0", "bn_conv1.1", "bn_conv1.2"]
    arrays = {key: {**arrays, "conv1.1": bias}[key] for key in order} | arrays
    (fit,) = caffe.guess(arrays)
    assert fit == ("resnet101", {"num_classes": 7, "pool_padding": "same"})
    found = convert.variables(caffe.SOURCE, "resnet101", arrays, **fit.fields, width=0.05)
    flat = stacks.split(flatten_dict(found.variables))
    for path, leaf in leaves.items():
        expected = np.abs(leaf) if path[-1] == "var" else leaf
        if path[1:] == ("conv1_norm", "mean"):
            expected = (leaf.astype(np.float64) - bias).astype("f")
        np.testing.assert_array_equal(flat[path], expected, err_msg=str(path))
    back = convert.arrays(
        caffe.SOURCE, "resnet101", found.variables, found.extras, found.keys, **fit.fields, width=0.05
    )
    assert list(back) == list(arrays)
    assert all(back[key].tobytes() == array.tobytes() for key, array in arrays.items())


def test_an_epsilon_of_the_file_is_folded(tmp_path):
    moments, affine = norm(4, 1.0)
    layers = [("c", "Convolution", conv(3, 4)), ("bn", "BatchNorm", moments), ("s", "Scale", affine)]
    (tmp_path / "a.caffemodel").write_bytes(checkpoints.caffemodel(layers, epsilon=1e-3))
    arrays = read(tmp_path / "a.caffemodel")
    assert arrays["bn.epsilon"] == np.float32(1e-3)
    made = caffe.prepared(arrays)
    expected = moments[1].astype(np.float64) + (float(np.float32(1e-3)) - 1e-5)
    np.testing.assert_array_equal(made["bn.1"], expected.astype("f"))
    assert set(made) == {"c.0", "bn.0", "bn.1", "s.0", "s.1"}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("alexnet", {"conv2.0", "fc6.0", "fc8.1"}),
        ("vgg16", {"conv5_3.0", "fc7.0"}),
        (
            "inception_v1",
            {"conv1/7x7_s2.0", "conv2/3x3_reduce.1", "inception_4a/5x5_reduce.0", "inception_5b/pool_proj.1"}
            | {"loss1/conv.0", "loss1/fc.0", "loss2/classifier.1", "loss3/classifier.0"},
        ),
    ],
)
def test_names_and_layouts_of_those_without_norms(name, keys):
    leaves, blobs = blobs_of(name, width=0.05, num_classes=1000)
    assert keys <= blobs.keys()
    found = recognise(blobs, "", width=0.05)
    assert found.name == name
    assert found.fields.get("lrn_constants") == (None if name == "vgg16" else "caffe")
    flat = stacks.split(flatten_dict(found.imported.variables))
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(flat[path], leaf)
    # A dense layer after a map reads it channel by channel.
    layer, window = {"alexnet": ("fc6", 6), "vgg16": ("fc6", 7)}.get(name, ("loss1/fc", 4))
    weight = blobs[f"{layer}.0"]
    image = RNG.normal(size=(weight.shape[1] // window**2, window, window))
    where = ("params", "fc6", "dense", "kernel") if name != "inception_v1" else ("params", "aux1", "fc", "kernel")
    ours = image.transpose(1, 2, 0).ravel() @ flat[where].reshape(-1, len(weight))
    np.testing.assert_allclose(ours, weight @ image.ravel(), rtol=1e-4, atol=1e-4)

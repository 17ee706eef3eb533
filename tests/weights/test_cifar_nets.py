"""The CIFAR ResNets of two repositories: logits of a forward pass written as theirs, and their arrays back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from classicnets.models import create
from classicnets.weights import convert
from classicnets.weights.sources import SOURCES, recognise
from classicnets.weights.tables import cifar

pytestmark = pytest.mark.usefixtures("without_expensive_passes")
WIDTHS = (16, 32, 64)


def drawn(units: int, seed: int = 0) -> list[tuple[str, dict[str, np.ndarray]]]:
    """[(layer by akamaster's name, its arrays)] in the order in which they compute, all drawn at random."""
    rng = np.random.default_rng(seed)

    def conv(inputs, outputs):
        return {"weight": rng.normal(0, (2 / 9 / inputs) ** 0.5, (outputs, inputs, 3, 3)).astype(np.float32)}

    def norm(width):
        arrays = {
            "weight": rng.uniform(0.5, 1.5, width),
            "bias": rng.normal(0, 0.3, width),
            "running_mean": rng.normal(0, 0.3, width),
            "running_var": rng.uniform(0.01, 2, width),
        }
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    layers, before = [("conv1", conv(3, 16)), ("bn1", norm(16))], 16
    for stage, width in enumerate(WIDTHS, 1):
        for unit in range(units):
            place = f"layer{stage}.{unit}"
            layers += [(f"{place}.conv1", conv(before, width)), (f"{place}.bn1", norm(width))]
            layers += [(f"{place}.conv2", conv(width, width)), (f"{place}.bn2", norm(width))]
            before = width
    head = {"weight": rng.normal(0, 0.2, (10, 64)), "bias": rng.normal(0, 0.2, 10)}
    return [*layers, ("linear", {name: array.astype(np.float32) for name, array in head.items()})]


def akamaster(layers):
    state = {f"{layer}.{name}": array for layer, arrays in layers for name, array in arrays.items()}
    return state | {f"{layer}.num_batches_tracked": np.array(7) for layer, arrays in layers if "running_var" in arrays}


def lasagne(layers):
    """Arrays in order: of a norm beta, gamma, mean, 1 / sqrt(variance + 1e-4); a dense kernel the other way round."""
    arrays = []
    for layer, held in layers:
        if "running_var" in held:
            inverse = (held["running_var"].astype(np.float64) + 1e-4) ** -0.5
            arrays += [held["bias"], held["weight"], held["running_mean"], inverse.astype(np.float32)]
        elif layer == "linear":
            arrays += [held["weight"].T, held["bias"]]
        else:
            arrays.append(held["weight"])
    return {f"arr_{i}": np.ascontiguousarray(array) for i, array in enumerate(arrays)}


def theirs(layers, images, epsilon):
    """Logits as the repositories compute them: new zero channels half before the old ones and half after."""
    held = dict(layers)

    def convolved(x, layer, stride=1):
        kernel = held[layer]["weight"].transpose(2, 3, 1, 0).astype(np.float64)
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def normed(x, layer):
        weight, bias, mean, var = (held[layer][name] for name in ("weight", "bias", "running_mean", "running_var"))
        scale = weight / np.sqrt(var.astype(np.float64) + epsilon)
        return x * scale[None, None, None] + (bias - mean * scale)[None, None, None]

    x = jax.nn.relu(normed(convolved(images.astype(np.float64), "conv1"), "bn1"))
    for place in dict.fromkeys(layer.rpartition(".")[0] for layer, _ in layers if "layer" in layer):
        stride = 2 if place.endswith(".0") and not place.startswith("layer1") else 1
        y = jax.nn.relu(normed(convolved(x, f"{place}.conv1", stride), f"{place}.bn1"))
        y = normed(convolved(y, f"{place}.conv2"), f"{place}.bn2")
        if stride == 2:
            quarter = y.shape[-1] // 4
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (quarter, quarter)))
        x = jax.nn.relu(x + y)
    return x.mean((1, 2)) @ held["linear"]["weight"].T.astype(np.float64) + held["linear"]["bias"][None]


@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize(("source", "write", "epsilon"), [("akamaster", akamaster, 1e-5), ("lasagne", lasagne, 1e-4)])
def test_logits_are_those_of_the_repository(source, write, epsilon, units, monkeypatch):
    layers = drawn(units)
    images = np.random.default_rng(1).normal(size=(4, 12, 12, 3)).astype(np.float32)
    arrays = write(layers)
    with pytest.raises(ValueError, match=f"choose one of --source {source} --model cifar_resnet --depth"):
        recognise(arrays, "")  # others use these names with other moments
    found = recognise(arrays, "", source)
    assert (found.source.name, found.name) == (source, "cifar_resnet")
    assert found.fields == {"depth": 6 * units + 2, "num_classes": 10}
    model = create(found.name, **found.fields)

    def difference(variables):
        ours = np.asarray(model.apply(variables, images, train=False))
        return np.abs(ours - expected).max() / np.abs(expected).max()

    with jax.enable_x64(True):
        expected = np.asarray(theirs(layers, images, epsilon))
    assert difference(found.imported.variables) < 1e-5
    # Without the other order of the stream it is another network.
    monkeypatch.setattr(cifar, "stream", lambda stage, width: np.arange(width * 2 ** (stage - 1)))
    assert difference(convert.variables(SOURCES[source], found.name, arrays, **found.fields).variables) > 0.1


@pytest.mark.parametrize(("source", "write"), [("akamaster", akamaster), ("lasagne", lasagne)])
@pytest.mark.parametrize("seed", range(3))
def test_the_arrays_come_back_bit_for_bit(source, write, seed):
    arrays = write(drawn(2, seed))
    found = recognise(arrays, "", source)
    variables, extras, keys = found.imported
    assert set(extras) == {name for name in arrays if name.endswith("num_batches_tracked")}
    back = convert.arrays(SOURCES[source], found.name, variables, extras, keys, **found.fields)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()


def test_the_order_of_the_stream_is_that_of_the_zeros():
    assert cifar.stream(1, 4).tolist() == [0, 1, 2, 3]
    assert cifar.stream(2, 4).tolist() == [2, 3, 4, 5, 0, 1, 6, 7]
    assert cifar.stream(3, 4).tolist() == [6, 7, 8, 9, 4, 5, 10, 11, 0, 1, 2, 3, 12, 13, 14, 15]


def test_other_arrays_are_refused():
    arrays = akamaster(drawn(1))
    cases = {
        "missing 'bn1.bias'; without a place 'x'$": {k: v for k, v in arrays.items() if k != "bn1.bias"}
        | {"x": np.zeros(3)},
        "arrays \\('conv1.weight', .*\\) are those of no network": {k: v for k, v in arrays.items() if k != "bn1.bias"},
        r"of another shape 'bn1.bias' \[9\] for params/conv1_norm/bias \[16\]": arrays | {"bn1.bias": np.zeros(9, "f")},
    }
    for sentence, held in cases.items():
        with pytest.raises(ValueError, match=sentence):
            recognise(held, "")
    with pytest.raises(ValueError, match=r"source must be one of torchvision, .* got 'lasagna'"):
        recognise(arrays, "", "lasagna")

"""Writes the golden activations: torchvision's and Keras's networks on the weights and images of `golden.recipe`.

`make golden` runs it where the extra `peers` is installed; `python -m golden.make NAME...` in tests/ makes only these.
"""

import os
import re
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
import torchvision
from flax.traverse_util import flatten_dict
from golden.recipe import GOLDEN, SPREAD, Golden, distance, images, leaf, sample

from classicnets.complexity.counts import describe, variables_of
from classicnets.models import create, input_size, stacks
from classicnets.weights.torchvision import mapping


def leaves_of(golden: Golden) -> dict[stacks.Path, np.ndarray]:
    """{path: values} of each leaf of our network, stacked units apart."""
    size = input_size(golden.name)
    shapes = flatten_dict(variables_of(create(golden.name, **golden.fields), (size, size, 3)))
    return stacks.split({path: leaf("/".join(path), shape.shape) for path, shape in shapes.items()})


def torchvision_activations(peer: str, golden: Golden) -> list[np.ndarray]:
    options = {"init_weights": False, "transform_input": False} if peer in ("googlenet", "inception_v3") else {}
    network = getattr(torchvision.models, peer)(**options).eval()
    find, state = mapping(create(golden.name)), network.state_dict()
    for path, values in leaves_of(golden).items():
        key, convert = find(path)
        # What `convert` does to the positions of torch's array, undone for our values.
        order = convert(np.arange(state[key].numel()).reshape(state[key].shape))
        flat = np.empty(values.size, np.float32)
        flat[order.ravel()] = values.ravel()
        state[key] = torch.from_numpy(flat).reshape(state[key].shape)
    network.load_state_dict(state)
    caught = {}
    for layer in golden.layers[:2]:
        module = torch_module(network, layer)
        module.register_forward_hook(lambda _, __, out, layer=layer: caught.update({layer: out.permute(0, 2, 3, 1)}))
    with torch.no_grad():
        logits = network(torch.from_numpy(images(input_size(golden.name))).permute(0, 3, 1, 2))
    return [*(caught[layer].numpy() for layer in golden.layers[:2]), logits.numpy()]


def torch_module(network, layer: str):
    """torchvision's module whose output is our layer's."""
    if layer.startswith("block"):
        return getattr(network, layer.replace("block", "layer"))
    if layer.startswith("mixed"):
        named = f"inception{layer[6]}{chr(ord(layer[7]) - 1)}"
        return getattr(network, named, None) or getattr(network, layer.capitalize())
    if layer.startswith("pool"):
        pools = [module for module in network.features if isinstance(module, torch.nn.MaxPool2d)]
        return pools[int(layer.removeprefix("pool")) - 1]
    return network.features[11]  # AlexNet's conv5, after its ReLU


def keras_activations(peer: str, golden: Golden) -> list[np.ndarray]:
    keras.utils.clear_session()  # layers without names are counted from zero
    network = getattr(keras.applications, peer)(weights=None, classifier_activation=None)
    named = vgg_layer if peer.startswith("VGG") else resnet_layer
    if peer == "InceptionV3":
        named = inception_layers(golden)
    for path, values in leaves_of(golden).items():
        layer = network.get_layer(named(path))
        norm = isinstance(layer, keras.layers.BatchNormalization)
        weights = {
            "mean": "moving_mean",
            "var": "moving_variance",
            "scale": "gamma",
            "bias": "beta" if norm else "bias",
        }
        if path[1] == "fc6":  # Keras flattens the map that ours is a window of
            values = values.reshape(-1, values.shape[-1]) if path[-1] == "kernel" else values
        getattr(layer, weights.get(path[-1], path[-1])).assign(values)
    units = create(golden.name).units if hasattr(create(golden.name), "units") else ()
    outputs = {f"block{i}": f"conv{i + 1}_block{n}_out" for i, n in enumerate(units, 1)}
    outputs |= {"mixed_5d": "mixed2", "mixed_7a": "mixed8", "pool2": "block2_pool", "pool4": "block4_pool"}
    caught = [network.get_layer(outputs[layer]).output for layer in golden.layers[:2]]
    return keras.Model(network.input, [*caught, network.output]).predict(images(input_size(golden.name)), verbose=0)


def vgg_layer(path: stacks.Path) -> str:
    """The layer of Keras's VGG that holds our leaf."""
    dense = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    return dense.get(path[1]) or re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", path[1])


def resnet_layer(path: stacks.Path) -> str:
    """The layer of Keras's ResNets that holds our leaf."""
    *outer, layer, _ = path[1:]
    whole = {"conv1": "conv1_conv", "conv1_norm": "conv1_bn", "postnorm": "post_bn", "logits": "predictions"}
    if not outer:
        return whole[layer]
    block, unit = outer
    number = int(unit.removeprefix("unit_"))
    part = {"preact": "preact_bn", "shortcut": "0_conv", "shortcut_norm": "0_bn"}.get(layer)
    part = part or re.sub(r"(conv|norm)(\d)", lambda m: f"{m[2]}_{'conv' if m[1] == 'conv' else 'bn'}", layer)
    return f"conv{int(block[-1]) + 1}_block{number}_{part}"


def inception_layers(golden: Golden):
    """The layer of Keras's Inception v3 that holds our leaf: it numbers them in the order in which our modules run."""
    size = input_size(golden.name)
    layers = describe(create(golden.name, **golden.fields), (size, size, 3))["layers"]
    order = [layer["name"].removesuffix("/conv") for layer in layers if layer["name"].endswith("/conv")]

    def named(path: stacks.Path) -> str:
        if path[1] == "logits":
            return "predictions"
        number = order.index("/".join(path[1:-2]))
        return ("conv2d" if path[-2] == "conv" else "batch_normalization") + (f"_{number}" if number else "")

    return named


def main(names: list[str]) -> None:
    for name in names or GOLDEN:
        project, peer = name.split("_", 1)
        activations = {"torchvision": torchvision_activations, "keras": keras_activations}[project](peer, GOLDEN[name])
        logits = activations[-1]
        spread = distance(logits[0], logits[1])
        assert spread > SPREAD, (name, spread)
        found = {layer: sample(one) for layer, one in zip(GOLDEN[name].layers, activations, strict=True)}
        np.savez(Path(__file__).parent / f"{name}.npz", **found)
        print(f"{name}: the logits of the two images differ by {100 * spread:.1f} %", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

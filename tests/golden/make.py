"""Writes the golden activations: torchvision's and Keras's networks on the weights and images of `golden.recipe`.

`make golden` runs it where the extra `peers` is installed; `python -m golden.make NAME...` in tests/ makes only these.
"""

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
import torchvision
from flax.traverse_util import flatten_dict
from golden.recipe import GOLDEN, SPREAD, Golden, distance, images, leaf, sample

from classicnets.complexity.counts import variables_of
from classicnets.models import create, input_size, stacks
from classicnets.weights.tables.keras import place as keras_place
from classicnets.weights.tables.torchvision import place


def leaves_of(golden: Golden) -> dict[stacks.Path, np.ndarray]:
    """{path: values} of each leaf of our network, stacked units apart."""
    size = input_size(golden.name)
    shapes = flatten_dict(variables_of(create(golden.name, **golden.fields), (size, size, 3)))
    return stacks.split({path: leaf("/".join(path), shape.shape) for path, shape in shapes.items()})


def torchvision_activations(peer: str, golden: Golden) -> list[np.ndarray]:
    options = {"init_weights": False, "transform_input": False} if peer in ("googlenet", "inception_v3") else {}
    network = getattr(torchvision.models, peer)(**options).eval()
    model, state = create(golden.name), network.state_dict()
    for path, values in leaves_of(golden).items():
        key, _, theirs = place(path, model)
        state[key] = torch.from_numpy(np.ascontiguousarray(theirs(values)))
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
    model = create(golden.name, **golden.fields)
    for path, values in leaves_of(golden).items():
        # The variance as it is: the golden activations have Keras's epsilon in the norms.
        layer, weight = keras_place(path, model).key.split("/")
        own = values if path[-1] == "var" else keras_place(path, model).theirs(values)
        getattr(network.get_layer(layer), weight).assign(own)
    units = create(golden.name).units if hasattr(create(golden.name), "units") else ()
    outputs = {f"block{i}": f"conv{i + 1}_block{n}_out" for i, n in enumerate(units, 1)}
    outputs |= {"mixed_5d": "mixed2", "mixed_7a": "mixed8", "pool2": "block2_pool", "pool4": "block4_pool"}
    caught = [network.get_layer(outputs[layer]).output for layer in golden.layers[:2]]
    return keras.Model(network.input, [*caught, network.output]).predict(images(input_size(golden.name)), verbose=0)


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

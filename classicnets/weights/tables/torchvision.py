"""torchvision's state dicts: AlexNet, VGG with and without batch norm, GoogLeNet, Inception v3, ResNets, wide ones.

torchvision's pretrained googlenet and inception_v3 renormalise images before the first layer (transform_input=True),
which `preprocessing` gives; its pretrained googlenet has no auxiliary heads.
"""

import re
from collections.abc import Sequence
from pathlib import Path as FilePath

import numpy as np

from classicnets.models import ENTRIES, input_size
from classicnets.models.alexnet import AlexNet
from classicnets.models.inception_v1 import AUXILIARY, MODULES, InceptionV1
from classicnets.models.inception_v3 import InceptionV3
from classicnets.models.network import Network
from classicnets.models.resnet import ResNet
from classicnets.models.stacks import Path
from classicnets.models.vgg import CONFIGURATIONS, VGG, WINDOW
from classicnets.weights.convert import Arrays, Fit, Place, Source, after_map, convolution, matrix
from classicnets.weights.preprocessing import CENTRED, IMAGENET, Preprocessing

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
# Second weights of ResNet-50, 101, 152 and the wide ones, which were trained for images of 232 pixels.
V2 = ("11ad3fa6", "cd907fc2", "f82ba261", "9ba9bcbe", "d733dc28")
# The paper's, whose arrays are those of torchvision's (v1.5): others keep them under these names.
V1 = tuple(f"resnet{depth}" for depth in (50, 101, 152))
COUNTERS = r"num_batches_tracked$"

ALEXNET = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
VGG_DENSE = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
# mixed_3b is inception3a, mixed_4b inception4a and so on.
GOOGLENET = {name: f"inception{name[6]}{chr(ord(name[7]) - 1)}" for name in MODULES} | {
    "conv2d_1a_7x7": "conv1",
    "conv2d_2b_1x1": "conv2",
    "conv2d_2c_3x3": "conv3",
    "logits": "fc",
}
GOOGLENET_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
GOOGLENET_HEAD = {"conv": "conv", "fc": "fc1", "logits": "fc2"}
# What "nxn" and "double" are called in the modules of each grid of Inception v3.
INCEPTION_BRANCHES = {
    **dict.fromkeys(("mixed_5b", "mixed_5c", "mixed_5d"), ("branch5x5", "branch3x3dbl")),
    "mixed_6a": ("branch3x3", "branch3x3dbl"),
    **dict.fromkeys(("mixed_6b", "mixed_6c", "mixed_6d", "mixed_6e"), ("branch7x7", "branch7x7dbl")),
    "mixed_7a": ("branch3x3", "branch7x7x3"),
    **dict.fromkeys(("mixed_7b", "mixed_7c"), ("branch3x3", "branch3x3dbl")),
}
INCEPTION_HEAD = {"conv2d_1b_1x1": "conv0", "conv2d_2a_5x5": "conv1"}


def place(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands in torchvision's state dict."""
    families = {AlexNet: _alexnet, VGG: _vgg, InceptionV1: _googlenet, InceptionV3: _inception_v3, ResNet: resnet}
    return families[type(model)](path, model)


def _alexnet(path: Path, model: Network) -> Place:
    _, layer, _, leaf = path
    return dense_or_convolution(f"{ALEXNET[layer]}.{LEAVES[leaf]}", layer, leaf, 6)


def _vgg(path: Path, model: VGG) -> Place:
    _, layer, part, leaf = path
    where = VGG_DENSE.get(layer) or numbered(layer, part, model)
    return dense_or_convolution(f"{where}.{LEAVES[leaf]}", layer, leaf, WINDOW)


def numbered(layer: str, part: str, model: VGG) -> str:
    """Return "features.NUMBER" of a layer of VGG, whose modules of all stages are in one list.

    Convolution, (norm,) ReLU and pool are each one of them.
    """
    number = 0
    for stage, kernels in enumerate(CONFIGURATIONS[model.configuration], 1):
        for i in range(1, len(kernels) + 1):
            if layer == f"conv{stage}_{i}":
                return f"features.{number + (part == 'norm')}"
            number += 3 if model.norm else 2
        number += 1
    raise KeyError(layer)


def dense_or_convolution(key: str, layer: str, leaf: str, window: int) -> Place:
    """Return the place of a leaf of AlexNet or VGG, whose fc6 sees a map of window x window positions."""
    if leaf != "kernel":
        return Place(key)
    if layer == "fc6":
        return after_map(key, window)
    return matrix(key) if layer.startswith("fc") else convolution(key)


def _googlenet(path: Path, model: Network) -> Place:
    _, layer, *inner, leaf = path
    if layer in AUXILIARY.values():
        part, *inner = inner
        name = f"{layer}.{GOOGLENET_HEAD[part]}"
    elif layer in MODULES:
        part, *inner = inner
        name = f"{GOOGLENET[layer]}.{GOOGLENET_BRANCHES[part]}"
    else:
        name = GOOGLENET[layer]
    # What remains of the path is a unit's convolution or its norm, or nothing in a dense layer.
    key = ".".join([name, *("bn" if part == "norm" else part for part in inner), LEAVES[leaf]])
    if leaf != "kernel":
        return Place(key)
    if inner:
        return convolution(key)
    return after_small_map(key) if name.endswith("fc1") else matrix(key)


def after_small_map(key: str) -> Place:
    """Return the place of [o, c * 4 * 4], ours [4 * 4 * c, o]: an auxiliary head's map is flattened by channels."""
    there = after_map(key, 4)

    def ours(weight: np.ndarray) -> np.ndarray:
        return there.ours(weight).reshape(-1, len(weight))

    return Place(key, ours, lambda kernel: there.theirs(kernel.reshape(4, 4, -1, kernel.shape[-1])))


def _inception_v3(path: Path, model: Network) -> Place:
    _, *modules, leaf = path
    if modules[-1] == "logits":
        head = "AuxLogits.fc" if modules[0] == "auxlogits" else "fc"
        return matrix(f"{head}.weight") if leaf == "kernel" else Place(f"{head}.bias")
    modules = modules[:-1]  # conv or norm, which the leaf tells
    if modules[0] == "auxlogits":
        layer = f"AuxLogits.{INCEPTION_HEAD[modules[1]]}"
    elif modules[0] in INCEPTION_BRANCHES:
        layer = f"{modules[0].capitalize()}.{_branch(*modules)}"
    else:
        layer = modules[0].capitalize()
    return convolution(f"{layer}.conv.weight") if leaf == "kernel" else Place(f"{layer}.bn.{LEAVES[leaf]}")


def _branch(module: str, layer: str) -> str:
    name, _, number = layer.partition("_")
    nxn, double = INCEPTION_BRANCHES[module]
    named = {"1x1": "branch1x1", "nxn": nxn, "double": double, "pool": "branch_pool"}[name]
    return f"{named}_{number}" if number else named


def resnet(path: Path, model: Network) -> Place:
    """Return the place of a leaf of a ResNet, whose names timm shares."""
    *outer, layer, leaf = path[1:]
    if layer == "logits":
        return matrix("fc.weight") if leaf == "kernel" else Place("fc.bias")
    prefix = ""
    if outer:
        stage, unit = outer
        prefix = f"layer{stage.removeprefix('block')}.{int(unit.removeprefix('unit_')) - 1}."
    if layer.startswith("shortcut"):
        name = "downsample.1" if layer.endswith("_norm") else "downsample.0"
    else:
        name = re.sub(r"^norm(\d)$|^conv(\d)_norm$", lambda match: f"bn{match[1] or match[2]}", layer)
    key = f"{prefix}{name}.{LEAVES[leaf]}"
    return convolution(key) if leaf == "kernel" else Place(key)


def preprocessing(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Return what `torchvision.models` says of its weights ("transforms"), and transform_input of its Inceptions."""
    side = input_size(name)
    resize = 342 if side == 299 else 232 if sha256[:8] in V2 else 256
    return Preprocessing(side, resize=resize, **(CENTRED if name.startswith("inception") else IMAGENET))


def guess(arrays: Arrays) -> list[Fit]:
    """Return the networks of torchvision that arrays could be, by their names."""
    if "classifier.6.weight" in arrays and "features.0.weight" in arrays:
        fields = {"num_classes": len(arrays["classifier.6.weight"])}
        if np.shape(arrays["features.0.weight"])[-1:] == (11,):
            return [Fit("alexnet_owt", fields)]
        return [Fit(name, fields) for name in vggs(arrays)]
    if "inception3a.branch1.conv.weight" in arrays:
        return [Fit("inception_v1_bn", {**_classes(arrays), "auxiliary": "aux1.conv.conv.weight" in arrays})]
    if "Mixed_5b.branch1x1.conv.weight" in arrays:
        return [Fit("inception_v3", {**_classes(arrays), "auxiliary": "AuxLogits.fc.weight" in arrays})]
    return resnets(arrays, [*(name for name, entry in ENTRIES.items() if entry.torchvision), *V1])


def vggs(arrays: Arrays) -> list[str]:
    """Return the names of the VGGs with as many convolutions and norms as there are."""
    count = sum(np.ndim(array) == 4 and key.startswith("features.") for key, array in arrays.items())
    norm = "_bn" if any(key.endswith("running_mean") for key in arrays) else ""
    return [f"vgg{count + 3}{norm}"] if f"vgg{count + 3}{norm}" in ENTRIES else []


def resnets(arrays: Arrays, names: list[str]) -> list[Fit]:
    """Return those ResNets of `names` whose units are as many, and of the form, of the arrays' names."""
    units = tuple(
        len({key.split(".")[1] for key in arrays if key.startswith(f"layer{stage}.") and key.count(".") > 2})
        for stage in (1, 2, 3, 4)
    )
    block = "bottleneck" if "layer1.0.conv3.weight" in arrays else "basic"
    found = []
    for name in names:
        model = ENTRIES[name].network(**ENTRIES[name].fields)
        alike = isinstance(model, ResNet) and (model.units, model.block) == (units, block) and "fc.weight" in arrays
        if alike and (block == "basic" or model.widen == _widen(arrays)):
            found.append(Fit(name, _classes(arrays)))
    return found


def _widen(arrays: Arrays) -> int:
    """Return the factor of a bottleneck's inner channels, of which the outer are four times as many without it."""
    inner, outer = (np.shape(arrays.get(f"layer1.0.conv{i}.weight", np.zeros(1)))[0] for i in (1, 3))
    return round(4 * inner / outer)


def _classes(arrays: Arrays) -> dict[str, int]:
    return {"num_classes": len(arrays["fc.weight"])} if "fc.weight" in arrays else {}


NETWORKS = "|".join([*(name for name, entry in ENTRIES.items() if entry.torchvision), *V1])
SOURCE = Source("torchvision", NETWORKS, place, guess, preprocessing, COUNTERS)

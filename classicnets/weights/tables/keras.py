"""Keras applications: VGG16/19, ResNet50/101/152 and their V2, InceptionV3.

Their ResNets have a bias in each convolution, which `biases="all"` keeps, and norms with an epsilon of 1.001e-5, which
is folded into the variance. InceptionV3's layers have numbers instead of names, in the order in which they run, that go
on counting in a program that builds several.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path as FilePath

import numpy as np

from classicnets.models import input_size
from classicnets.models.inception_v3 import MODULES, InceptionV3, numbered
from classicnets.models.network import Network
from classicnets.models.resnet import ResNet
from classicnets.models.stacks import Path
from classicnets.models.vgg import VGG, WINDOW
from classicnets.weights.convert import Arrays, Fit, Place, Source, epsilon_of, folded
from classicnets.weights.preprocessing import CENTRED, VGG_MEAN, Preprocessing

EPSILON = 1.001e-5
LEAVES = {"mean": "moving_mean", "var": "moving_variance", "scale": "gamma"}
DENSE = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
WHOLE = {"conv1": "conv1_conv", "conv1_norm": "conv1_bn", "postnorm": "post_bn", "logits": "predictions"}
STEM = ("conv2d_1a_3x3", "conv2d_2a_3x3", "conv2d_2b_3x3", "conv2d_3b_1x1", "conv2d_4a_3x3")


def place(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands in a Keras application."""
    leaf = path[-1]
    if isinstance(model, VGG):
        layer = DENSE.get(path[1]) or re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", path[1])
        return _flat(f"{layer}/kernel", WINDOW) if path[1] == "fc6" and leaf == "kernel" else Place(f"{layer}/{leaf}")
    if isinstance(model, InceptionV3):
        return Place(_inception(path, keys))
    if not isinstance(model, ResNet):
        raise KeyError(type(model).__name__)
    layer, norm = _resnet(path), "norm" in path[-2] or path[-2] == "preact"
    key = f"{layer}/{'beta' if norm and leaf == 'bias' else LEAVES.get(leaf, leaf)}"
    return folded(key, EPSILON, epsilon_of(model)) if leaf == "var" else Place(key)


def _flat(key: str, window: int) -> Place:
    """A dense kernel [h * w * c, o] after a map, ours [h, w, c, o]."""
    return Place(
        key,
        lambda kernel: kernel.reshape(window, window, -1, kernel.shape[-1]),
        lambda kernel: kernel.reshape(-1, kernel.shape[-1]),
    )


def _resnet(path: Path) -> str:
    """Return the layer of a ResNet that holds our leaf."""
    *outer, layer, _ = path[1:]
    if not outer:
        return WHOLE[layer]
    block, unit = outer
    part = {"preact": "preact_bn", "shortcut": "0_conv", "shortcut_norm": "0_bn"}.get(layer)
    part = part or re.sub(r"(conv|norm)(\d)", lambda m: f"{m[2]}_{'conv' if m[1] == 'conv' else 'bn'}", layer)
    return f"conv{int(block[-1]) + 1}_block{int(unit.removeprefix('unit_'))}_{part}"


def _inception(path: Path, keys: Sequence[str]) -> str:
    leaf = path[-1]
    if path[1] == "logits":
        return f"predictions/{leaf}"
    kind = "conv2d" if path[-2] == "conv" else "batch_normalization"
    number = _order().index("/".join(path[1:-2]))
    name = _numbered(tuple(keys), kind)[number] if keys else kind + (f"_{number}" if number else "")
    return f"{name}/{'beta' if leaf == 'bias' else LEAVES.get(leaf, leaf)}"


@lru_cache
def _order() -> list[str]:
    """Return our convolutions of Inception v3 in the order in which they run."""
    inner = [
        f"{module}/{name}"
        for module, rows in MODULES.items()
        for branch, row in rows.items()
        for layer in numbered(branch, row)
        for name, _ in layer.convolutions
    ]
    return [*STEM, *inner]


@lru_cache
def _numbered(keys: tuple[str, ...], kind: str) -> list[str]:
    """Return the names of the layers of a kind in the order of their numbers."""
    names = {key.rpartition("/")[0] for key in keys}
    return sorted(
        (name for name in names if re.fullmatch(rf"{kind}(_\d+)?", name)),
        key=lambda name: int(name.rpartition("_")[2]) if name != kind else 0,
    )


def preprocessing(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Return `preprocess_input` of its module after `load_img(target_size=...)`, whose default is the nearest pixel."""
    moments = CENTRED if name.startswith("inception") or "_v2" in name else VGG_MEAN
    return Preprocessing(input_size(name), "squash", interpolation="nearest", **moments)


def guess(arrays: Arrays) -> list[Fit]:
    """Return the application that arrays could be, by the names of its layers."""
    if "predictions/kernel" not in arrays:
        return []
    classes = {"num_classes": int(np.shape(arrays["predictions/kernel"])[-1])}
    if "block1_conv1/kernel" in arrays:
        count = sum(np.ndim(array) == 4 for array in arrays.values())
        return [Fit(f"vgg{count + 3}", classes)] if count in (13, 16) else []
    if "conv1_conv/kernel" in arrays:
        units = len({key.split("_")[1] for key in arrays if key.startswith("conv4_block")})
        depth = {6: 50, 23: 101, 36: 152}.get(units)
        if depth is None:
            return []
        if "post_bn/gamma" in arrays:
            return [Fit(f"resnet{depth}_v2_slim", {**classes, "pool_padding": "zeros"})]
        return [Fit(f"resnet{depth}", {**classes, "biases": "all"})]
    fields = {"use_scale": False, "count_padding": False, "auxiliary": False, "dropout": 0.0}
    return [Fit("inception_v3", {**classes, **fields})] if len(_numbered(tuple(arrays), "conv2d")) == 94 else []


NETWORKS = r"vgg1[69]|inception_v3|resnet(50|101|152)(_v2_slim)?"
SOURCE = Source("keras", NETWORKS, place, guess, preprocessing)

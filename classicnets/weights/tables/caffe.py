"""Caffe's models, the form in which the authors released theirs: {"LAYER.i": blob i}.

AlexNet and GoogLeNet as BVLC trained them (their local response normalisation has other constants than the paper's:
`lrn_constants="caffe"`), VGG 16 and 19, ResNets of 50, 101 and 152 layers (whose pool1 is padded after the last pixel
only), and plain and residual networks for CIFAR, whose layers have no names in common and are taken in their order.

A norm is two layers: BatchNorm (mean, variance and a factor that both are to be divided by) and Scale. A convolution's
bias before a norm is taken from the mean. First layers read BGR.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path as FilePath

import numpy as np

from classicnets.models import input_size
from classicnets.models.alexnet import AlexNet
from classicnets.models.inception_v1 import AUXILIARY, MODULES, InceptionV1
from classicnets.models.network import Network
from classicnets.models.norm import BatchNorm
from classicnets.models.resnet import CifarResNet, ResNet
from classicnets.models.stacks import Path
from classicnets.models.vgg import VGG, WINDOW
from classicnets.weights.convert import Arrays, Fit, Place, Source, convolution, matrix
from classicnets.weights.preprocessing import VGG_MEAN, Preprocessing
from classicnets.weights.tables import torchvision

GOOGLENET = {
    "conv2d_1a_7x7": "conv1/7x7_s2",
    "conv2d_2b_1x1": "conv2/3x3_reduce",
    "conv2d_2c_3x3": "conv2/3x3",
    "logits": "loss3/classifier",
}
HEADS = {"aux1": "loss1", "aux2": "loss2"}
HEAD = {"conv": "conv", "fc": "fc", "logits": "classifier"}
# Our layers of a bottleneck, and the ends of their names in the ResNets of He et al.
BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
# What of a norm is where: the layers' first letters and the number of the blob.
NORM = {"mean": ("bn", 0), "var": ("bn", 1), "scale": ("scale", 0), "bias": ("scale", 1)}


def place(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands among the blobs."""
    if isinstance(model, ResNet):
        return _resnet(path, model)
    if isinstance(model, CifarResNet):
        return _in_order(path, model, tuple(keys))
    leaf = path[-1]
    if isinstance(model, InceptionV1):
        return _googlenet(path)
    if not isinstance(model, AlexNet | VGG) or model.norm:
        raise KeyError(type(model).__name__)
    window = WINDOW if isinstance(model, VGG) else model.fc6_window
    return torchvision.dense_or_convolution(f"{path[1]}.{int(leaf == 'bias')}", path[1], leaf, window)


def _googlenet(path: Path) -> Place:
    _, layer, *inner, leaf = path
    if layer in AUXILIARY.values():
        name = f"{HEADS[layer]}/{HEAD[inner[0]]}"
    elif layer in MODULES:
        name = f"inception_{layer[6]}{chr(ord(layer[7]) - 1)}/{inner[0]}"
    else:
        name = GOOGLENET[layer]
    key = f"{name}.{int(leaf == 'bias')}"
    if leaf == "bias":
        return Place(key)
    if name.endswith("/fc"):
        return torchvision.after_small_map(key)
    return matrix(key) if name.endswith("classifier") else convolution(key)


def _resnet(path: Path, model: ResNet) -> Place:
    *outer, layer, leaf = path[1:]
    if layer == "logits":
        return matrix("fc1000.0") if leaf == "kernel" else Place("fc1000.1")
    conv = re.sub(r"^norm(\d)$", r"conv\1", layer).removesuffix("_norm")
    norm = "norm" in layer
    if not outer:
        name = "_conv1" if norm else "conv1"
    else:
        stage, unit = int(outer[0].removeprefix("block")), int(outer[1].removeprefix("unit_"))
        name = f"{'' if norm else 'res'}{stage + 1}{_letter(unit, model.units[stage - 1])}_{BRANCHES[conv]}"
    if not norm:
        return convolution(f"{name}.0")
    kind, blob = NORM[leaf]
    return Place(f"{kind}{name}.{blob}")


def _letter(unit: int, units: int) -> str:
    """Return what unit `unit` of a stage is called: a, b, c, ... or, in stages of many, a, b1, b2, ..."""
    if units <= 6 or unit == 1:
        return chr(ord("a") + unit - 1)
    return f"b{unit - 1}"


def _in_order(path: Path, model: CifarResNet, keys: tuple[str, ...]) -> Place:
    *outer, layer, leaf = path[1:]
    if layer == "logits":
        dense = _layers(keys)["dense"][0]
        return matrix(f"{dense}.0") if leaf == "kernel" else Place(f"{dense}.1")
    if "shortcut" in layer:
        raise KeyError(layer)
    number = 0
    if outer:
        stage, unit = int(outer[0].removeprefix("block")), int(outer[1].removeprefix("unit_"))
        number = 1 + 2 * ((stage - 1) * (model.depth // 6) + unit - 1) + int(layer.endswith("2"))
    if "norm" not in layer:
        return convolution(f"{_layers(keys)['conv'][number]}.0")
    kind, blob = NORM[leaf]
    return Place(f"{_layers(keys)[kind][number]}.{blob}")


@lru_cache
def _layers(keys: tuple[str, ...]) -> dict[str, list[str]]:
    """Return {kind: names of its layers in order}: a convolution is followed by its norm's two layers."""
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    found: dict[str, list[str]] = {"conv": [], "bn": [], "scale": [], "dense": []}
    for i, name in enumerate(names):
        blobs = sum(key.rpartition(".")[0] == name and key.rpartition(".")[2].isdigit() for key in keys)
        if blobs == 3:
            found["bn"].append(name)
        elif i and names[i - 1] in found["bn"]:
            found["scale"].append(name)
        else:
            found["dense" if i == len(names) - 1 else "conv"].append(name)
    return found


def prepared(arrays: Arrays) -> Arrays:
    """Return the blobs with norms divided by their factors, at our epsilon, and convolutions' biases taken from means.

    In float64, rounded once. A factor of zero makes zeros, as in Caffe.
    """
    made, names = dict(arrays), list(dict.fromkeys(key.rpartition(".")[0] for key in arrays))
    for i, name in enumerate(names):
        if f"{name}.2" not in arrays:
            continue
        mean, var, factor = (np.asarray(made.pop(f"{name}.{j}"), np.float64) for j in (0, 1, 2))
        epsilon = float(made.pop(f"{name}.epsilon", np.float32(BatchNorm.epsilon)))
        by = 0.0 if not factor.any() else 1.0 / factor.ravel()[0]
        # float32 holds 1e-5 not exactly: a file that says so means ours.
        more = 0.0 if np.float32(epsilon) == np.float32(BatchNorm.epsilon) else epsilon - BatchNorm.epsilon
        mean, var = mean * by, var * by + more
        before = names[i - 1] if i else ""
        if f"{before}.1" in made and f"{before}.0" in made and np.ndim(made[f"{before}.0"]) == 4:
            mean = mean - made.pop(f"{before}.1")
        made |= {f"{name}.0": mean.astype(np.float32), f"{name}.1": var.astype(np.float32)}
    return made


def preprocessing(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Return what the models' pages say; means of pixels that are in files of their own are their averages here."""
    if name == "cifar_resnet":
        return Preprocessing(input_size(name), "whole", channels="bgr", divisor=1.0, needs_pixel_mean=True)
    if name == "alexnet" or name.startswith("inception"):
        return Preprocessing(input_size(name), "squash", 256, channels="bgr", divisor=1.0, mean=(104.0, 117.0, 123.0))
    return Preprocessing(input_size(name), "crop", 256, **VGG_MEAN)


def guess(arrays: Arrays) -> list[Fit]:
    """Return the networks that blobs could be, by the names of layers, of CIFAR's by their number."""
    if "fc8.0" in arrays and "conv1.0" in arrays:
        return [Fit("alexnet", {**_classes(arrays, "fc8"), "lrn_constants": "caffe"})]
    if "fc8.0" in arrays and "conv1_1.0" in arrays:
        count = sum(key.startswith("conv") and key.endswith(".0") for key in arrays) + 3
        return [Fit(f"vgg{count}", _classes(arrays, "fc8"))] if count in (11, 13, 16, 19) else []
    if "loss3/classifier.0" in arrays:
        fields = {"padding": "symmetric", "max_pool": "ceil", "lrn_constants": "caffe"}
        auxiliary = "loss1/classifier.0" in arrays
        return [Fit("inception_v1", {**_classes(arrays, "loss3/classifier"), **fields, "auxiliary": auxiliary})]
    if "fc1000.0" in arrays and "res2a_branch1.0" in arrays:
        units = sum(bool(re.fullmatch(r"res4.*_branch2a\.0", key)) for key in arrays)
        depth = {6: 50, 23: 101, 36: 152}.get(units)
        return [Fit(f"resnet{depth}", {**_classes(arrays, "fc1000"), "pool_padding": "same"})] if depth else []
    layers = _layers(tuple(arrays))
    n, left = divmod(len(layers["conv"]) - 1, 6)
    if n < 1 or left or len(layers["dense"]) != 1 or len(layers["bn"]) != len(layers["conv"]):
        return []
    fields = {"depth": 6 * n + 2, **_classes(arrays, layers["dense"][0])}
    # A plain network has the arrays of one with option A.
    return [Fit("cifar_resnet", {**fields, "shortcut": shortcut}) for shortcut in ("A", "none")]


def _classes(arrays: Arrays, layer: str) -> dict[str, int]:
    bias = arrays.get(f"{layer}.1")
    return {} if bias is None or bias.ndim != 1 else {"num_classes": len(bias)}


NETWORKS = r"alexnet|vgg1[69]|inception_v1|resnet(50|101|152)|cifar_resnet"
SOURCE = Source("caffe", NETWORKS, place, guess, preprocessing, r"^$", prepared, keeps=False)

"""tf-slim's checkpoints: alexnet_v2, vgg_a/16/19, inception_v1/v2/v3, resnet_v1 and resnet_v2 of 50 to 200 layers.

Inception's convolutions are called by branch, place and kernel, "Branch_1/Conv2d_0b_3x3"; ODD are those whose names do
not follow from these. Released Inceptions and resnet_v2 have 1001 classes, of which class 0 is the background.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path as FilePath

from classicnets.models import inception_v1, inception_v2, inception_v3, input_size
from classicnets.models.alexnet import AlexNet
from classicnets.models.inception import Branches
from classicnets.models.inception_v1 import InceptionV1
from classicnets.models.inception_v2 import InceptionV2
from classicnets.models.inception_v3 import InceptionV3
from classicnets.models.network import Network
from classicnets.models.resnet import ResNet
from classicnets.models.stacks import Path
from classicnets.models.vgg import VGG
from classicnets.weights.convert import Arrays, Fit, Place, Source
from classicnets.weights.preprocessing import CENTRED, Preprocessing

CONV = {"kernel": "weights", "bias": "biases"}
NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
# The step, a mean of colours that vgg_16 and resnet_v1 carry along, and what optimizers and moving averages keep.
IGNORED = (
    r"^global_step$|/mean_rgb$|(^|/)(Momentum|RMSProp(_1)?|Adam(_1)?|ExponentialMovingAverage|beta[12]_power"
    r"|local_step)$"
)
# Of vgg_preprocessing, in RGB.
MEAN = (123.68, 116.779, 103.939)
# By column of VGG's Table 1.
VGGS = {"A": "vgg_a", "D": "vgg_16", "E": "vgg_19"}
SCOPES = {InceptionV1: "InceptionV1", InceptionV2: "InceptionV2", InceptionV3: "InceptionV3"}
LOGITS = {InceptionV1: "Conv2d_0c_1x1", InceptionV2: "Conv2d_1c_1x1", InceptionV3: "Conv2d_1c_1x1"}
ODD = {
    "InceptionV1/mixed_5b/5x5": "Conv2d_0a_3x3",
    "InceptionV3/mixed_5c/nxn_1": "Conv2d_0b_1x1",
    "InceptionV3/mixed_5c/nxn_2": "Conv_1_0c_5x5",
    "InceptionV3/mixed_6a/nxn": "Conv2d_1a_1x1",
    "InceptionV3/mixed_6a/double_3": "Conv2d_1a_1x1",
    "InceptionV3/mixed_7b/nxn_2b": "Conv2d_0b_3x1",
}
AUXILIARY = {"conv2d_1b_1x1": "Conv2d_1b_1x1", "conv2d_2a_5x5": "Conv2d_2a_5x5", "logits": "Conv2d_2b_1x1"}
# The fields with which our networks are slim's.
V1 = {"padding": "same", "max_pool": "same", "auxiliary": False, "dropout": 0.2}
V3 = {"count_padding": False, "dropout": 0.2}


def place(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands in slim's checkpoint."""
    if isinstance(model, ResNet):
        return _resnet(path, model)
    if isinstance(model, VGG | AlexNet):
        return _dense_headed(path, model)
    return _inception(path, model)


def _dense_headed(path: Path, model: VGG | AlexNet) -> Place:
    _, layer, _, leaf = path
    if isinstance(model, AlexNet):
        key = f"alexnet_v2/{layer}/{CONV[leaf]}"
    else:
        scope = VGGS[model.configuration]
        group = f"{layer.partition('_')[0]}/" if layer.startswith("conv") else ""
        key = f"{scope}/{group}{layer}/{CONV[leaf]}"
    return _one_by_one(key) if layer in ("fc7", "fc8") and leaf == "kernel" else Place(key)


def _one_by_one(key: str) -> Place:
    """A 1x1 convolution [1, 1, i, o], which is a dense layer [i, o] here or a convolution itself."""
    return Place(
        key,
        lambda kernel: kernel.reshape(kernel.shape[-2:]),
        lambda kernel: kernel.reshape(1, 1, *kernel.shape[-2:]),
    )


def _resnet(path: Path, model: ResNet) -> Place:
    *outer, layer, leaf = path[1:]
    version = 2 if model.preactivation else 1
    depth = 2 + 3 * sum(model.units)
    inner = f"{outer[0]}/{outer[1]}/bottleneck_v{version}/" if outer else ""
    scope = f"resnet_v{version}_{depth}/{inner}"
    if layer in ("preact", "postnorm"):
        return Place(f"{scope}{layer}/{NORM[leaf]}")
    if layer == "logits":
        key = f"{scope}logits/{CONV[leaf]}"
        return _one_by_one(key) if leaf == "kernel" else Place(key)
    if "norm" in layer:
        conv = re.sub(r"^norm(\d)$", r"conv\1", layer).removesuffix("_norm")
        return Place(f"{scope}{conv}/BatchNorm/{NORM[leaf]}")
    return Place(f"{scope}{layer}/{CONV[leaf]}")


def _inception(path: Path, model: Network) -> Place:
    scope, (_, *modules, leaf) = SCOPES[type(model)], path
    if modules == ["logits"]:
        key = f"{scope}/Logits/{LOGITS[type(model)]}/{CONV[leaf]}"
        return _one_by_one(key) if leaf == "kernel" else Place(key)
    if modules[0] == "auxlogits":
        name = f"AuxLogits/{AUXILIARY[modules[1]]}"
        if modules[1] == "logits":
            key = f"{scope}/{name}/{CONV[leaf]}"
            return _one_by_one(key) if leaf == "kernel" else Place(key)
    elif len(modules) == 3:
        name = f"{modules[0].capitalize()}/{_names(scope)[f'{modules[0]}/{modules[1]}']}"
    else:
        name = modules[0].capitalize()
    if modules[-1] == "depthwise":
        return _depthwise(f"{scope}/{name}/depthwise_weights")
    if modules[-1] == "pointwise":
        return Place(f"{scope}/{name}/{'pointwise_weights' if leaf == 'kernel' else 'biases'}")
    return Place(f"{scope}/{name}/{'weights' if leaf == 'kernel' else f'BatchNorm/{NORM[leaf]}'}")


def _depthwise(key: str) -> Place:
    """[h, w, colours, filters a colour], ours [h, w, 1, colours * filters]."""
    return Place(
        key,
        lambda kernel: kernel.reshape(*kernel.shape[:2], 1, -1),
        lambda kernel: kernel.reshape(*kernel.shape[:2], 3, -1),
    )


@cache
def _names(scope: str) -> dict[str, str]:
    """Return {"MODULE/LAYER": "Branch_i/NAME"} of the convolutions in modules."""
    tables: dict[str, dict[str, Branches]] = {
        "InceptionV1": inception_v1.MODULES,
        "InceptionV2": inception_v2.MODULES,
        "InceptionV3": {
            module: {branch: inception_v3.numbered(branch, row) for branch, row in rows.items()}
            for module, rows in inception_v3.MODULES.items()
        },
    }
    names = {}
    for module, branches in tables[scope].items():
        halving = "1x1" not in branches
        for i, (branch, layers) in enumerate(branches.items()):
            letters = iter("bcdefg" if branch == "pool" else "abcdefg")
            for j, layer in enumerate(layers, 1):
                for name, kernel in layer.convolutions:
                    # The third branch of v1 keeps the paper's name and has slim's kernel.
                    high, wide = (3, 3) if (scope, name) == ("InceptionV1", "5x5") else kernel
                    level = "1a" if halving and j == len(layers) else f"0{next(letters)}"
                    own = ODD.get(f"{scope}/{module}/{name}", f"Conv2d_{level}_{high}x{wide}")
                    names[f"{module}/{name}"] = f"Branch_{i}/{own}"
    return names


def preprocessing(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Return slim's preprocessing for evaluation: inception_preprocessing's, or vgg_preprocessing's."""
    if name.startswith("inception") or "_v2" in name:
        side = input_size(name) if name.startswith("inception") else 299  # resnet_v2's, by its page
        return Preprocessing(side, "fraction", interpolation="tensorflow", **CENTRED)
    return Preprocessing(input_size(name), "crop", 256, "tensorflow", divisor=1.0, mean=MEAN)


def guess(arrays: Arrays) -> list[Fit]:
    """Return the networks of slim that arrays could be, by their scopes; their width is 1."""
    return list(_guess(arrays))


def _guess(arrays: Arrays) -> Iterator[Fit]:
    scopes = {key.partition("/")[0] for key in arrays}
    scale = any(key.endswith("BatchNorm/gamma") for key in arrays)
    for scope in sorted(scopes):
        if match := re.fullmatch(r"resnet_v([12])_(50|101|152|200)", scope):
            yield Fit(f"resnet{match[2]}_v{match[1]}_slim", _classes(arrays, f"{scope}/logits"))
        if scope in VGGS.values():
            yield Fit(f"vgg{scope.removeprefix('vgg_').replace('a', '11')}", _classes(arrays, f"{scope}/fc8"))
        if scope == "alexnet_v2":
            yield Fit("alexnet_slim", _classes(arrays, f"{scope}/fc8"))
    if "InceptionV1" in scopes:
        classes = _classes(arrays, "InceptionV1/Logits/Conv2d_0c_1x1")
        yield Fit("inception_v1_bn", {**V1, **classes, "use_scale": scale})
    if "InceptionV2" in scopes:
        yield Fit("inception_v2_slim", {**_classes(arrays, "InceptionV2/Logits/Conv2d_1c_1x1"), "use_scale": scale})
    if "InceptionV3" in scopes:
        auxiliary = any(key.startswith("InceptionV3/AuxLogits/") for key in arrays)
        classes = _classes(arrays, "InceptionV3/Logits/Conv2d_1c_1x1")
        yield Fit("inception_v3", {**V3, **classes, "use_scale": scale, "auxiliary": auxiliary})


def _classes(arrays: Arrays, layer: str) -> dict[str, int]:
    bias = arrays.get(f"{layer}/biases")
    return {} if bias is None or bias.ndim != 1 else {"num_classes": len(bias)}


NETWORKS = r"alexnet_slim|vgg(11|16|19)|inception_v(1_bn|2_slim|3)|resnet\d+_v[12]_slim"
SOURCE = Source("slim", NETWORKS, place, guess, preprocessing, IGNORED)

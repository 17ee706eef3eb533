"""timm's state dicts: VGG, Inception v3 and ResNets, and its pre-activation ResNets (`resnetv2_50` and deeper).

Its resnetv2_*_bit and resnetv2_*x* have group norm and standardised weights, which no network here has.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

from classicnets.models import ENTRIES, input_size
from classicnets.models.network import Network
from classicnets.models.resnet import ResNet
from classicnets.models.stacks import Path
from classicnets.models.vgg import VGG
from classicnets.weights.convert import Arrays, Fit, Place, Source, convolution
from classicnets.weights.preprocessing import CENTRED, FRACTION, IMAGENET, Preprocessing
from classicnets.weights.tables import torchvision
from classicnets.weights.tables.torchvision import COUNTERS, LEAVES

# VGG's dense layers are convolutions here, of 7x7 and 1x1, and a dense one.
DENSE = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
PREACT = {"conv1": "stem.conv", "postnorm": "norm", "logits": "head.fc"}
UNIT = {"preact": "norm1", "norm1": "norm2", "norm2": "norm3", "shortcut": "downsample.conv"}


def place(path: Path, model: Network, keys: Sequence[str] = ()) -> Place:
    """Return where the leaf at `path` stands in timm's state dict."""
    if isinstance(model, ResNet) and model.preactivation:
        return _preactivation(path)
    if isinstance(model, VGG) and path[1] in DENSE:
        key = f"{DENSE[path[1]]}.{LEAVES[path[-1]]}"
        if path[-1] != "kernel":
            return Place(key)
        if path[1] == "fc6":
            return convolution(key)
        if path[1] == "fc8":
            return Place(key, lambda weight: weight.T, lambda kernel: kernel.T)
        return Place(key, lambda weight: weight[:, :, 0, 0].T, lambda kernel: kernel.T[:, :, None, None])
    return torchvision.place(path, model)


def _preactivation(path: Path) -> Place:
    *outer, layer, leaf = path[1:]
    if outer:
        stage, unit = int(outer[0].removeprefix("block")) - 1, int(outer[1].removeprefix("unit_")) - 1
        name = f"stages.{stage}.blocks.{unit}.{UNIT.get(layer, layer)}"
    else:
        name = PREACT[layer]
    key = f"{name}.{LEAVES[leaf]}"
    if leaf != "kernel":
        return Place(key)
    if layer == "logits":  # a 1x1 convolution
        return Place(key, lambda weight: weight[:, :, 0, 0].T, lambda kernel: kernel.T[:, :, None, None])
    return convolution(key)


def preprocessing(name: str, sha256: str = "", folder: FilePath | None = None) -> Preprocessing:
    """Return what the config.json beside the file says, as timm's files on a hub have it, or timm's default.

    That is `default_cfg` of timm 1.0's first weights of the network. Raise ValueError for a damaged config.json.
    """
    side = input_size(name)
    own = _configured(folder / "config.json") if folder else None
    if own is not None:
        return own
    crop = 0.95 if re.fullmatch(r"resnet(18|34|50.*|101.*)|resnet152_v1_5|resnet152", name) else FRACTION
    smooth = "bilinear" if name.startswith("vgg") or name == "wide_resnet101_2" else "bicubic"
    moments = CENTRED if name.startswith("inception") or name.endswith("_v2") else IMAGENET
    return Preprocessing(side, resize=int(side / crop), interpolation=smooth, **moments)


def _configured(path: FilePath) -> Preprocessing | None:
    """Return what timm's `pretrained_cfg` in a file says, None where there is none."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or "pretrained_cfg" not in found:
            return None
        cfg = found["pretrained_cfg"]
        channels, side, width = cfg["input_size"]
        if (channels, side) != (3, width) or cfg.get("crop_mode", "center") != "center":
            raise ValueError("images that are no squares of three colours, cut from the centre")
        if cfg["interpolation"] not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation {cfg['interpolation']!r}")
        moments: dict[str, Any] = {"mean": tuple(map(float, cfg["mean"])), "deviation": tuple(map(float, cfg["std"]))}
        return Preprocessing(side, resize=int(side / cfg["crop_pct"]), interpolation=cfg["interpolation"], **moments)
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{path} does not say what images go through ({error})") from None


def guess(arrays: Arrays) -> list[Fit]:
    """Return the networks of timm that arrays could be; raise ValueError for those with group norm."""
    if "stages.0.blocks.0.conv1.weight" in arrays and "head.fc.weight" in arrays:
        if not any(key.endswith("running_mean") for key in arrays):
            raise ValueError(
                "these are timm's resnetv2_*_bit, with group norm and standardised weights, which no network here has"
            )
        units = tuple(
            len({key.split(".")[3] for key in arrays if key.startswith(f"stages.{stage}.blocks.")})
            for stage in range(4)
        )
        fields = {"num_classes": len(arrays["head.fc.weight"])}
        return [
            Fit(name, fields)
            for name in ENTRIES
            if name.endswith("_v2") and ENTRIES[name].network is ResNet and ENTRIES[name].fields["units"] == units
        ]
    if "pre_logits.fc1.weight" in arrays and "head.fc.weight" in arrays:
        fields = {"num_classes": len(arrays["head.fc.weight"])}
        return [Fit(name, fields) for name in torchvision.vggs(arrays)]
    # AlexNet and GoogLeNet are torchvision's alone.
    return [fit for fit in torchvision.guess(arrays) if fit.name.startswith(("resnet", "wide", "inception_v3"))]


NETWORKS = r"vgg\d+(_bn)?|inception_v3|resnet(18|34)|resnet(50|101|152)(_v1_5|_v2)?|wide_resnet.*"
SOURCE = Source("timm", NETWORKS, place, guess, preprocessing, COUNTERS)

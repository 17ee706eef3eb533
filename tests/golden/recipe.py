"""The weights and images behind the golden activations, drawn by NumPy alone.

Each leaf of a network's variables has a generator of its own, seeded by the CRC-32 of its path, "params/conv1/kernel":

    kernel   normal, variance 2 / fan-in      scale, var   uniform in [0.5, 1.5)
    bias     normal, deviation 0.1            mean         normal, deviation 0.1

At their initial values norms would do nothing and the logits of two images would agree to 1e-7, so that any network
would pass; with these they differ by over SPREAD, which `golden.make` and the test assert.
"""

import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

SPREAD = 0.005


class Golden(NamedTuple):
    """A network of another project: ours, by name and fields, and what is compared: two layers and the logits."""

    name: str
    layers: tuple[str, str, str]
    fields: Mapping[str, Any] = MappingProxyType({})


RESNET = ("block1", "block3", "logits")
KERAS_V2 = {"pool_padding": "zeros"}
KERAS_V3 = {"use_scale": False, "count_padding": False, "auxiliary": False}

TORCHVISION = {
    "alexnet": Golden("alexnet_owt", ("pool1", "conv5", "fc8")),
    **{f"vgg{d}{bn}": Golden(f"vgg{d}{bn}", ("pool2", "pool4", "fc8")) for d in (11, 13, 16, 19) for bn in ("", "_bn")},
    "googlenet": Golden("inception_v1_bn", ("mixed_3c", "mixed_5b", "logits")),
    "inception_v3": Golden("inception_v3", ("mixed_5d", "mixed_7a", "logits")),
    "resnet18": Golden("resnet18", RESNET),
    "resnet34": Golden("resnet34", RESNET),
    **{f"resnet{d}": Golden(f"resnet{d}_v1_5", RESNET) for d in (50, 101, 152)},
    "wide_resnet50_2": Golden("wide_resnet50_2", RESNET),
    "wide_resnet101_2": Golden("wide_resnet101_2", RESNET),
}
KERAS = {
    **{f"VGG{d}": Golden(f"vgg{d}", ("pool2", "pool4", "fc8")) for d in (16, 19)},
    **{f"ResNet{d}": Golden(f"resnet{d}", RESNET, {"biases": "all"}) for d in (50, 101, 152)},
    **{f"ResNet{d}V2": Golden(f"resnet{d}_v2_slim", RESNET, KERAS_V2) for d in (50, 101, 152)},
    "InceptionV3": Golden("inception_v3", ("mixed_5d", "mixed_7a", "logits"), KERAS_V3),
}
GOLDEN = {f"torchvision_{name}": golden for name, golden in TORCHVISION.items()}
GOLDEN |= {f"keras_{name}": golden for name, golden in KERAS.items()}


def leaf(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values at "params/conv1/kernel"; a kernel's shape is [..., h, w, i, o] or [i, o]."""
    rng, kind = np.random.default_rng(zlib.crc32(path.encode())), path.rpartition("/")[2]
    if kind in ("scale", "var"):
        return rng.random(shape, np.float32) + np.float32(0.5)
    deviation = (2 / np.prod(shape[-4:-1])) ** 0.5 if kind == "kernel" else 0.1
    return rng.standard_normal(shape, np.float32) * np.float32(deviation)


def images(size: int) -> np.ndarray:
    """Two images, [2, size, size, 3]: noise of deviation 1 and 2 about two colours, which deep networks tell apart."""
    noise = np.random.default_rng(size).standard_normal((2, size, size, 3), np.float32)
    contrast = np.array([1, 2], np.float32).reshape(2, 1, 1, 1)
    colour = np.array([[2, 0, -2], [-2, 2, 0]], np.float32).reshape(2, 1, 1, 3)
    return contrast * noise + colour


def sample(activation: np.ndarray) -> np.ndarray:
    """At most 1024 values of [2, h, w, c], evenly spaced; logits [2, 1000] whole."""
    flat = np.asarray(activation, np.float32).ravel()
    return flat if activation.ndim == 2 else flat[:: -(-flat.size // 1024)]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / |b|, the L2 norms in float64."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))

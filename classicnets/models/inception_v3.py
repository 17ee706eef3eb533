"""Inception v3 (Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016).

`inception_v3` is Table 1 with factorised 7x7 convolutions and a batch-normalised auxiliary head (the last row of Table
3), as its authors released it and torchvision computes it: 27,161,264 parameters, 23,834,568 without the head, 5.71 G
multiply-adds at 299x299. Three projects agree on the layers, and differ in what these fields say:

    torchvision   the defaults
    slim          use_scale=False, count_padding=False, dropout=0.2: 27,143,152 parameters
    Keras         use_scale=False, count_padding=False, dropout=0.0, auxiliary=False: 23,817,352

Where the released network, and so this one, departs from the paper:
- Table 1 has 3x3 convolutions with 80, 192 (stride 2) and 288 features after the first pool. Here are a 1x1 with 80, a
  3x3 with 192 and a pool. (The table cannot be right: its last convolution keeps 35x35 without being marked padded.)
- Table 1 has three modules of 288 channels; here they have 256, 288 and 288.
- Figure 5 has a 3x3 branch beside the double 3x3 one; here it is a 5x5.
- Figure 10 has a 1x1 before both branches of a reduction; here the 3x3 of mixed_6a has none, and the deeper branch of
  mixed_7a is 1x1, 1x7, 7x1, 3x3.
- The abstract says 5 billion multiply-adds and under 25 million parameters; counted, 5.71 billion, and 23.8 million
  without the auxiliary head but 27.2 million with it.
- What the paper leaves open: dropout before the logits is torchvision's (slim 0.2, Keras none); kernels are drawn as
  slim draws them (He, truncated; the auxiliary head's last two with deviations 0.01 and 0.001).
- Label smoothing (section 7) is not the network's but the recipe's: label_smoothing=0.1.
And where it departs from the released network:
- Batch norm's running averages have momentum 0.9 (torchvision) where slim has 0.9997, and keep the biased variance.
- `stem="small"`, for 28x28 and 32x32 images: the first convolution has stride 1 and the first pool is left out (its
  kernel is 3x3 as it is).
- The auxiliary head averages over what its 5x5 convolution leaves of larger images, as torchvision does (slim fails),
  and its windows are cut to smaller maps, as slim does for the convolution (torchvision fails): the shape of that one
  kernel depends on the size of the images below 299x299.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.checks import check_fields, check_size
from classicnets.models.conv import ConvMethod
from classicnets.models.layers import (
    ACTIVATIONS,
    AdaptiveAvgPool,
    AvgPool,
    ConvNorm,
    Dropout,
    Head,
    MaxPool,
    SlidingAvgPool,
    Stem,
    bound,
    execution,
    execution_option,
    scaled,
)
from classicnets.models.network import Network

Branch = Literal["1x1", "nxn", "double", "pool"]
Layer = tuple[str, int]  # (kernel, features); "1x3 | 3x1" is two convolutions side by side
Branches = dict[Branch, tuple[Layer, ...]]

he_truncated = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class Inception(nn.Module):
    """The outputs of the branches, side by side: [n, h, w, c] -> [n, h', w', sum of the branches' features].

    A branch is its layers in series, "pool" being a 3x3 pool before them. With strides 1 that is an average pool and
    h' = h (figures 5 to 7); with strides 2 a maximum pool, the last convolution of the others has the stride too,
    and nothing is padded (figure 10: the grid shrinks without a bottleneck). A layer is called after its branch
    and number, "double_3"; one that is alone, "1x1"; two side by side, "double_3a" and "double_3b".
    """

    branches: Branches
    strides: int
    count_padding: bool
    unit: Callable[..., Any]

    @nn.compact
    def __call__(self, x):
        return jnp.concatenate([self.branch(name, layers, x) for name, layers in self.branches.items()], -1)

    def branch(self, name: Branch, layers: tuple[Layer, ...], x):
        if name == "pool" and self.strides == 1:
            x = AvgPool(3, 1, "SAME", count_padding=self.count_padding, name="avgpool")(x)
        elif name == "pool":
            x = MaxPool(3, 2, name="maxpool")(x)
        for i, (kernels, features) in enumerate(layers, 1):
            strides = self.strides if i == len(layers) else 1
            unit = partial(self.unit, features, strides=strides, padding="SAME" if strides == 1 else "VALID")
            called = name if len(layers) == 1 else f"{name}_{i}"
            first, *second = map(size, kernels.split(" | "))
            if second:
                x = [unit(first, name=f"{called}a")(x), unit(second[0], name=f"{called}b")(x)]
                x = jnp.concatenate(x, -1)
            else:
                x = unit(first, name=called)(x)
        return x


class AuxiliaryHead(nn.Module):
    """pool 5x5/3, 1x1, 5x5, mean, dense: [n, h, w, c] -> logits [n, num_classes]. (Figure 8.)

    The windows are cut to maps that are smaller.
    """

    num_classes: int
    features: tuple[int, int]
    unit: Callable[..., Any]
    conv: Callable[..., Any]
    dtype: Any

    @nn.compact
    def __call__(self, x):
        x = AvgPool(min(5, *x.shape[1:3]), 3, name="avgpool_1a_5x5")(x)
        x = self.unit(self.features[0], (1, 1), name="conv2d_1b_1x1")(x)
        kernel = (min(5, x.shape[1]), min(5, x.shape[2]))
        conv = partial(self.conv, kernel_init=nn.initializers.truncated_normal(0.01))
        x = self.unit(self.features[1], kernel, padding="VALID", conv=conv, name="conv2d_2a_5x5")(x)
        init = nn.initializers.truncated_normal(0.001)
        return nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name="logits")(x.mean((1, 2)))


def figure5(pool: int) -> Branches:
    """35x35 maps."""
    return {
        "1x1": (("1x1", 64),),
        "nxn": (("1x1", 48), ("5x5", 64)),
        "double": (("1x1", 64), ("3x3", 96), ("3x3", 96)),
        "pool": (("1x1", pool),),
    }


def figure6(c: int) -> Branches:
    """17x17 maps, n = 7: an nxn convolution as 1xn and nx1."""
    return {
        "1x1": (("1x1", 192),),
        "nxn": (("1x1", c), ("1x7", c), ("7x1", 192)),
        "double": (("1x1", c), ("7x1", c), ("1x7", c), ("7x1", c), ("1x7", 192)),
        "pool": (("1x1", 192),),
    }


def figure7() -> Branches:
    """8x8 maps: 1x3 and 3x1 side by side, for high-dimensional representations."""
    return {
        "1x1": (("1x1", 320),),
        "nxn": (("1x1", 384), ("1x3 | 3x1", 384)),
        "double": (("1x1", 448), ("3x3", 384), ("1x3 | 3x1", 384)),
        "pool": (("1x1", 192),),
    }


MODULES: dict[str, Branches] = {
    "mixed_5b": figure5(pool=32),
    "mixed_5c": figure5(pool=64),
    "mixed_5d": figure5(pool=64),
    "mixed_6a": {"nxn": (("3x3", 384),), "double": (("1x1", 64), ("3x3", 96), ("3x3", 96)), "pool": ()},
    "mixed_6b": figure6(128),
    "mixed_6c": figure6(160),
    "mixed_6d": figure6(160),
    "mixed_6e": figure6(192),
    "mixed_7a": {
        "nxn": (("1x1", 192), ("3x3", 320)),
        "double": (("1x1", 192), ("1x7", 192), ("7x1", 192), ("3x3", 192)),
        "pool": (),
    },
    "mixed_7b": figure7(),
    "mixed_7c": figure7(),
}
REDUCTIONS = ("mixed_6a", "mixed_7a")
# The smallest images, by stem and stem_padding: mixed_6a needs 7x7.
SMALLEST = {
    ("imagenet", "VALID"): 75,
    ("imagenet", "SAME"): 49,
    ("small", "VALID"): 21,
    ("small", "SAME"): 13,
}


class InceptionV3(Network):
    """[n, h, w, c] -> logits [n, num_classes], or pooled features [n, 2048 * width] if num_classes is None.

    With `auxiliary`, training gives (logits, auxiliary logits); there is no auxiliary head without classes.

    branches: those that modules have; the two grid reductions keep all of theirs. reduce=False: the naive module, no
    1x1 before a larger kernel or after the pool. factorised=False: one nxn for every 1xn, nx1. count_padding: whether
    average pools count padding as zeros (torchvision) or leave it out (slim, Keras). stem_padding: "SAME" pads all of
    the stem, where the paper pads one convolution. use_scale: batch norm's gamma. head: "pooled" averages the whole
    map; "convolutional" 8x8 windows of it, [n, h', w', num_classes], with the same parameters; "dense" takes it whole.
    """

    kind = "classicnets.models.inception_v3:InceptionV3"

    branches: tuple[Branch, ...] = get_args(Branch)
    reduce: bool = True
    factorised: bool = True
    count_padding: bool = True
    stem: Stem = "imagenet"
    stem_padding: Literal["VALID", "SAME"] = "VALID"
    auxiliary: bool = True
    head: Head = "pooled"
    norm: Literal["batch"] | None = "batch"
    use_scale: bool = True
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.5
    width: float = 1.0
    min_depth: int = 16
    num_classes: int | None = 1000
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv: ConvMethod = execution_option("auto")

    def check(self):
        """Raises ValueError, in one sentence, for a network that cannot be."""
        check_fields(self)
        if len(self.branches) == 0 or len(set(self.branches)) < len(self.branches):
            choices = ", ".join(get_args(Branch))
            raise ValueError(f"branches must be one or more of {choices}, each once, got {self.branches!r}")

    execution = execution

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        check_size(images, SMALLEST[self.stem, self.stem_padding])
        conv, norm = bound(self, train)
        conv = partial(conv, kernel_init=he_truncated)
        norm = None if self.norm is None else partial(norm, epsilon=1e-3, use_scale=self.use_scale)
        unit = partial(ConvNorm, conv=conv, norm=norm, activation=ACTIVATIONS[self.activation])

        x, auxiliary = self.stem_layers(images, unit), None
        for name in MODULES:
            strides = 2 if name in REDUCTIONS else 1
            x = Inception(self.module(name), strides, self.count_padding, unit, name=name)(x)
            if name == "mixed_6e" and self.auxiliary and self.num_classes and (train or self.is_initializing()):
                features = (self.depth(128), self.depth(768))
                auxiliary = AuxiliaryHead(self.num_classes, features, unit, conv, self.dtype, name="auxlogits")(x)
        logits = self.head_layers(x, train)
        return (logits, auxiliary) if train and auxiliary is not None else logits

    def stem_layers(self, x, unit):
        """[n, 299, 299, c] -> [n, 35, 35, 192]."""
        small, padding = self.stem == "small", self.stem_padding
        x = unit(self.depth(32), (3, 3), 1 if small else 2, padding, name="conv2d_1a_3x3")(x)
        x = unit(self.depth(32), (3, 3), 1, padding, name="conv2d_2a_3x3")(x)
        x = unit(self.depth(64), (3, 3), 1, "SAME", name="conv2d_2b_3x3")(x)
        if not small:
            x = MaxPool(3, 2, padding, name="maxpool_3a_3x3")(x)
        x = unit(self.depth(80), (1, 1), name="conv2d_3b_1x1")(x)
        x = unit(self.depth(192), (3, 3), 1, padding, name="conv2d_4a_3x3")(x)
        return MaxPool(3, 2, padding, name="maxpool_5a_3x3")(x)

    def head_layers(self, x, train: bool):
        if self.head != "dense":
            pool = partial(AdaptiveAvgPool, 1) if self.head == "pooled" else partial(SlidingAvgPool, 8)
            x = pool(name="avgpool_1a")(x)
        if self.num_classes is not None:
            x = Dropout(self.dropout, not train, self.axis_name, name="prelogits")(x)
        if self.head != "convolutional":
            x = x.reshape(x.shape[0], -1)
        if self.num_classes is None:
            return x
        return nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=he_truncated, name="logits")(x)

    def depth(self, features: int) -> int:
        return scaled(features, self.width, self.min_depth)

    def module(self, name: str) -> Branches:
        """The module's row of the table, under this network's options."""
        kept = get_args(Branch) if name in REDUCTIONS else self.branches
        branches: Branches = {}
        for branch, layers in MODULES[name].items():
            if branch not in kept:
                continue
            if not self.reduce and branch != "1x1":
                layers = tuple(layer for layer in layers if layer[0] != "1x1")
            if not self.factorised:
                layers = unfactorised(layers)
            branches[branch] = tuple((kernel, self.depth(features)) for kernel, features in layers)
        return branches


def unfactorised(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """1xn and nx1 as one nxn: with the features of the second if they are in series, of both if side by side."""
    whole: list[Layer] = []
    for kernels, features in layers:
        n = max(size(kernels.split(" | ")[0]))
        if " | " in kernels:
            whole.append((f"{n}x{n}", 2 * features))
        elif whole and _asymmetric(whole[-1][0]):
            whole[-1] = (f"{n}x{n}", features)
        else:
            whole.append((kernels, features))
    return tuple(whole)


def size(kernel: str) -> tuple[int, int]:
    """(1, 7) of "1x7"."""
    height, width = map(int, kernel.split("x"))
    return height, width


def _asymmetric(kernel: str) -> bool:
    height, width = size(kernel)
    return height != width


inception_v3 = partial(InceptionV3)

NETWORKS = {"inception_v3": inception_v3}
INPUT_SIZES = {"inception_v3": 299}

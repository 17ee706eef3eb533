"""Residual networks (He et al., "Deep residual learning for image recognition", CVPR 2016).

`CifarResNet` is section 4.2: a 3x3 stem, three stages of n blocks with 16, 32 and 64 channels, the
map halved where the channels double, global average pooling, one dense layer: 6n+2 weighted layers.
A plain network is the same class and the same block with `shortcut="none"`.

`ResNet` is Table 1. Of one argument each:

    resnet18 to resnet200   the paper's (200 is of the 2016 ECCV paper's depth): strides in a block's first 1x1
    resnet50_v1_5 ...       stride_in="3x3": torchvision's resnet50, equal in parameters, 6 % more multiply-adds
    wide_resnet50_2 ...     and widen=2: torchvision's; twice the channels in the 3x3s
    plain18, plain34        shortcut="none": Table 2
    resnet50_v1_slim ...    stride_in="last": strides in the last unit of a block, as tf-slim has them
    resnet50_v2 ...         preactivation=True, in `resnet_v2`

The paper compares plain18 and plain34 with option A (shortcut="A") in Table 2; resnet18 and resnet34 have option B,
its choice for deeper networks. `CifarResNet`'s layers are called stem, stage1, stage2_first, stage2, ..., global_pool,
head.

biases="all" gives each convolution a bias, as Keras does (25,583,592 parameters for resnet50; its epsilon is
1.001e-5). resnet18 and resnet34 are torchvision's too, since a basic block has its strides in the first 3x3.

Endpoints, by module path: conv1 (before conv1_norm), pool1, block1 to block4 (the paper's conv2_x to conv5_x),
global_pool, logits; in a block its units as `residual.Stage` names them: unit k is `block2/unit_k` or, where equal
units are stacked, index k - i of `block2/units_i_j`; in a unit conv1, conv2, conv3 and shortcut, whose outputs are
before the norms (slim's endpoints of these names are after them).

Departures: batch norm's running averages (momentum 0.9, where slim has 0.997) keep the biased variance, as Flax does;
the paper does not say how it computes its test-time statistics. Table 1 does not say how pool1 is padded: here as
torch does, by one pixel on each side (the authors' Caffe model pads after the last only; slim and Keras are options).
The authors' Caffe model of 50 layers has a bias in conv1. `stem="small"` (3x3, stride 1, no pool) is for 28x28 and
32x32 images. The paper's "FLOPs" are multiply-adds: 3.86, 7.57 and 11.28 G counted, 3.8, 7.6 and 11.3 printed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.checks import check_depth, check_fields, check_size
from classicnets.models.conv import ConvMethod
from classicnets.models.layers import (
    ACTIVATIONS,
    Head,
    MaxPool,
    bound,
    classify_pooled,
    execution,
    execution_option,
    scaled,
)
from classicnets.models.network import Network
from classicnets.models.residual import (
    Block,
    Bottleneck,
    PreactBlock,
    PreactBottleneck,
    Shortcut,
    Stage,
    he_normal,
    no_layer,
    stacked,
)
from classicnets.system.fields import require_choice

StrideIn = Literal["1x1", "3x3", "last"]
Biases = Literal["none", "unnormed", "all"]
PoolPadding = Literal["symmetric", "same", "zeros"]
Stem = Literal["imagenet", "small", "none"]


class CifarResNet(Network):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 64 * width] if num_classes is None.

    Section 4.2, with 6n+2 = depth. The blocks of a stage that have equal shapes are one scan over stacked
    parameters; `unroll` compiles them without a loop, over the same parameters. dropout: before the logits, which are
    called head here. head: as in `ResNet`.
    """

    kind = "classicnets.models.resnet:CifarResNet"

    depth: int = 20
    shortcut: Shortcut = "A"
    norm: Literal["batch"] | None = "batch"
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.0
    zero_init: bool = False
    head: Head = "pooled"
    width: float = 1.0
    min_depth: int = 1
    num_classes: int | None = 10
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv: ConvMethod = execution_option("auto")
    unroll: bool = execution_option(False)

    def check(self):
        """Raises ValueError, in one sentence, for a network that the paper does not define."""
        check_fields(self)
        check_depth(self.depth, 6, 2)
        check_zero_init(self)

    execution = execution

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        check_size(images, 1)
        conv, norm = bound(self, train)
        if self.norm is None:
            norm = no_layer
        activation = ACTIVATIONS[self.activation]
        conv = partial(conv, padding=1, use_bias=self.norm is None, kernel_init=he_normal)
        block = partial(Block, shortcut=self.shortcut, conv=conv, norm=norm, shortcut_name="projection")
        block = partial(block, activation=activation, zero_init=self.zero_init)
        blocks = (self.depth - 2) // 6
        widths = [scaled(features, self.width, self.min_depth) for features in (16, 32, 64)]

        x = conv(widths[0], (3, 3), name="stem")(images)
        x = activation(norm(name="stem_norm")(x))
        x = self.stage(block(widths[0], 1, name="stage1"), blocks, x)
        x = block(widths[1], 2, name="stage2_first")(x)
        x = self.stage(block(widths[1], 1, name="stage2"), blocks - 1, x)
        x = block(widths[2], 2, name="stage3_first")(x)
        x = self.stage(block(widths[2], 1, name="stage3"), blocks - 1, x)
        return classify_pooled(self, x, self.dropout, train=train, name="head")

    def stage(self, block: Block, length: int, x):
        return stacked(block, length, x, self.unroll) if length else x


def check_zero_init(network) -> None:
    """Raises ValueError where there is no norm whose scale could be zero."""
    if network.zero_init and network.norm is None:
        raise ValueError("zero_init must be False without norm, whose last scale it sets, got True")


class ResNet(Network):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, c'] if num_classes is None.

    block, units, features: Table 1, the blocks of a stage, how many, and their 3x3s' channels (a bottleneck
        ends in four times as many). widen: multiplies a bottleneck's inner channels.
    stride_in: where a stage halves the map: a bottleneck's first 1x1 or its 3x3, in the first unit, or the 3x3 of the
        last unit of the stage before.
    preactivation: v2, BN and ReLU before each convolution; no norm after conv1 and one (postnorm) after the last unit.
    biases: "unnormed" gives a bias to the convolutions that no norm follows, slim's rule.
    output_stride: pixels between neighbours of the last map; where a stage would go beyond, dilation replaces strides.
    global_pool: False gives logits, or features, at each position. head: "convolutional" has the logits before
        global pooling, with equal results; "dense" reads the whole map in its place.
    stem: "none" is slim's include_root_block=False; "small" is 3x3 with stride 1 and no pool.
    dropout: before the logits. zero_init: each residual branch starts at zero.
    """

    kind = "classicnets.models.resnet:ResNet"

    block: Literal["basic", "bottleneck"] = "bottleneck"
    units: tuple[int, ...] = (3, 4, 6, 3)
    features: tuple[int, ...] = (64, 128, 256, 512)
    shortcut: Shortcut = "B"
    stride_in: StrideIn = "1x1"
    preactivation: bool = False
    widen: int = 1
    biases: Biases = "none"
    stem: Stem = "imagenet"
    pool_padding: PoolPadding = "symmetric"
    output_stride: int | None = None
    global_pool: bool = True
    head: Head = "pooled"
    norm: Literal["batch"] | None = "batch"
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.0
    zero_init: bool = False
    width: float = 1.0
    min_depth: int = 1
    num_classes: int | None = 1000
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv: ConvMethod = execution_option("auto")
    unroll: bool = execution_option(False)

    def check(self):
        """Raises ValueError, in one sentence, for a bad field."""
        check_fields(self)
        if not self.units or min(self.units) < 1:
            raise ValueError(f"units must be one or more numbers of at least 1, got {self.units}")
        if len(self.features) != len(self.units) or min(self.features) < 1:
            raise ValueError(f"features must be {len(self.units)} numbers of at least 1, got {self.features}")
        if self.widen < 1 or (self.widen > 1 and self.block == "basic"):
            raise ValueError(f"widen must be at least 1, and 1 in basic blocks, got {self.widen}")
        if not self.preactivation:
            check_zero_init(self)
        if self.head == "dense" and not self.global_pool:
            raise ValueError("global_pool must be True where head is 'dense', which takes the whole map, got False")
        root = 4 if self.stem == "imagenet" else 1
        reachable = [root * 2**i for i in range(len(self.units))]
        if self.output_stride is not None:
            require_choice("output_stride", self.output_stride, reachable)

    execution = execution

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        check_size(images, 1)
        conv, norm = bound(self, train)
        if self.norm is None:
            norm = no_layer
        act = ACTIVATIONS[self.activation]
        bias = self.norm is None or self.biases == "all"
        bare_bias = bias or self.biases == "unnormed"
        conv = partial(conv, use_bias=bias, kernel_init=he_normal)

        x = images
        if self.stem != "none":
            kernel, strides = (7, 2) if self.stem == "imagenet" else (3, 1)
            options = {"use_bias": bare_bias if self.preactivation else bias, "padding": kernel // 2, "name": "conv1"}
            x = conv(scaled(64, self.width, self.min_depth), (kernel, kernel), strides, **options)(x)
            x = x if self.preactivation else act(norm(name="conv1_norm")(x))
        if self.stem == "imagenet":
            x = self.pool1(x)
        for i, (strides, dilation) in enumerate(self.strides(), 1):
            x = self.stage(i, strides, dilation, conv, norm, bare_bias)(x)
        if self.preactivation:
            x = act(norm(name="postnorm")(x))

        return classify_pooled(self, x, self.dropout, train=train)

    def pool1(self, x):
        """3x3, strides 2. Keras pads with zeros, which is not the same where no ReLU came before (v2)."""
        if self.pool_padding == "zeros":
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        padding = {"symmetric": 1, "same": "SAME", "zeros": "VALID"}[self.pool_padding]
        return MaxPool(3, 2, padding, name="pool1")(x)

    def strides(self) -> list[tuple[int, tuple[int, int]]]:
        """For each stage its strides and its dilation up to these and after them."""
        stages, stride, rate = [], 4 if self.stem == "imagenet" else 1, 1
        for i in range(len(self.units)):
            wanted = 2 if self.strided(i) else 1
            if stride == self.output_stride:
                stages.append((1, (rate, rate * wanted)))
                rate *= wanted
            else:
                stages.append((wanted, (1, 1)))
                stride *= wanted
        return stages

    def strided(self, i: int) -> bool:
        return i < len(self.units) - 1 if self.stride_in == "last" else i > 0

    def stage(self, i: int, strides: int, dilation: tuple[int, int], conv, norm, bare_bias: bool) -> Stage:
        inner = scaled(self.features[i - 1], self.width, self.min_depth)
        unit: Callable[..., Any] = {
            ("basic", False): Block,
            ("basic", True): PreactBlock,
            ("bottleneck", False): Bottleneck,
            ("bottleneck", True): PreactBottleneck,
        }[self.block, self.preactivation]
        unit = partial(unit, conv=conv, norm=norm, activation=ACTIVATIONS[self.activation], zero_init=self.zero_init)
        if self.block == "bottleneck":
            unit = partial(unit, inner=inner * self.widen, stride_in="1x1" if self.stride_in == "1x1" else "3x3")
        if self.preactivation:
            unit = partial(unit, bias=bare_bias)
        return Stage(
            unit=unit,
            features=inner * 4 if self.block == "bottleneck" else inner,
            length=self.units[i - 1],
            strides=strides,
            shortcut=self.shortcut,
            strided=self.strided(i - 1),
            last=self.stride_in == "last",
            dilation=dilation,
            unroll=self.unroll,
            name=f"block{i}",
        )


# Table 1, and 200 layers of the ECCV 2016 paper.
UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}

resnet18 = partial(ResNet, block="basic", units=UNITS[18])
resnet34 = partial(ResNet, block="basic", units=UNITS[34])
resnet50 = partial(ResNet, units=UNITS[50])
resnet101 = partial(ResNet, units=UNITS[101])
resnet152 = partial(ResNet, units=UNITS[152])
resnet200 = partial(ResNet, units=UNITS[200])

plain18 = partial(resnet18, shortcut="none")
plain34 = partial(resnet34, shortcut="none")

resnet50_v1_5 = partial(resnet50, stride_in="3x3")
resnet101_v1_5 = partial(resnet101, stride_in="3x3")
resnet152_v1_5 = partial(resnet152, stride_in="3x3")
wide_resnet50_2 = partial(resnet50_v1_5, widen=2)
wide_resnet101_2 = partial(resnet101_v1_5, widen=2)

slim = {"stride_in": "last", "pool_padding": "same"}
resnet50_v1_slim = partial(resnet50, **slim)
resnet101_v1_slim = partial(resnet101, **slim)
resnet152_v1_slim = partial(resnet152, **slim)
resnet200_v1_slim = partial(resnet200, **slim)

ResNet18, ResNet34, ResNet50, ResNet101, ResNet152, ResNet200 = (
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnet200,
)

NETWORKS: dict[str, Any] = {
    "cifar_resnet": CifarResNet,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "resnet200": resnet200,
    "plain18": plain18,
    "plain34": plain34,
    "resnet50_v1_5": resnet50_v1_5,
    "resnet101_v1_5": resnet101_v1_5,
    "resnet152_v1_5": resnet152_v1_5,
    "wide_resnet50_2": wide_resnet50_2,
    "wide_resnet101_2": wide_resnet101_2,
    "resnet50_v1_slim": resnet50_v1_slim,
    "resnet101_v1_slim": resnet101_v1_slim,
    "resnet152_v1_slim": resnet152_v1_slim,
    "resnet200_v1_slim": resnet200_v1_slim,
}
INPUT_SIZES = {"cifar_resnet": 32}

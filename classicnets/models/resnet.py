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
its choice for deeper networks.

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

import jax
import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.layers import ACTIVATIONS, MaxPool
from classicnets.models.network import Entry
from classicnets.models.papers import PREACT, RESNET, billions, millions
from classicnets.models.residual import (
    Block,
    Bottleneck,
    CifarNetwork,
    PreactBlock,
    PreactBottleneck,
    ResidualNetwork,
    Shortcut,
    Stage,
    check_depth,
    he_normal,
)
from classicnets.system.fields import require_choice

StrideIn = Literal["1x1", "3x3", "last"]
Biases = Literal["none", "unnormed", "all"]
PoolPadding = Literal["symmetric", "same", "zeros"]


class CifarResNet(CifarNetwork):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 64 * width] if num_classes is None. Section 4.2."""

    kind = "classicnets.models.resnet:CifarResNet"

    depth: int = 20
    """Weighted layers, 6n+2 (8, 14, 20, ...)."""
    shortcut: Shortcut = "A"
    """Shortcut of each block: "none" (a plain network), the paper's option "A" (identity, new channels are zero), "B"
    (projection where the shape changes) or "C" (projection everywhere), or "pool" (B after average pooling)."""

    def check(self) -> None:
        super().check()
        check_depth(self.depth, 6, 2)
        check_zero_init(self.zero_init, self.norm)

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array:
        conv, norm = self.conv_norm(train)
        conv = partial(conv, padding=1, kernel_init=he_normal)
        activation = ACTIVATIONS[self.activation]
        block = partial(Block, conv=conv, norm=norm, activation=activation, zero_init=self.zero_init)
        x = conv(self.scaled(16), (3, 3), name="conv1")(images)
        x = activation(norm(name="conv1_norm")(x))
        x = self.stages(x, block, self.depth // 6)
        return self.classify(x, self.dropout, train=train)


def check_zero_init(zero_init: bool, norm: str | None) -> None:
    """Raise ValueError where there is no norm whose scale could be zero."""
    if zero_init and norm is None:
        raise ValueError("zero_init must be False without norm, whose last scale it sets, got True")


class ResNet(ResidualNetwork):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, c'] if num_classes is None. Table 1."""

    kind = "classicnets.models.resnet:ResNet"

    block: Literal["basic", "bottleneck"] = "bottleneck"
    """Form of a unit: two 3x3 convolutions, or 1x1, 3x3, 1x1."""
    units: tuple[int, ...] = (3, 4, 6, 3)
    """Units of each stage."""
    features: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of each stage's 3x3 convolutions; a bottleneck ends in four times as many."""
    stride_in: StrideIn = "1x1"
    """Place where a stage halves the map: the first "1x1" (the paper) or the "3x3" of a bottleneck in its first unit,
    or the 3x3 of the "last" unit of the stage before (slim)."""
    preactivation: bool = False
    """Whether norm and activation come before each convolution (v2), with a last norm after the last unit."""
    widen: int = 1
    """Factor of a bottleneck's inner channels."""
    biases: Biases = "none"
    """Convolutions that have a bias: "unnormed" are those that no norm follows (slim), "all" Keras's."""
    stem: Literal["imagenet", "small", "none"] = "imagenet"
    """First layers: 7x7/2 and a pool, or "small" (ours: 3x3/1, no pool) for images of 28x28 or 32x32 pixels; "none" is
    slim's include_root_block=False."""
    pool_padding: PoolPadding = "symmetric"
    """Padding of pool1: torch's "symmetric", TensorFlow's "same", or Keras's "zeros"."""
    output_stride: int | None = None
    """Pixels between neighbours of the last map; where a stage would go beyond, dilation replaces strides."""
    global_pool: bool = True
    """Whether logits, or features, are of the whole image and not of each position."""

    def check(self) -> None:
        super().check()
        if not self.units or min(self.units) < 1:
            raise ValueError(f"units must be one or more numbers of at least 1, got {self.units}")
        if len(self.features) != len(self.units) or min(self.features) < 1:
            raise ValueError(f"features must be {len(self.units)} numbers of at least 1, got {self.features}")
        if self.widen < 1 or (self.widen > 1 and self.block == "basic"):
            raise ValueError(f"widen must be at least 1, and 1 in basic blocks, got {self.widen}")
        if not self.preactivation:
            check_zero_init(self.zero_init, self.norm)
        if self.head == "dense" and not self.global_pool:
            raise ValueError("global_pool must be True where head is 'dense', which takes the whole map, got False")
        root = 4 if self.stem == "imagenet" else 1
        reachable = [root * 2**i for i in range(len(self.units))]
        if self.output_stride is not None:
            require_choice("output_stride", self.output_stride, reachable)

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array:
        conv, norm = self.conv_norm(train)
        act = ACTIVATIONS[self.activation]
        bias = self.norm is None or self.biases == "all"
        bare_bias = bias or self.biases == "unnormed"
        conv = partial(conv, use_bias=bias, kernel_init=he_normal)

        x = images
        if self.stem != "none":
            kernel, strides = (7, 2) if self.stem == "imagenet" else (3, 1)
            options = {"use_bias": bare_bias if self.preactivation else bias, "padding": kernel // 2, "name": "conv1"}
            x = conv(self.scaled(64), (kernel, kernel), strides, **options)(x)
            x = x if self.preactivation else act(norm(name="conv1_norm")(x))
        if self.stem == "imagenet":
            x = self.pool1(x)
        for i, (strides, dilation) in enumerate(self.strides(), 1):
            x = self.stage(i, strides, dilation, conv, norm, bare_bias)(x)
        if self.preactivation:
            x = act(norm(name="postnorm")(x))
        return self.classify(x, self.dropout, train=train, pooled=self.global_pool)

    def pool1(self, x: jax.Array) -> jax.Array:
        """3x3, strides 2. Keras pads with zeros, which is not the same where no ReLU came before (v2)."""
        if self.pool_padding == "zeros":
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        padding = {"symmetric": 1, "same": "SAME", "zeros": "VALID"}[self.pool_padding]
        return MaxPool(3, 2, padding, method=self.conv, name="pool1")(x)

    def strides(self) -> list[tuple[int, tuple[int, int]]]:
        """Return for each stage its strides and its dilation up to these and after them."""
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
        """Return whether stage i, from 0, has strides."""
        return i < len(self.units) - 1 if self.stride_in == "last" else i > 0

    def stage(
        self,
        i: int,
        strides: int,
        dilation: tuple[int, int],
        conv: Callable[..., Any],
        norm: Callable[..., Any],
        bare_bias: bool,
    ) -> Stage:
        """Return block i, from 1."""
        inner = self.scaled(self.features[i - 1])
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
R18, R34 = ({"block": "basic", "units": units} for units in ((2, 2, 2, 2), (3, 4, 6, 3)))
R50, R101, R152, R200 = ({"units": units} for units in ((3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3)))
PLAIN = {"shortcut": "none"}
V1_5 = {"stride_in": "3x3"}
SLIM = {"stride_in": "last", "pool_padding": "same"}

TABLE_1 = f"{RESNET}, Table 1"
STRIDES = (
    "a network with strides in a stage's first 1x1 convolution (the paper's, Caffe's and Keras's), one with strides in "
    "its 3x3 (_v1_5, torchvision's {0}) and one with strides in a stage's last unit (_v1_slim) have equal parameters "
    "and compute different things"
)
N50, N101, N152 = (STRIDES.format(f"resnet{depth}") for depth in (50, 101, 152))
N200 = (
    "a network with strides in a stage's first unit and one with strides in its last (_v1_slim) have equal parameters "
    "and compute different things"
)
N20 = "a plain network and shortcuts A have equal parameters: an identity has none"
P18, P34, P50, P101, P152 = ((billions(text, TABLE_1),) for text in ("1.8", "3.6", "3.8", "7.6", "11.3"))
TABLE_6 = tuple(
    millions(text, f"{RESNET}, Table 6", fields={"depth": depth})
    for depth, text in ((20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7"), (1202, "19.4"))
)

ENTRIES = {
    "cifar_resnet": Entry(
        CifarResNet, {}, f"{RESNET}, section 4.2", 269_722, 40_551_040, size=32, note=N20, printed=TABLE_6
    ),
    "resnet18": Entry(ResNet, R18, TABLE_1, 11_689_512, 1_814_073_344, printed=P18, torchvision="resnet18"),
    "resnet34": Entry(ResNet, R34, TABLE_1, 21_797_672, 3_663_761_408, printed=P34, torchvision="resnet34"),
    "resnet50": Entry(ResNet, R50, TABLE_1, 25_557_032, 3_857_973_248, note=N50, printed=P50),
    "resnet101": Entry(ResNet, R101, TABLE_1, 44_549_160, 7_570_194_432, note=N101, printed=P101),
    "resnet152": Entry(ResNet, R152, TABLE_1, 60_192_808, 11_282_415_616, note=N152, printed=P152),
    "resnet200": Entry(ResNet, R200, f"{PREACT}, section 4: the original unit", 64_673_832, 14_776_270_848, note=N200),
    "plain18": Entry(ResNet, {**R18, **PLAIN}, f"{RESNET}, Table 2", 11_515_688, 1_794_805_760, printed=P18),
    "plain34": Entry(
        ResNet,
        {**R34, **PLAIN},
        f"{RESNET}, Table 2",
        21_623_848,
        3_644_493_824,
        printed=(billions("3.6", f"{RESNET}, Figure 3"),),
    ),
    **{
        name: Entry(ResNet, {**form, **V1_5}, f"torchvision {peer}", parameters, macs, note=note, torchvision=peer)
        for name, form, peer, note, parameters, macs in (
            ("resnet50_v1_5", R50, "resnet50", N50, 25_557_032, 4_089_184_256),
            ("resnet101_v1_5", R101, "resnet101", N101, 44_549_160, 7_801_405_440),
            ("resnet152_v1_5", R152, "resnet152", N152, 60_192_808, 11_513_626_624),
            ("wide_resnet50_2", {**R50, "widen": 2}, "wide_resnet50_2", "", 68_883_240, 11_398_021_120),
            ("wide_resnet101_2", {**R101, "widen": 2}, "wide_resnet101_2", "", 126_886_696, 22_753_050_624),
        )
    },
    **{
        f"resnet{depth}_v1_slim": Entry(
            ResNet, {**form, **SLIM}, f"tf-slim resnet_v1_{depth}", parameters, macs, note=note
        )
        for depth, form, note, parameters, macs in (
            (50, R50, N50, 25_557_032, 3_482_255_360),
            (101, R101, N101, 44_549_160, 7_194_476_544),
            (152, R152, N152, 60_192_808, 10_906_697_728),
            (200, R200, N200, 64_673_832, 14_400_552_960),
        )
    },
}

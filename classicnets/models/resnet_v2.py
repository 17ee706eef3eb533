"""Pre-activation residual networks (He et al., "Identity mappings in deep residual networks", ECCV 2016) and wide ones.

A unit is shortcut(x) + f(relu(BN(x))), so that nothing but additions lies on the path of the identities.

    resnet50_v2 ...         `resnet.ResNet` with preactivation=True: timm's resnetv2_50 (25,549,352 parameters), no
                            biases, strides in the 3x3 of a block's first unit
    resnet50_v2_slim ...    strides in the last unit of a block, biases where no norm follows: tf-slim's resnet_v2_50
                            and Keras's ResNet50V2 (25,568,360), whose pool1 is pool_padding="zeros"
    cifar_resnet_v2         Table 3: 6n+2 layers of basic blocks (110) or 9n+2 of bottlenecks (164, 1001)
    cifar_wide_resnet       Zagoruyko & Komodakis, "Wide residual networks", BMVC 2016, Table 1: 6n+4 layers (the three
                            projections count), `widen` times the channels, the stem kept at 16; WRN-28-10 by default

Endpoints: as in `resnet`, with preact (a unit's first norm) and postnorm (the last one, before its ReLU). The three
stages of the CIFAR networks, the wide paper's conv2 to conv4, are block1 to block3.

Departures: the paper's appendix puts the first activation before the first unit's split; here, as in tf-slim, the
first unit is like the others. Where its shortcut is a projection (bottlenecks, wide units) both branches read the
activation, which is the paper's network, but for the pool between the two at ImageNet size; in cifar_resnet_v2's basic
blocks it is the identity and reads what comes before. Projections have no norm. Option B, as in the authors' code for
bottlenecks, adds 2,560 parameters to option A in basic blocks. The paper's Table 4 gives 10.2 million parameters for
1001 layers; counted, 10,327,706. Batch norm's averages are as in `resnet`; the wide paper's dropout is off by default.
"""

from functools import partial
from typing import Literal

import jax
from flax import linen as nn

from classicnets.models.layers import ACTIVATIONS, Dropout
from classicnets.models.network import Entry
from classicnets.models.papers import PREACT, WIDE, millions
from classicnets.models.residual import CifarNetwork, PreactBlock, PreactBottleneck, check_depth, he_normal
from classicnets.models.resnet import R50, R101, R152, R200, ResNet


class CifarPreactNetwork(CifarNetwork):
    """A pre-activated network of section 4.2's form, with a last norm before the mean over the map."""

    dropout: float = 0.0
    """Probability, in [0, 1), that training sets a value before the last convolution of a unit to zero."""

    def preactivated(self, images: jax.Array, *, train: bool, units: int, bottleneck: bool, widen: int) -> jax.Array:
        """Return the logits of stages of `units` units each, with 16, 32 and 64 times `widen` channels."""
        conv, norm = self.conv_norm(train)
        conv = partial(conv, kernel_init=he_normal)
        activation = ACTIVATIONS[self.activation]
        unit = partial(
            PreactBottleneck if bottleneck else PreactBlock,
            conv=conv,
            norm=norm,
            activation=activation,
            zero_init=self.zero_init,
            bias=self.norm is None,
            dropout=partial(Dropout, self.dropout, not train, self.axis_name),
        )
        x = conv(self.scaled(16), (3, 3), padding=1, name="conv1")(images)
        x = self.stages(x, unit, units, bottleneck, widen)
        x = activation(norm(name="postnorm")(x))
        return self.classify(x, 0.0, train=train)


class CifarResNetV2(CifarPreactNetwork):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, c'] if num_classes is None. Table 3."""

    kind = "classicnets.models.resnet_v2:CifarResNetV2"

    depth: int = 110
    """Weighted layers, 6n+2 with basic blocks (110), 9n+2 with bottlenecks (164, 1001)."""
    block: Literal["basic", "bottleneck"] = "basic"
    """Form of a unit: two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times as many channels at its end."""

    def check(self) -> None:
        super().check()
        check_depth(self.depth, 6 if self.block == "basic" else 9, 2)

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array:
        bottleneck = self.block == "bottleneck"
        units = self.depth // (9 if bottleneck else 6)
        return self.preactivated(images, train=train, units=units, bottleneck=bottleneck, widen=1)


class CifarWideResNet(CifarPreactNetwork):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 64 * widen * width] if num_classes is None."""

    kind = "classicnets.models.resnet_v2:CifarWideResNet"

    depth: int = 28
    """Weighted layers, 6n+4 (16, 22, 28, 40): the three projections count."""
    widen: int = 10
    """Factor of the stages' channels; conv1 keeps 16."""

    def check(self) -> None:
        super().check()
        check_depth(self.depth, 6, 4)
        if self.widen < 1:
            raise ValueError(f"widen must be at least 1, got {self.widen}")

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array:
        return self.preactivated(images, train=train, units=self.depth // 6, bottleneck=False, widen=self.widen)


V2 = {"preactivation": True, "stride_in": "3x3"}
V2_SLIM = {"preactivation": True, "stride_in": "last", "biases": "unnormed", "pool_padding": "same"}
TIMM = f"timm resnetv2_{{0}}, after {PREACT}"
ZEROS = (
    "Keras's ResNet{0}V2 has equal parameters and pads its first pool with zeros (pool_padding='zeros'), which is not "
    "the same where no ReLU came before"
)
TABLE_4 = (
    millions("1.7", f"{PREACT}, Table 4", fields={"depth": 164, "block": "bottleneck"}),
    millions(
        "10.2",
        f"{PREACT}, Table 4",
        fields={"depth": 1001, "block": "bottleneck"},
        why="the layers that the paper describes add up to what is counted",
    ),
)
WIDE_MILLIONS = ((40, 1, "0.6"), (40, 2, "2.2"), (40, 4, "8.9"), (40, 8, "35.7"), (28, 10, "36.5"), (28, 12, "52.5"))
WIDE_MILLIONS += ((22, 8, "17.2"), (22, 10, "26.8"), (16, 8, "11.0"), (16, 10, "17.1"))
WIDE_TABLE_4 = tuple(
    millions(text, f"{WIDE}, Table 4", fields={"depth": depth, "widen": widen}) for depth, widen, text in WIDE_MILLIONS
)

ENTRIES = {
    **{
        f"resnet{depth}_v2": Entry(ResNet, {**form, **V2}, source.format(depth), parameters, macs)
        for depth, form, source, parameters, macs in (
            (50, R50, TIMM, 25_549_352, 4_089_184_256),
            (101, R101, TIMM, 44_541_480, 7_801_405_440),
            (152, R152, TIMM, 60_185_128, 11_513_626_624),
            (200, R200, f"{PREACT}, section 4", 64_666_152, 15_007_481_856),
        )
    },
    **{
        f"resnet{depth}_v2_slim": Entry(
            ResNet, {**form, **V2_SLIM}, f"tf-slim resnet_v2_{depth}", parameters, macs, note=note.format(depth)
        )
        for depth, form, note, parameters, macs in (
            (50, R50, ZEROS, 25_568_360, 3_482_255_360),
            (101, R101, ZEROS, 44_577_896, 7_194_476_544),
            (152, R152, ZEROS, 60_236_904, 10_906_697_728),
            (200, R200, "", 64_726_120, 14_400_552_960),
        )
    },
    "cifar_resnet_v2": Entry(CifarResNetV2, {}, f"{PREACT}, Table 3", 1_730_522, 253_149_824, size=32, printed=TABLE_4),
    "cifar_wide_resnet": Entry(
        CifarWideResNet, {}, f"{WIDE}, Table 1", 36_479_194, 5_243_328_768, size=32, printed=WIDE_TABLE_4
    ),
}

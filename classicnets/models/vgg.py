"""VGG (Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015).

Table 1: five stages of 3x3 convolutions with 64, 128, 256, 512 and 512 channels, ReLU after each, a 2x2/2 max pool
after each stage, then AlexNet's dense layers of 4096, 4096 and 1000 units. A network's name counts its weighted layers:

    vgg11      A       1, 1, 2, 2, 2 convolutions         132,863,336 parameters
    vgg11_lrn  A-LRN   A, with LRN after conv1_1          132,863,336
    vgg13      B       2, 2, 2, 2, 2                      133,047,848
    vgg16_c    C       B, and a 1x1 convolution at the    133,638,952  (Table 2 prints 134 M for C and 133 M for the
                       end of stages 3, 4 and 5                        others before it; rounded, these agree)
    vgg16      D       2, 2, 3, 3, 3                      138,357,544
    vgg19      E       2, 2, 4, 4, 4                      143,667,240
    vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn: torchvision's, with batch norm after each convolution, which keeps its
    bias; the paper has none of these.

Initial weights. The paper trains A from Gaussian weights "with zero mean and 10^-2 variance" and zero biases (many
ports take 0.01 for the standard deviation; here it is 0.1, as the text has it), and starts B to E with A's first four
convolutions and dense layers: `initializer="gaussian"` and `warm_start`. It adds that Glorot & Bengio's weights make
that unnecessary, and they are the default here: with the Gaussian ones, logits of A start at 10^5 for images of unit
variance. "he" is He et al.'s (2015).

Departures. `stem="small"` is ours: the first stage has no pool (its kernels are 3x3 and its strides 1 in any case), and
a convolutional head's fc6 sees the whole map, as a dense head's does. `kernel="single"` is section 2.3's comparison:
one convolution with the receptive field of a stage's stack (5x5 for two 3x3, 7x7 for three, 9x9 for four), with one
ReLU in place of two or more; section 4.1 reports that B with 5x5 in place of each pair lost 7 points of top-1 error.
Batch norm's running averages keep the biased variance, as Flax does; torchvision's keep the unbiased one.
"""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import initializers

from classicnets.models.heads import DenseHeadNetwork
from classicnets.models.layers import ACTIVATIONS, ConvNorm, FullyConnected, MaxPool
from classicnets.models.network import Entry
from classicnets.models.norm import LocalResponseNorm
from classicnets.models.papers import RESNET, billions, millions
from classicnets.models.papers import VGG as PAPER

Configuration = Literal["A", "B", "C", "D", "E"]
Initializer = Literal["gaussian", "glorot", "he"]
Kernel = Literal["stack", "single"]

# Table 1: the sides of the kernels of each stage's convolutions, and a stage's channels.
CONFIGURATIONS: dict[Configuration, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
CHANNELS = (64, 128, 256, 512, 512)
# The side of pool5's map for 224x224 pixels.
WINDOW = 7

INITIALIZERS: dict[Initializer, initializers.Initializer] = {
    "gaussian": initializers.normal(0.1),
    "glorot": initializers.glorot_uniform(),
    "he": initializers.he_normal(),
}

# What a deeper network takes from a trained A, section 3.1: the layers whose shapes agree among its first four
# convolutions (all of A's of stages 1 to 3) and the dense layers.
WARM = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


class VGG(DenseHeadNetwork):
    """[n, h, w, c] -> logits [n, num_classes], or fc7's output if num_classes is None, or pool5's if head is None."""

    kind = "classicnets.models.vgg:VGG"

    configuration: Configuration = "D"
    """Column of Table 1."""
    lrn: bool = False
    """Whether local response normalisation follows conv1_1 (Table 1, A-LRN)."""
    kernel: Kernel = "stack"
    """Convolutions of a stage: the "stack" of Table 1, or a "single" one with its receptive field (section 2.3)."""
    initializer: Initializer = "glorot"
    """Initial kernels: "gaussian" is the paper's, of deviation 0.1; biases start at zero."""

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array:
        conv, norm = self.conv_norm(train)
        conv = partial(conv, use_bias=True, kernel_init=INITIALIZERS[self.initializer])
        layer = partial(ConvNorm, conv=conv, norm=norm, activation=ACTIVATIONS[self.activation])
        x = images
        for stage, (kernels, channels) in enumerate(zip(CONFIGURATIONS[self.configuration], CHANNELS, strict=True), 1):
            if self.kernel == "single":
                kernels = (1 + sum(kernel - 1 for kernel in kernels),)
            for i, kernel in enumerate(kernels, 1):
                x = layer(self.scaled(channels), (kernel, kernel), name=f"conv{stage}_{i}")(x)
                if self.lrn and (stage, i) == (1, 1):
                    x = LocalResponseNorm(name="lrn1")(x)
            if stage > 1 or self.stem == "imagenet":
                x = MaxPool(2, 2, method=self.conv, name=f"pool{stage}")(x)
        dense = partial(FullyConnected, conv=conv, kernel_init=INITIALIZERS[self.initializer], dtype=self.dtype)
        return self.classify(x, WINDOW, dense, train=train)


def warm_start(variables: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """`variables` of B, C, D or E, but the first four convolutions and the dense layers those of `trained`, an A's.

    Section 3.1. A's first four convolutions are conv1_1, conv2_1, conv3_1 and conv3_2; they go to the layers of the
    same names, since only there do the shapes agree. Where there is batch norm, their running averages go along.
    Raises ValueError, in one sentence, for a layer that one of the two lacks or whose shapes differ.
    """
    warm = {}
    for collection, layers in variables.items():
        old = trained.get(collection, {})
        names = [name for name in WARM if collection == "params" or name in layers]
        for name in names:
            here, there = (jax.tree.map(jnp.shape, tree.get(name)) for tree in (layers, old))
            if here is None or here != there:
                raise ValueError(f"{name} must have the same shapes in both networks, got {there} for {here}")
        warm[collection] = {**layers, **{name: old[name] for name in names}}
    return warm


LRN = "A and A-LRN have equal parameters: LRN has none"
TABLE_2 = {number: millions(number, f"{PAPER}, Table 2") for number in ("133", "134", "138", "144")}
PRINTED_D = (TABLE_2["138"], billions("15.3", f"{RESNET}, section 4.1", why="this is without the dense layers"))
PRINTED_E = (TABLE_2["144"], billions("19.6", f"{RESNET}, section 4.1"))
A, B, C, D, E = ({"configuration": configuration} for configuration in "ABCDE")

ENTRIES = {
    "vgg11": Entry(
        VGG, A, f"{PAPER}, A", 132_863_336, 7_609_090_048, note=LRN, printed=(TABLE_2["133"],), torchvision="vgg11"
    ),
    "vgg11_lrn": Entry(
        VGG, {**A, "lrn": True}, f"{PAPER}, A-LRN", 132_863_336, 7_609_090_048, note=LRN, printed=(TABLE_2["133"],)
    ),
    "vgg13": Entry(VGG, B, f"{PAPER}, B", 133_047_848, 11_308_466_176, printed=(TABLE_2["133"],), torchvision="vgg13"),
    "vgg16_c": Entry(VGG, C, f"{PAPER}, C", 133_638_952, 11_770_888_192, printed=(TABLE_2["134"],)),
    "vgg16": Entry(VGG, D, f"{PAPER}, D", 138_357_544, 15_470_264_320, printed=PRINTED_D, torchvision="vgg16"),
    "vgg19": Entry(VGG, E, f"{PAPER}, E", 143_667_240, 19_632_062_464, printed=PRINTED_E, torchvision="vgg19"),
    **{
        f"vgg{layers}_bn": Entry(
            VGG,
            {**column, "norm": "batch"},
            f"torchvision vgg{layers}_bn",
            parameters,
            macs,
            torchvision=f"vgg{layers}_bn",
        )
        for layers, column, parameters, macs in (
            (11, A, 132_868_840, 7_609_090_048),
            (13, B, 133_053_736, 11_308_466_176),
            (16, D, 138_365_992, 15_470_264_320),
            (19, E, 143_678_248, 19_632_062_464),
        )
    },
}

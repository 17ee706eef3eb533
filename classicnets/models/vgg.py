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

from classicnets.models.checks import check_fields, check_head, check_size
from classicnets.models.conv import ConvMethod
from classicnets.models.layers import (
    ACTIVATIONS,
    ConvNorm,
    FullyConnected,
    Head,
    LocalResponseNorm,
    MaxPool,
    Stem,
    bound,
    classify,
    execution,
    execution_option,
    scaled,
)
from classicnets.models.network import Network

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


class VGG(Network):
    """[n, h, w, c] -> logits [n, num_classes], or fc7's output if num_classes is None.

    Heads: "dense" takes pool5's map whole, so that its parameters depend on the image size unless `adaptive_pool`
    (torchvision's) makes the map 7x7; "convolutional" holds the parameters of "dense" at 224x224 pixels and gives a
    map of logits [n, h', w', num_classes] for larger images, averaged before fc8 by `global_pool` (section 3.2's dense
    evaluation), and [n, num_classes] for a 1x1 map unless `spatial_squeeze` is off (slim's); "pooled" averages pool5's
    map, and dropout and fc8 follow; None, which needs num_classes=None, gives pool5's map.
    """

    kind = "classicnets.models.vgg:VGG"

    configuration: Configuration = "D"
    lrn: bool = False
    kernel: Kernel = "stack"
    norm: Literal["batch"] | None = None
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.5
    initializer: Initializer = "glorot"
    stem: Stem = "imagenet"
    head: Head | None = "dense"
    adaptive_pool: bool = False
    global_pool: bool = False
    spatial_squeeze: bool = True
    num_classes: int | None = 1000
    width: float = 1.0
    min_depth: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv: ConvMethod = execution_option("auto")

    def check(self):
        """Raises ValueError, in one sentence, for a network that is not defined."""
        check_fields(self)
        check_head(self)

    execution = execution

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        pools = 5 if self.stem == "imagenet" else 4
        check_size(images, 2**pools * (WINDOW if self.head == "convolutional" and self.stem == "imagenet" else 1))
        conv, norm = bound(self, train)
        kernel_init = INITIALIZERS[self.initializer]
        layer = partial(
            ConvNorm,
            conv=partial(conv, kernel_init=kernel_init),
            norm=norm if self.norm else None,
            activation=ACTIVATIONS[self.activation],
            use_bias=True,
        )
        x = images
        for stage, (kernels, channels) in enumerate(zip(CONFIGURATIONS[self.configuration], CHANNELS, strict=True), 1):
            if self.kernel == "single":
                kernels = (1 + sum(kernel - 1 for kernel in kernels),)
            for i, kernel in enumerate(kernels, 1):
                features = scaled(channels, self.width, self.min_depth)
                x = layer(features, (kernel, kernel), name=f"conv{stage}_{i}")(x)
                if self.lrn and (stage, i) == (1, 1):
                    x = LocalResponseNorm(name="lrn1")(x)
            if stage > 1 or self.stem == "imagenet":
                x = MaxPool(2, 2, name=f"pool{stage}")(x)
        dense = partial(FullyConnected, conv=conv, kernel_init=kernel_init, dtype=self.dtype)
        return classify(self, x, WINDOW, dense, train=train)


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


vgg11 = partial(VGG, configuration="A")
vgg11_lrn = partial(vgg11, lrn=True)
vgg13 = partial(VGG, configuration="B")
vgg16_c = partial(VGG, configuration="C")
vgg16 = partial(VGG, configuration="D")
vgg19 = partial(VGG, configuration="E")
vgg11_bn = partial(vgg11, norm="batch")
vgg13_bn = partial(vgg13, norm="batch")
vgg16_bn = partial(vgg16, norm="batch")
vgg19_bn = partial(vgg19, norm="batch")

NETWORKS = {
    "vgg11": vgg11,
    "vgg11_lrn": vgg11_lrn,
    "vgg13": vgg13,
    "vgg16_c": vgg16_c,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "vgg11_bn": vgg11_bn,
    "vgg13_bn": vgg13_bn,
    "vgg16_bn": vgg16_bn,
    "vgg19_bn": vgg19_bn,
}

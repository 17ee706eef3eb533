"""AlexNet (Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep convolutional neural networks", 2012).

Five convolutions and three dense layers (section 3.5, figure 2), ReLU after all but the last:

    conv1 11x11/4, LRN, pool1;  conv2 5x5, LRN, pool2;  conv3, conv4, conv5 3x3, pool5;  fc6, fc7, fc8

    alexnet               the 2012 network. Its two GPUs are two towers of channels, which only conv3 and the dense
                          layers join: conv2, conv4 and conv5 are convolutions in two groups. 60,965,224 parameters.
    alexnet_owt           torchvision's: one tower of 64-192-384-256-256 channels, no LRN, conv1 padded by 2, an
                          adaptive 6x6 pool before fc6, and dropout on the inputs of fc6 and fc7. It cites "One weird
                          trick for parallelizing convolutional neural networks" (Krizhevsky 2014), whose conv4 has
                          384 channels where torchvision's has 256. 61,100,840 parameters.
    alexnet_slim          slim's alexnet_v2: one weird trick's 64-192-384-384-256 without LRN, fully convolutional,
                          conv1 unpadded, so that fc6 sees 5x5 at 224x224 pixels. 50,303,912 parameters.
    alexnet_tf_benchmark  the convolutional part of TensorFlow's benchmark, up to pool5: torchvision's channels, conv1
                          padded as TensorFlow's SAME (56x56), LRN over 11 channels. 2,469,696 parameters.

Departures. The paper says 224x224 pixels, but 55x55 outputs of conv1 need 227x227 or padding, so `alexnet` takes 227.
LRN runs over all channels of a layer, as the formula says, though each GPU held half of them. torchvision draws
biases at random like its kernels; here they start at zero. slim's and the benchmark's names end in what differs.
With `norm="batch"` the convolutions have no bias. `stem="small"` is ours: conv1 is 3x3 with stride 1 and padding 1,
there is no pool1, and a convolutional head's fc6 sees the whole map, as a dense head's does.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from flax import linen as nn
from flax.linen import initializers

from classicnets.models.heads import DenseHeadNetwork
from classicnets.models.layers import ACTIVATIONS, AvgPool, ConvNorm, FullyConnected, MaxPool, no_layer
from classicnets.models.network import Entry
from classicnets.models.norm import LrnConstants, response_norm
from classicnets.models.papers import ALEXNET, Printed, millions
from classicnets.system.fields import require_choice

Channels = Literal["2012", "one_weird_trick", "torchvision"]
Conv1Padding = Literal["valid", "symmetric", "same"]
Initializer = Literal["paper", "torchvision", "slim", "tensorflow"]
Pooling = Literal["max", "average"]


class Initial(NamedTuple):
    """How kernels and biases start; a layer that `biases` does not name starts at zero."""

    conv: initializers.Initializer
    dense: initializers.Initializer
    biases: dict[str, float]


# conv1 to conv5. Figure 2; cuda-convnet2's layers-imagenet-1gpu.cfg; torchvision's alexnet and TensorFlow's benchmark.
CHANNELS: dict[Channels, tuple[int, ...]] = {
    "2012": (96, 256, 384, 384, 256),
    "one_weird_trick": (64, 192, 384, 384, 256),
    "torchvision": (64, 192, 384, 256, 256),
}

# Uniform within 1 / sqrt(fan in): torch's default.
torch_uniform = initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# Section 5; torchvision; slim's alexnet_v2; TensorFlow's benchmark.
INITIALIZERS: dict[Initializer, Initial] = {
    "paper": Initial(
        initializers.normal(0.01),
        initializers.normal(0.01),
        dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 1.0),
    ),
    "torchvision": Initial(torch_uniform, torch_uniform, {}),
    "slim": Initial(
        initializers.glorot_uniform(),
        initializers.truncated_normal(0.005),
        dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"), 0.1),
    ),
    "tensorflow": Initial(initializers.truncated_normal(0.1), initializers.truncated_normal(0.1), {}),
}


class AlexNet(DenseHeadNetwork):
    """[n, h, w, c] -> logits [n, num_classes]; fc7's output if num_classes is None, pool5's if head is None."""

    kind = "classicnets.models.alexnet:AlexNet"

    channels: Channels = "2012"
    """Features of conv1 to conv5."""
    towers: int = 2
    """Towers of channels, which only conv3 and the dense layers join: 1 or 2."""
    padding: Conv1Padding = "valid"
    """Padding of conv1."""
    lrn: int | None = 5
    """Channels that local response normalisation sums over; None for no normalisation (section 3.3)."""
    lrn_constants: LrnConstants = "paper"
    """Constants of that normalisation: the "paper" has k=2 and alpha=1e-4, "caffe" k=1 and alpha=1e-4 over the size."""
    pooling: Pooling = "max"
    """What a pool takes of its window."""
    overlapping: bool = True
    """Whether pools are 3x3 with stride 2 and not 2x2 (section 3.4)."""
    dropout_inputs: bool = False
    """Whether dropout is before fc6 and fc7, and not after."""
    initializer: Initializer = "paper"
    """Initial kernels and biases."""
    fc6_window: int = 6
    """Side of the map that fc6 sees, in [2, 100], for adaptive and convolutional heads."""

    def check(self) -> None:
        super().check()
        require_choice("towers", self.towers, (1, 2))
        if self.lrn is not None and self.lrn < 1:
            raise ValueError(f"lrn must be at least 1 or None, got {self.lrn}")
        if not 2 <= self.fc6_window <= 100:
            raise ValueError(f"fc6_window must be in [2, 100], got {self.fc6_window}")

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array:
        conv, norm = self.conv_norm(train)
        init = INITIALIZERS[self.initializer]
        # Each tower has its share of the channels.
        widths = [self.towers * self.scaled(c // self.towers) for c in CHANNELS[self.channels]]

        def bias(name: str) -> initializers.Initializer:
            return initializers.constant(init.biases.get(name, 0.0))

        def layer(i: int, kernel: int, *, groups: int = 1, strides: int = 1, padding: Any = "SAME") -> ConvNorm:
            filled = partial(conv, kernel_init=init.conv, bias_init=bias(f"conv{i}"), feature_group_count=groups)
            unit = partial(ConvNorm, conv=filled, norm=norm, activation=ACTIVATIONS[self.activation])
            return unit(widths[i - 1], (kernel, kernel), strides, padding, name=f"conv{i}")

        def dense(features: int, window: int | None = 1, *, name: str, **options: Any) -> FullyConnected:
            filled = partial(FullyConnected, conv=conv, kernel_init=init.dense, dtype=self.dtype)
            return filled(features, window, bias_init=bias(name), name=name, **options)

        response = no_layer if self.lrn is None else partial(response_norm, self.lrn_constants, self.lrn)
        largest = partial(MaxPool, method=self.conv)
        pool = partial(largest if self.pooling == "max" else AvgPool, 3 if self.overlapping else 2, 2)
        if self.stem == "imagenet":
            padding = {"valid": "VALID", "symmetric": 2, "same": "SAME"}[self.padding]
            x = response(name="lrn1")(layer(1, 11, strides=4, padding=padding)(images))
            x = pool(name="pool1")(x)
        else:
            x = response(name="lrn1")(layer(1, 3)(images))
        x = response(name="lrn2")(layer(2, 5, groups=self.towers)(x))
        x = pool(name="pool2")(x)
        x = layer(3, 3)(x)
        x = layer(4, 3, groups=self.towers)(x)
        x = layer(5, 3, groups=self.towers)(x)
        x = pool(name="pool5")(x)
        return self.classify(x, self.fc6_window, dense, train=train, drop_inputs=self.dropout_inputs)


FIGURE_2 = {
    "conv1": ("253,440", "48 maps of 55x55 on each GPU are 290,400, as Figure 2 draws"),
    "conv2": ("186,624", ""),
    "conv3": ("64,896", ""),
    "conv4": ("64,896", ""),
    "conv5": ("43,264", ""),
    "fc6": ("4096", ""),
    "fc7": ("4096", ""),
    "fc8": ("1000", ""),
}
NEURONS = "the maps of its Figure 2 and the dense layers add up to what is counted"
PRINTED = (
    millions("60", f"{ALEXNET}, abstract"),
    Printed("outputs", "650,000", 1, f"{ALEXNET}, abstract", tuple(FIGURE_2), why=NEURONS),
    *(
        Printed("outputs", text, 1, f"{ALEXNET}, Figure 2", (layer,), why=why)
        for layer, (text, why) in FIGURE_2.items()
    ),
)
ONE_TOWER = {"towers": 1, "lrn": None}
OWT = {**ONE_TOWER, "channels": "torchvision", "padding": "symmetric", "adaptive_pool": True, "dropout_inputs": True}
SLIM = {"channels": "one_weird_trick", "head": "convolutional", "fc6_window": 5, "initializer": "slim"}
BENCHMARK = {"channels": "torchvision", "padding": "same", "lrn": 11, "head": None, "num_classes": None}

ENTRIES = {
    "alexnet": Entry(AlexNet, {}, ALEXNET, 60_965_224, 724_406_816, size=227, printed=PRINTED),
    "alexnet_owt": Entry(
        AlexNet,
        {**OWT, "initializer": "torchvision"},
        "torchvision alexnet, after Krizhevsky 2014",
        61_100_840,
        714_188_480,
        torchvision="alexnet",
    ),
    "alexnet_slim": Entry(
        AlexNet, {**ONE_TOWER, **SLIM}, "tf-slim alexnet_v2, after Krizhevsky 2014", 50_303_912, 736_555_776
    ),
    "alexnet_tf_benchmark": Entry(
        AlexNet,
        {**ONE_TOWER, **BENCHMARK, "initializer": "tensorflow"},
        "TensorFlow models, alexnet_benchmark.py",
        2_469_696,
        658_145_280,
    ),
}

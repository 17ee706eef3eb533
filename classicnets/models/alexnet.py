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
from itertools import count
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.linen import initializers

from classicnets.models.checks import check_fields, check_head, check_size
from classicnets.models.conv import ConvMethod
from classicnets.models.layers import (
    ACTIVATIONS,
    AvgPool,
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


class AlexNet(Network):
    """[n, h, w, c] -> logits [n, num_classes]; fc7's output if num_classes is None, pool5's if head is None.

    lrn: the number of channels that LRN sums over, None for no LRN (section 3.3). overlapping: pools are 3x3 with
    stride 2, else 2x2 (section 3.4). padding: conv1's. Heads: "dense" takes pool5's map whole, so that its parameters
    depend on the image size unless `adaptive_pool` makes the map fc6_window wide; "convolutional" holds the parameters
    of "dense" at the paper's image size and gives a map of logits [n, h', w', num_classes] for larger images, averaged
    before fc8 by `global_pool`, and [n, num_classes] for a 1x1 map unless `spatial_squeeze` is off (slim's); "pooled"
    averages pool5's map, and dropout and fc8 follow; None, which needs num_classes=None, stops at pool5.
    """

    kind = "classicnets.models.alexnet:AlexNet"

    channels: Channels = "2012"
    towers: int = 2
    padding: Conv1Padding = "valid"
    lrn: int | None = 5
    pooling: Pooling = "max"
    overlapping: bool = True
    norm: Literal["batch"] | None = None
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.5
    dropout_inputs: bool = False
    initializer: Initializer = "paper"
    stem: Stem = "imagenet"
    head: Head | None = "dense"
    fc6_window: int = 6
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
        require_choice("towers", self.towers, (1, 2))
        if self.lrn is not None and self.lrn < 1:
            raise ValueError(f"lrn must be at least 1 or None, got {self.lrn}")
        if not 2 <= self.fc6_window <= 100:
            raise ValueError(f"fc6_window must be in [2, 100], got {self.fc6_window}")

    execution = execution

    def pool5_side(self, side: int) -> int:
        """Pixels of pool5's map along an axis of `side` pixels; less than 1 if there are none."""
        pool = 3 if self.overlapping else 2
        if self.stem == "imagenet":
            before = {"valid": 0, "symmetric": 4, "same": -(-side // 4) * 4 + 7 - side}[self.padding]
            side = (side + before - 11) // 4 + 1
            side = (side - pool) // 2 + 1
        for _ in ("pool2", "pool5"):
            side = (side - pool) // 2 + 1
        return side

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        least = self.fc6_window if self.head == "convolutional" and self.stem == "imagenet" else 1
        check_size(images, next(side for side in count(1) if self.pool5_side(side) >= least))
        conv, norm = bound(self, train)
        init = INITIALIZERS[self.initializer]
        # Each tower has its share of the channels.
        widths = [self.towers * scaled(c // self.towers, self.width, self.min_depth) for c in CHANNELS[self.channels]]

        def bias(name: str):
            return initializers.constant(init.biases.get(name, 0.0))

        def layer(i: int, kernel: int, *, groups: int = 1, strides: int = 1, padding: Any = "SAME"):
            filled = partial(conv, kernel_init=init.conv, bias_init=bias(f"conv{i}"), feature_group_count=groups)
            return ConvNorm(
                widths[i - 1],
                (kernel, kernel),
                strides,
                padding,
                conv=filled,
                norm=norm if self.norm else None,
                activation=ACTIVATIONS[self.activation],
                name=f"conv{i}",
            )

        def response(name: str):
            return (lambda x: x) if self.lrn is None else LocalResponseNorm(self.lrn, name=name)

        def dense(features: int, window: int | None = 1, *, name: str, **options):
            filled = partial(FullyConnected, conv=conv, kernel_init=init.dense, dtype=self.dtype)
            return filled(features, window, bias_init=bias(name), name=name, **options)

        pool = partial(MaxPool if self.pooling == "max" else AvgPool, 3 if self.overlapping else 2, 2)
        if self.stem == "imagenet":
            padding = {"valid": "VALID", "symmetric": 2, "same": "SAME"}[self.padding]
            x = response("lrn1")(layer(1, 11, strides=4, padding=padding)(images))
            x = pool(name="pool1")(x)
        else:
            x = response("lrn1")(layer(1, 3)(images))
        x = response("lrn2")(layer(2, 5, groups=self.towers)(x))
        x = pool(name="pool2")(x)
        x = layer(3, 3)(x)
        x = layer(4, 3, groups=self.towers)(x)
        x = layer(5, 3, groups=self.towers)(x)
        x = pool(name="pool5")(x)
        return classify(self, x, self.fc6_window, dense, train=train, drop_inputs=self.dropout_inputs)


alexnet = partial(AlexNet)
one_tower = partial(AlexNet, towers=1, lrn=None)
alexnet_owt = partial(
    one_tower,
    channels="torchvision",
    padding="symmetric",
    adaptive_pool=True,
    dropout_inputs=True,
    initializer="torchvision",
)
alexnet_slim = partial(one_tower, channels="one_weird_trick", head="convolutional", fc6_window=5, initializer="slim")
alexnet_tf_benchmark = partial(
    one_tower, channels="torchvision", padding="same", lrn=11, head=None, num_classes=None, initializer="tensorflow"
)

NETWORKS = {
    "alexnet": alexnet,
    "alexnet_owt": alexnet_owt,
    "alexnet_slim": alexnet_slim,
    "alexnet_tf_benchmark": alexnet_tf_benchmark,
}
INPUT_SIZES = {"alexnet": 227}

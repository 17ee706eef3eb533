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
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.checks import check_depth, check_fields, check_size
from classicnets.models.conv import ConvMethod
from classicnets.models.layers import (
    ACTIVATIONS,
    Dropout,
    Head,
    bound,
    classify_pooled,
    execution,
    execution_option,
    scaled,
)
from classicnets.models.network import Network
from classicnets.models.residual import (
    PreactBlock,
    PreactBottleneck,
    Shortcut,
    Stage,
    he_normal,
    no_layer,
)
from classicnets.models.resnet import resnet50, resnet101, resnet152, resnet200


class CifarResNetV2(Network):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, c'] if num_classes is None.

    conv1 with 16 channels, three stages of n units with 16, 32 and 64 (four times as many after a bottleneck), the
    map halved where they double. dropout: in each unit, before its last convolution.
    """

    kind = "classicnets.models.resnet_v2:CifarResNetV2"

    depth: int = 110
    block: Literal["basic", "bottleneck"] = "basic"
    shortcut: Shortcut = "B"
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
        check_depth(self.depth, 6 if self.block == "basic" else 9, 2)

    execution = execution

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        units = self.depth // (6 if self.block == "basic" else 9)
        return cifar_network(self, images, train, units, widen=1)


class CifarWideResNet(Network):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 64 * widen * width] if num_classes is None.

    conv1 with 16 channels, three stages of n basic units with 16, 32 and 64 times `widen`.
    dropout: in each unit, between its convolutions.
    """

    kind = "classicnets.models.resnet_v2:CifarWideResNet"

    depth: int = 28
    widen: int = 10
    shortcut: Shortcut = "B"
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
        check_depth(self.depth, 6, 4)
        if self.widen < 1:
            raise ValueError(f"widen must be at least 1, got {self.widen}")

    execution = execution

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        return cifar_network(self, images, train, self.depth // 6, self.widen)


def cifar_network(network, images, train: bool, units: int, widen: int):
    """The forward pass that the CIFAR networks share."""
    check_size(images, 1)
    conv, norm = bound(network, train)
    if network.norm is None:
        norm = no_layer
    act = ACTIVATIONS[network.activation]
    bias = network.norm is None
    conv = partial(conv, use_bias=bias, kernel_init=he_normal)
    bottleneck = getattr(network, "block", "basic") == "bottleneck"
    unit = partial(
        PreactBottleneck if bottleneck else PreactBlock,
        conv=conv,
        norm=norm,
        activation=act,
        zero_init=network.zero_init,
        bias=bias,
        dropout=partial(Dropout, network.dropout, not train, network.axis_name),
    )

    x = conv(scaled(16, network.width, network.min_depth), (3, 3), padding=1, name="conv1")(images)
    for i, features in enumerate((16, 32, 64), 1):
        inner = scaled(features * widen, network.width, network.min_depth)
        x = Stage(
            unit=partial(unit, inner=inner, stride_in="3x3") if bottleneck else unit,
            features=inner * 4 if bottleneck else inner,
            length=units,
            strides=1 if i == 1 else 2,
            shortcut=network.shortcut,
            strided=i > 1,
            unroll=network.unroll,
            name=f"block{i}",
        )(x)
    x = act(norm(name="postnorm")(x))
    return classify_pooled(network, x, 0.0, train=train)


v2 = {"preactivation": True, "stride_in": "3x3"}
resnet50_v2 = partial(resnet50, **v2)
resnet101_v2 = partial(resnet101, **v2)
resnet152_v2 = partial(resnet152, **v2)
resnet200_v2 = partial(resnet200, **v2)

v2_slim = {"preactivation": True, "stride_in": "last", "biases": "unnormed", "pool_padding": "same"}
resnet50_v2_slim = partial(resnet50, **v2_slim)
resnet101_v2_slim = partial(resnet101, **v2_slim)
resnet152_v2_slim = partial(resnet152, **v2_slim)
resnet200_v2_slim = partial(resnet200, **v2_slim)

ResNet50V2, ResNet101V2, ResNet152V2, ResNet200V2 = resnet50_v2, resnet101_v2, resnet152_v2, resnet200_v2

NETWORKS: dict[str, Any] = {
    "resnet50_v2": resnet50_v2,
    "resnet101_v2": resnet101_v2,
    "resnet152_v2": resnet152_v2,
    "resnet200_v2": resnet200_v2,
    "resnet50_v2_slim": resnet50_v2_slim,
    "resnet101_v2_slim": resnet101_v2_slim,
    "resnet152_v2_slim": resnet152_v2_slim,
    "resnet200_v2_slim": resnet200_v2_slim,
    "cifar_resnet_v2": CifarResNetV2,
    "cifar_wide_resnet": CifarWideResNet,
}
INPUT_SIZES = {"cifar_resnet_v2": 32, "cifar_wide_resnet": 32}

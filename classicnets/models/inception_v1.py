"""Inception v1, "GoogLeNet" (Szegedy et al., "Going deeper with convolutions", CVPR 2015), Table 1.

    inception_v1      the paper: 5x5 branches, local response normalisation, no batch norm, two auxiliary heads
    inception_v1_bn   torchvision's googlenet: batch norm, 3x3 kernels in the 5x5 branches, a last max pool of 2x2

tf-slim's inception_v1 is `inception_v1_bn(padding="same", max_pool="same", use_scale=False, auxiliary=False)`. Layers
have slim's names in lower case, so that the paper's module 3a is mixed_3b and its 5b is mixed_5c; inside a module the
names are those of the paper's Figure 2. "5x5" stays the third branch's name where its kernel is 3x3.

Table 1 disagrees with itself, and the columns of filters are what counts here. They come to 6,998,552 parameters and
1.583 G multiply-adds, where the printed rows add up to 6,798K and 1.502 G; `classicnets describe inception_v1` sets all
rows side by side. What differs by more than the biases and rounding, K being 1024:
- conv1 prints 2.7K parameters and 34M operations, which is a separable convolution (8 filters of 7x7 for each colour,
  then 1x1: 2,712); the 7x7 convolution of its filter columns has 9,408 and 118M.
- 4a, 4b, 4d and 4e print 364K, 437K, 580K and 840K, their filters have 367K, 438K, 591K and 847K.
- 4c prints 463K parameters, its filters have 509,440 (498K); 5a prints 1072K and 54M operations, its
  filters have 1,042,432 (1018K) and 51M; 5b prints 1388K, its filters have 1,442,816 (1409K).

Departures and choices:
- Figure 3 marks its convolutions and max pools "S", which is padding="same", and its average pools "V": 5x5/3 in the
  auxiliary heads. torchvision pads symmetrically, lets the last window of a max pool hang over the edge, and pools the
  heads' input to 4x4 at any size. At 224 the shapes are the same, the numbers are not.
- The paper gives no constants for its local response normalisation (these are AlexNet's: k=2, n=5, alpha=1e-4,
  beta=0.75) and no initialisation (here He's, zero biases; torchvision draws from a normal of 0.01).
- Batch norm is not the paper's. The running averages have momentum 0.9 (torchvision; slim 0.9997) and keep the biased
  variance; epsilon is 1e-3, torchvision's and slim's.
- slim has neither auxiliary heads nor a width for this network: both follow its v3.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
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
    GlobalAvgPool,
    Head,
    LocalResponseNorm,
    MaxPool,
    SlidingAvgPool,
    Stem,
    bound,
    execution,
    execution_option,
    scaled,
)
from classicnets.models.network import Network

ConvPadding = Literal["same", "symmetric"]
MaxPooling = Literal["same", "ceil"]
AuxiliaryPool = Literal["5x5/3", "adaptive"]

BRANCHES = ("1x1", "3x3", "5x5", "pool")

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class Inception(nn.Module):
    """concat(1x1, 1x1 -> 3x3, 1x1 -> 5x5, 3x3 max pool -> 1x1), [n, h, w, c] -> [n, h, w, sum of the branches].

    Figure 2(b); without `reduce` 2(a), the naive module: no 1x1 before a larger kernel or after the pool.
    filters: of the 1x1, the 3x3's reduction, the 3x3, the 5x5's reduction, the 5x5, and the pool's projection.
    """

    filters: tuple[int, ...]
    kernel: int
    branches: tuple[str, ...]
    reduce: bool
    unit: Callable[..., Any]

    @nn.compact
    def __call__(self, x):
        one, reduce_three, three, reduce_five, five, projection = self.filters
        outputs = []
        if "1x1" in self.branches:
            outputs.append(self.unit(one, (1, 1), name="1x1")(x))
        if "3x3" in self.branches:
            y = self.unit(reduce_three, (1, 1), name="3x3_reduce")(x) if self.reduce else x
            outputs.append(self.unit(three, (3, 3), name="3x3")(y))
        if "5x5" in self.branches:
            y = self.unit(reduce_five, (1, 1), name="5x5_reduce")(x) if self.reduce else x
            outputs.append(self.unit(five, (self.kernel, self.kernel), name="5x5")(y))
        if "pool" in self.branches:
            y = MaxPool(3, 1, padding=1, name="pool")(x)
            outputs.append(self.unit(projection, (1, 1), name="pool_proj")(y) if self.reduce else y)
        return jnp.concatenate(outputs, -1)


class AuxiliaryHead(nn.Module):
    """[n, h, w, c] -> logits [n, num_classes]: average pool, 1x1, dense, dropout, dense (section 5)."""

    features: int
    hidden: int
    num_classes: int
    pool: AuxiliaryPool
    dropout: float
    unit: Callable[..., Any]
    activation: Callable[[jax.Array], jax.Array]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = (AvgPool(5, 3, name="pool") if self.pool == "5x5/3" else AdaptiveAvgPool(4, name="pool"))(x)
        x = self.unit(self.features, (1, 1), name="conv")(x)
        x = x.reshape(x.shape[0], -1)
        x = self.activation(nn.Dense(self.hidden, dtype=self.dtype, kernel_init=he_normal, name="fc")(x))
        x = Dropout(self.dropout, not train, self.axis_name, name="dropout")(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="logits")(x)


# Table 1: filters of #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj. Beside it the paper's name.
MODULES = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),  # 3a
    "mixed_3c": (128, 128, 192, 32, 96, 64),  # 3b
    "mixed_4b": (192, 96, 208, 16, 48, 64),  # 4a
    "mixed_4c": (160, 112, 224, 24, 64, 64),  # 4b
    "mixed_4d": (128, 128, 256, 24, 64, 64),  # 4c
    "mixed_4e": (112, 144, 288, 32, 64, 64),  # 4d
    "mixed_4f": (256, 160, 320, 32, 128, 128),  # 4e
    "mixed_5b": (256, 160, 320, 32, 128, 128),  # 5a
    "mixed_5c": (384, 192, 384, 48, 128, 128),  # 5b
}
AUXILIARY = {"mixed_4b": "aux1", "mixed_4e": "aux2"}


class InceptionV1(Network):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 1024 * width] if num_classes is None.

    In training with `auxiliary` (logits, those of the head on 4a, those of the head on 4d).

    kernel, branches, reduce: the third branch's kernel, the branches that a module has, and whether 1x1 convolutions
        reduce what goes into the larger kernels and project the pool (False: the naive module).
    pool5: the window of the last max pool. lrn: whether there is local response normalisation.
    padding: of the stem's convolution; max_pool: of the pools that halve the map ("ceil": none, and a last window may
        hang over the edge); auxiliary_pool: in the auxiliary heads.
    use_scale: whether batch norm has a scale.
    head: "pooled" averages the whole map; "convolutional" 7x7 windows of it, [n, h', w', num_classes], with the same
        parameters; "dense" takes the map whole, so that the logits' parameters depend on the image size (section 5:
        pooling in its place gained 0.6 % top-1).
    stem: "small" is not the paper's: a 3x3 convolution of stride 1 and no first pool, for images of 28x28 or 32x32.
    Widths are slim's: max(int(filters * width), min_depth).
    """

    kind = "classicnets.models.inception_v1:InceptionV1"

    num_classes: int | None = 1000
    width: float = 1.0
    min_depth: int = 16
    branches: tuple[str, ...] = BRANCHES
    reduce: bool = True
    kernel: Literal[5, 3] = 5
    pool5: Literal[3, 2] = 3
    lrn: bool = True
    norm: Literal["batch"] | None = None
    use_scale: bool = True
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.4
    auxiliary: bool = True
    auxiliary_pool: AuxiliaryPool = "5x5/3"
    auxiliary_dropout: float = 0.7
    padding: ConvPadding = "same"
    max_pool: MaxPooling = "same"
    head: Head = "pooled"
    stem: Stem = "imagenet"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv: ConvMethod = execution_option("auto")

    def check(self):
        """Raises ValueError, in one sentence, for a field whose value is not one of its choices."""
        check_fields(self)
        check_branches(self.branches, BRANCHES)
        if not 0 <= self.auxiliary_dropout < 1:
            raise ValueError(f"auxiliary_dropout must be in [0, 1), got {self.auxiliary_dropout}")

    execution = execution

    def smallest(self, heads: bool) -> int:
        """The least height and width of an image; `heads`: whether it passes the auxiliary heads."""
        halvings = 2 if self.stem == "small" else 3
        size = 5 if heads and self.auxiliary_pool == "5x5/3" else 1
        # "ceil" makes k of a map of 2k or 2k + 1, and its last pool needs a map of pool5 - 1; "same" k of 2k or 2k - 1.
        scale = 2**halvings
        size = max(size, self.pool5 - 1) * scale if self.max_pool == "ceil" else (size - 1) * scale + 1
        return size if self.stem == "small" else 2 * size - 1

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        heads = self.auxiliary and self.num_classes is not None and (train or self.is_initializing())
        check_size(images, self.smallest(heads))
        unit, pool, depth = inception_layers(self, train)
        module = partial(Inception, kernel=self.kernel, branches=self.branches, reduce=self.reduce, unit=unit)

        x = stem_convolution(self, images, unit, depth)
        if self.stem == "imagenet":
            x = pool(3, 2, name="maxpool_2a_3x3")(x)
        x = LocalResponseNorm(name="lrn_2a")(x) if self.lrn else x
        x = unit(depth(64), (1, 1), name="conv2d_2b_1x1")(x)
        x = unit(depth(192), (3, 3), name="conv2d_2c_3x3")(x)
        x = LocalResponseNorm(name="lrn_2c")(x) if self.lrn else x
        x = pool(3, 2, name="maxpool_3a_3x3")(x)
        auxiliary_logits = []
        for name, filters in MODULES.items():
            if name == "mixed_4b":
                x = pool(3, 2, name="maxpool_4a_3x3")(x)
            if name == "mixed_5b":
                x = pool(self.pool5, 2, name=f"maxpool_5a_{self.pool5}x{self.pool5}")(x)
            x = module(tuple(map(depth, filters)), name=name)(x)
            if heads and name in AUXILIARY:
                auxiliary_logits.append(self.auxiliary_head(AUXILIARY[name], unit, depth)(x, train=train))
        logits = classify(self, x, "avgpool_0a_7x7", train)
        return (logits, *auxiliary_logits) if train and heads else logits

    def auxiliary_head(self, name: str, unit, depth) -> AuxiliaryHead:
        assert self.num_classes is not None
        return AuxiliaryHead(
            features=depth(128),
            hidden=depth(1024),
            num_classes=self.num_classes,
            pool=self.auxiliary_pool,
            dropout=self.auxiliary_dropout,
            unit=unit,
            activation=ACTIVATIONS[self.activation],
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )


def check_branches(chosen: tuple[str, ...], branches: tuple[str, ...]) -> None:
    """Raises ValueError unless `chosen` are one or more of the `branches` that a module can have, each once."""
    if not chosen or not set(chosen) <= set(branches) or len(set(chosen)) < len(chosen):
        raise ValueError(f"branches must be a non-empty subset of {', '.join(branches)}, got {chosen!r}")


def inception_layers(network, train: bool) -> tuple[partial, partial, partial]:
    """(unit, pool, depth): activation(norm(conv)), the max pool that halves a map, and the width rule."""
    conv, norm = bound(network, train)
    unit = partial(
        ConvNorm,
        conv=partial(conv, kernel_init=he_normal),
        norm=partial(norm, epsilon=1e-3, use_scale=network.use_scale) if network.norm else None,
        activation=ACTIVATIONS[network.activation],
    )
    pool = partial(MaxPool, padding="SAME") if network.max_pool == "same" else partial(MaxPool, padding=0, ceil=True)
    return unit, pool, partial(scaled, width=network.width, min_depth=network.min_depth)


def halving_padding(network, kernel: int):
    """The padding of a convolution of stride 2 (at stride 1 and an odd kernel both conventions agree)."""
    return "SAME" if network.padding == "same" else kernel // 2


def stem_convolution(network, images, unit, depth, **fields):
    """The first layer: 7x7/2, or 3x3/1 for small images."""
    kernel, strides = (7, 2) if network.stem == "imagenet" else (3, 1)
    padding, name = halving_padding(network, kernel), f"conv2d_1a_{kernel}x{kernel}"
    return unit(depth(64), (kernel, kernel), strides, padding=padding, name=name, **fields)(images)


def classify(network, x, pool: str, train: bool):
    """[n, h, w, c] -> logits, or the features that they read if there are no classes; `pool`: the name of the pool."""
    if network.head == "dense":
        x = x.reshape(x.shape[0], -1)
    else:
        x = (GlobalAvgPool(name=pool) if network.head == "pooled" else SlidingAvgPool(7, name=pool))(x)
    if network.num_classes is None:
        return x
    x = Dropout(network.dropout, not train, network.axis_name, name="dropout")(x)
    return nn.Dense(network.num_classes, dtype=network.dtype, name="logits")(x)


inception_v1 = partial(InceptionV1)
inception_v1_bn = partial(
    InceptionV1,
    norm="batch",
    lrn=False,
    kernel=3,
    pool5=2,
    dropout=0.2,
    auxiliary_pool="adaptive",
    padding="symmetric",
    max_pool="ceil",
)

NETWORKS = {"inception_v1": inception_v1, "inception_v1_bn": inception_v1_bn}

"""Inception v2, "BN-Inception" (Ioffe & Szegedy, "Batch normalization", ICML 2015), Figure 5.

    inception_v2        the paper's filters: modules 4c and 4d have 608 channels, the stem is a 7x7 convolution
    inception_v2_slim   tf-slim's: 576 channels there, a separable stem with a bias and no batch norm, no norm scale

Layers have slim's names in lower case: the paper's 3a is mixed_3b, its 3c (stride 2) mixed_4a, its 4a mixed_4b, its 4e
(stride 2) mixed_5a, its 5b mixed_5c. Inside a module the names are the figure's.

What the literature disagrees about:
- The filter columns of 4c and 4d add up to 608 channels, the output column prints 576. Caffe's conversions follow the
  filters, slim gives both pools 96 filters instead of 128 (`pool_projection`).
- The text states 13.6 M parameters; the network of the figure has 11,285,224 (11,278,528 with a separable stem).
- "Rethinking the Inception architecture" calls another network Inception-v2, which its last changes made Inception-v3.

Departures and choices:
- Neither paddings nor whether the average pools count them are stated. Here the padding is TensorFlow's and is not
  counted, as in slim; Caffe's is padding="symmetric", max_pool="ceil", count_padding=True.
- The text says that the first convolution is separable, with 8 filters for each colour, the figure prints 7x7/2 of 64
  and Caffe's conversions have that: so has `inception_v2`, and `use_separable` is the text's. slim's has a bias where
  all else has batch norm (`separable_norm`).
- Batch norm has epsilon 1e-3 (slim's), its running averages momentum 0.9 (slim's 0.9997) and the biased variance.
- Dropout is 0, which the paper removed; slim keeps 0.2. Initialisation is He's, with zero biases.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.checks import check_fields, check_size
from classicnets.models.conv import ConvMethod
from classicnets.models.inception_v1 import (
    ConvPadding,
    MaxPooling,
    check_branches,
    classify,
    halving_padding,
    inception_layers,
    stem_convolution,
)
from classicnets.models.layers import (
    AvgPool,
    Head,
    MaxPool,
    Stem,
    execution,
    execution_option,
)
from classicnets.models.network import Network

BRANCHES = ("1x1", "3x3", "double3x3", "pool")


class Inception(nn.Module):
    """concat(1x1, 1x1 -> 3x3, 1x1 -> 3x3 -> 3x3, pool -> 1x1), [n, h, w, c] -> [n, h, w, sum of the branches].

    With stride 2 (in the last 3x3 of a branch and the pool) there is no 1x1 branch, and the pool passes its input on:
    concat(1x1 -> 3x3/2, 1x1 -> 3x3 -> 3x3/2, 3x3/2 max pool). Without `reduce` the naive module: no 1x1 before a
    3x3 or after the pool. filters: of the 1x1, the 3x3's reduction, the 3x3, the double 3x3's reduction, each
    of its 3x3, and the pool's projection.
    """

    filters: tuple[int, ...]
    strides: int
    branches: tuple[str, ...]
    reduce: bool
    unit: Callable[..., Any]
    pool: Callable[..., Any]
    padding: Any

    @nn.compact
    def __call__(self, x):
        one, reduce_three, three, reduce_double, double, projection = self.filters
        last = partial(self.unit, strides=self.strides, padding=self.padding)
        outputs = []
        if "1x1" in self.branches:
            outputs.append(self.unit(one, (1, 1), name="1x1")(x))
        if "3x3" in self.branches:
            y = self.unit(reduce_three, (1, 1), name="3x3_reduce")(x) if self.reduce else x
            outputs.append(last(three, (3, 3), name="3x3")(y))
        if "double3x3" in self.branches:
            y = self.unit(reduce_double, (1, 1), name="double3x3_reduce")(x) if self.reduce else x
            y = self.unit(double, (3, 3), name="double3x3_1")(y)
            outputs.append(last(double, (3, 3), name="double3x3_2")(y))
        if "pool" in self.branches:
            y = self.pool(3, self.strides, name="pool")(x)
            outputs.append(self.unit(projection, (1, 1), name="pool_proj")(y) if projection and self.reduce else y)
        if len({y.shape[1:3] for y in outputs}) > 1:
            height, width = x.shape[1:3]
            raise ValueError(
                f"max_pool='ceil' halves a map as the convolutions do only if it is even, got {height}x{width}; "
                "choose max_pool='same' or images of a multiple of 32 pixels"
            )
        return jnp.concatenate(outputs, -1)


class SeparableStem(nn.Module):
    """activation(norm(1x1(depthwise 7x7/2))), [n, h, w, c] -> [n, h', w', features].

    Each colour has min(features // c, 8) filters, slim's rule. Without a norm the 1x1 has a bias.
    """

    features: int
    kernel: tuple[int, int]
    strides: int
    padding: Any
    conv: Callable[..., Any]
    norm: Callable[..., Any] | None
    activation: Callable[..., Any]

    @nn.compact
    def __call__(self, x):
        colours = x.shape[-1]
        filters = colours * max(min(self.features // colours, 8), 1)
        fields = {"padding": self.padding, "feature_group_count": colours, "use_bias": False, "name": "depthwise"}
        x = self.conv(filters, self.kernel, self.strides, **fields)(x)
        x = self.conv(self.features, (1, 1), use_bias=self.norm is None, name="pointwise")(x)
        return self.activation(x if self.norm is None else self.norm(name="norm")(x))


# Figure 5: filters of #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, then the pool: its kind and the filters
# of its projection, 0 where it passes its input on. Without a 1x1 the stride is 2. Beside it the paper's name.
MODULES = {
    "mixed_3b": (64, 64, 64, 64, 96, "avg", 32),  # 3a
    "mixed_3c": (64, 64, 96, 64, 96, "avg", 64),  # 3b
    "mixed_4a": (0, 128, 160, 64, 96, "max", 0),  # 3c
    "mixed_4b": (224, 64, 96, 96, 128, "avg", 128),  # 4a
    "mixed_4c": (192, 96, 128, 96, 128, "avg", 128),  # 4b
    "mixed_4d": (160, 128, 160, 128, 160, "avg", 128),  # 4c
    "mixed_4e": (96, 128, 192, 160, 192, "avg", 128),  # 4d
    "mixed_5a": (0, 128, 192, 192, 256, "max", 0),  # 4e
    "mixed_5b": (352, 192, 320, 160, 224, "avg", 128),  # 5a
    "mixed_5c": (352, 192, 320, 192, 224, "max", 128),  # 5b
}


class InceptionV2(Network):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 1024 * width] if num_classes is None.

    branches, reduce: the branches that a module has, and whether 1x1 convolutions reduce what goes into the 3x3 and
        project the pool (False: the naive module). A module of stride 2 has no 1x1 branch: where that is the only one
        chosen, it is its max pool.
    pool_projection: filters of the pools' 1x1 in mixed_4d and mixed_4e.
    use_separable: whether the stem is a depthwise 7x7, then a 1x1; separable_norm: whether that one is normalised.
    count_padding: whether average pools count their padding as zeros.
    padding: of the convolutions of stride 2; max_pool: of the pools of stride 2 ("ceil": none, and a last window may
        hang over the edge).
    use_scale: whether batch norm has a scale.
    head: "pooled" averages the whole map; "convolutional" 7x7 windows of it, [n, h', w', num_classes], with the same
        parameters; "dense" takes the map whole.
    stem: "small" is not the paper's: kernel 3x3 of stride 1 and no first pool, for images of 28x28 or 32x32.
    Widths are slim's: max(int(filters * width), min_depth).
    """

    kind = "classicnets.models.inception_v2:InceptionV2"

    num_classes: int | None = 1000
    width: float = 1.0
    min_depth: int = 16
    branches: tuple[str, ...] = BRANCHES
    reduce: bool = True
    pool_projection: Literal[128, 96] = 128
    use_separable: bool = False
    separable_norm: bool = True
    norm: Literal["batch"] | None = "batch"
    use_scale: bool = True
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.0
    padding: ConvPadding = "same"
    max_pool: MaxPooling = "same"
    count_padding: bool = False
    head: Head = "pooled"
    stem: Stem = "imagenet"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv: ConvMethod = execution_option("auto")

    def check(self):
        """Raises ValueError, in one sentence, for a field whose value is not one of its choices."""
        check_fields(self)
        check_branches(self.branches, BRANCHES)

    execution = execution

    def smallest(self) -> int:
        """The least height and width of an image."""
        if self.max_pool == "same":
            return 1
        # A map of 2k or 2k + 1 becomes k; the two modules of stride 2 need one that can be halved twice.
        map_size = 4 if "pool" in self.halving_branches() else 1
        return 2 * map_size if self.stem == "small" else 8 * map_size - 1

    def halving_branches(self) -> tuple[str, ...]:
        """The branches of a module of stride 2."""
        return tuple(branch for branch in self.branches if branch != "1x1") or ("pool",)

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        check_size(images, self.smallest())
        unit, pool, depth = inception_layers(self, train)

        separable = partial(SeparableStem, **unit.keywords | ({} if self.separable_norm else {"norm": None}))
        x = stem_convolution(self, images, separable if self.use_separable else unit, depth)
        if self.stem == "imagenet":
            x = pool(3, 2, name="maxpool_2a_3x3")(x)
        x = unit(depth(64), (1, 1), name="conv2d_2b_1x1")(x)
        x = unit(depth(192), (3, 3), name="conv2d_2c_3x3")(x)
        x = pool(3, 2, name="maxpool_3a_3x3")(x)
        for name, (*filters, kind, projection) in MODULES.items():
            if name in ("mixed_4d", "mixed_4e"):
                projection = self.pool_projection
            strides = 1 if filters[0] else 2
            pools = {
                ("avg", 1): partial(AvgPool, padding=1, count_padding=self.count_padding),
                ("max", 1): partial(MaxPool, padding=1),
                ("max", 2): pool,
            }
            x = Inception(
                filters=tuple(depth(f) if f else 0 for f in (*filters, projection)),
                strides=strides,
                branches=self.branches if strides == 1 else self.halving_branches(),
                reduce=self.reduce,
                unit=unit,
                pool=pools[kind, strides],
                padding=halving_padding(self, 3) if strides == 2 else "SAME",
                name=name,
            )(x)
        return classify(self, x, "avgpool_1a", train)


inception_v2 = partial(InceptionV2)
inception_v2_slim = partial(
    InceptionV2, pool_projection=96, use_separable=True, separable_norm=False, use_scale=False, dropout=0.2
)

NETWORKS = {"inception_v2": inception_v2, "inception_v2_slim": inception_v2_slim}

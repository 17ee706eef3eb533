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

import jax
from flax import linen as nn

from classicnets.models.inception import Branches, EarlyInception, Inception, layer
from classicnets.models.layers import AvgPool, MaxPool, no_layer
from classicnets.models.network import Entry
from classicnets.models.papers import BN_INCEPTION, INCEPTION_V3, billions, millions


def branches(one: int, reduce_three: int, three: int, reduce_double: int, double: int, projection: int) -> Branches:
    """Return a module of Figure 5 from its filters: #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool."""
    return {
        "1x1": (layer("1x1", 1, one),),
        **halving(reduce_three, three, reduce_double, double),
        "pool": (layer("pool_proj", 1, projection),),
    }


def halving(reduce_three: int, three: int, reduce_double: int, double: int) -> Branches:
    """Return a module of stride 2, which has no 1x1 and whose pool passes its input on."""
    return {
        "3x3": (layer("3x3_reduce", 1, reduce_three), layer("3x3", 3, three)),
        "double3x3": (
            layer("double3x3_reduce", 1, reduce_double),
            layer("double3x3_1", 3, double),
            layer("double3x3_2", 3, double),
        ),
        "pool": (),
    }


class SeparableStem(nn.Module):
    """activation(norm(1x1(depthwise 7x7/2))), [n, h, w, c] -> [n, h', w', features].

    Each colour has min(features // c, 8) filters, slim's rule.
    """

    features: int
    kernel: tuple[int, int]
    strides: int
    padding: Any
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    activation: Callable[..., Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        colours = x.shape[-1]
        filters = colours * max(min(self.features // colours, 8), 1)
        fields = {"padding": self.padding, "feature_group_count": colours, "use_bias": False, "name": "depthwise"}
        x = self.conv(filters, self.kernel, self.strides, **fields)(x)
        x = self.conv(self.features, (1, 1), name="pointwise")(x)
        return self.activation(self.norm(name="norm")(x))


# Figure 5. Beside each module the paper's name.
MODULES = {
    "mixed_3b": branches(64, 64, 64, 64, 96, 32),  # 3a
    "mixed_3c": branches(64, 64, 96, 64, 96, 64),  # 3b
    "mixed_4a": halving(128, 160, 64, 96),  # 3c
    "mixed_4b": branches(224, 64, 96, 96, 128, 128),  # 4a
    "mixed_4c": branches(192, 96, 128, 96, 128, 128),  # 4b
    "mixed_4d": branches(160, 128, 160, 128, 160, 128),  # 4c
    "mixed_4e": branches(96, 128, 192, 160, 192, 128),  # 4d
    "mixed_5a": halving(128, 192, 192, 256),  # 4e
    "mixed_5b": branches(352, 192, 320, 160, 224, 128),  # 5a
    "mixed_5c": branches(352, 192, 320, 192, 224, 128),  # 5b
}


class InceptionV2(EarlyInception):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 1024 * width] if num_classes is None.

    A module of stride 2 has no 1x1 branch: where that is the only one chosen, it is its max pool.
    """

    kind = "classicnets.models.inception_v2:InceptionV2"

    norm: Literal["batch"] | None = "batch"
    """Normalisation with each convolution; with None convolutions have biases."""
    branches: tuple[str, ...] = ("1x1", "3x3", "double3x3", "pool")
    """Branches that each module has: one or more of 1x1, 3x3, double3x3, pool, in any order."""
    pool_projection: Literal[128, 96] = 128
    """Filters of the pools' 1x1 in mixed_4d and mixed_4e: the figure's 128, slim's 96."""
    use_separable: bool = False
    """Whether the stem is a depthwise 7x7, then a 1x1 (the text, slim)."""
    separable_norm: bool = True
    """Whether the separable stem is normalised, and has no bias."""
    count_padding: bool = False
    """Whether average pools count their padding as zeros (Caffe)."""

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array:
        unit, halving_pool = self.unit(train), self.halving_pool()
        x = self.first_layer(images, self.separable(unit) if self.use_separable else unit)
        if self.stem == "imagenet":
            x = halving_pool(3, name="maxpool_2a_3x3")(x)
        x = unit(self.scaled(64), (1, 1), name="conv2d_2b_1x1")(x)
        x = unit(self.scaled(192), (3, 3), name="conv2d_2c_3x3")(x)
        x = halving_pool(3, name="maxpool_3a_3x3")(x)
        for name, table in MODULES.items():
            if "1x1" not in table:
                kept = [branch for branch in self.branches if branch in table] or ["pool"]
                pool = partial(halving_pool, 3, name="pool")
                x = Inception(self.module(table, kept), unit, pool, 2, self.halving_padding(3), name=name)(x)
                continue
            if name in ("mixed_4d", "mixed_4e"):
                table = {**table, "pool": (layer("pool_proj", 1, self.pool_projection),)}
            average = partial(AvgPool, count_padding=self.count_padding)
            largest = partial(MaxPool, method=self.conv)
            pool = partial(largest if name == "mixed_5c" else average, 3, 1, padding=1, name="pool")
            x = Inception(self.module(table, self.branches), unit, pool, name=name)(x)
        return self.classify(x, "avgpool_1a", 7, train=train)

    def separable(self, unit: partial) -> Callable[..., Any]:
        """Return the separable stem, with the norm of `unit` or a bias."""
        stem = partial(SeparableStem, **unit.keywords)
        if self.separable_norm:
            return stem
        return partial(stem, norm=no_layer, conv=partial(unit.keywords["conv"], use_bias=True))


PRINTED = (
    millions("13.6", f"{BN_INCEPTION}, section 4.2", why="the network of its Figure 5 has what is counted"),
    billions("2.0", f"{INCEPTION_V3}, Table 3"),
)
SLIM = {"pool_projection": 96, "use_separable": True, "separable_norm": False, "use_scale": False, "dropout": 0.2}

ENTRIES = {
    "inception_v2": Entry(InceptionV2, {}, BN_INCEPTION, 11_285_224, 2_032_600_064, printed=PRINTED),
    "inception_v2_slim": Entry(InceptionV2, SLIM, "tf-slim inception_v2", 11_178_336, 1_934_857_216),
}

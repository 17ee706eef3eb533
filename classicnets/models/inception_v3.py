"""Inception v3 (Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016).

`inception_v3` is Table 1 with factorised 7x7 convolutions and a batch-normalised auxiliary head (the last row of Table
3), as its authors released it and torchvision computes it: 27,161,264 parameters, 23,834,568 without the head, 5.71 G
multiply-adds at 299x299. Three projects agree on the layers, and differ in what these fields say:

    torchvision   the defaults
    slim          use_scale=False, count_padding=False, dropout=0.2: 27,143,152 parameters
    Keras         use_scale=False, count_padding=False, dropout=0.0, auxiliary=False: 23,817,352

Where the released network, and so this one, departs from the paper:
- Table 1 has 3x3 convolutions with 80, 192 (stride 2) and 288 features after the first pool. Here are a 1x1 with 80, a
  3x3 with 192 and a pool. (The table cannot be right: its last convolution keeps 35x35 without being marked padded.)
- Table 1 has three modules of 288 channels; here they have 256, 288 and 288.
- Figure 5 has a 3x3 branch beside the double 3x3 one; here it is a 5x5.
- Figure 10 has a 1x1 before both branches of a reduction; here the 3x3 of mixed_6a has none, and the deeper branch of
  mixed_7a is 1x1, 1x7, 7x1, 3x3.
- The abstract says 5 billion multiply-adds and under 25 million parameters; counted, 5.71 billion, and 23.8 million
  without the auxiliary head but 27.2 million with it.
- What the paper leaves open: dropout before the logits is torchvision's (slim 0.2, Keras none); kernels are drawn as
  slim draws them (He, truncated; the auxiliary head's last two with deviations 0.01 and 0.001).
- Label smoothing (section 7) is not the network's but the recipe's: label_smoothing=0.1.
And where it departs from the released network:
- Batch norm's running averages have momentum 0.9 (torchvision) where slim has 0.9997, and keep the biased variance.
- `stem="small"`, for 28x28 and 32x32 images: the first convolution has stride 1 and the first pool is left out (its
  kernel is 3x3 as it is).
- The auxiliary head averages over what its 5x5 convolution leaves of larger images, as torchvision does (slim fails),
  and its windows are cut to smaller maps, as slim does for the convolution (torchvision fails): the shape of that one
  kernel depends on the size of the images below 299x299.
"""

from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from classicnets.models.heads import InceptionV3Auxiliary, he_truncated
from classicnets.models.inception import Branches, Inception, InceptionNetwork, Kernel, Layer
from classicnets.models.layers import AdaptiveAvgPool, AvgPool, Dropout, MaxPool, SlidingAvgPool
from classicnets.models.network import Entry
from classicnets.models.papers import INCEPTION_V3, billions, millions

# (kernel, features) of each layer of a branch; two kernels are two convolutions side by side.
Row = tuple[tuple[Kernel | tuple[Kernel, Kernel], int], ...]
Rows = dict[str, Row]


def figure5(pool: int) -> Rows:
    """35x35 maps."""
    return {
        "1x1": (((1, 1), 64),),
        "nxn": (((1, 1), 48), ((5, 5), 64)),
        "double": (((1, 1), 64), ((3, 3), 96), ((3, 3), 96)),
        "pool": (((1, 1), pool),),
    }


def figure6(c: int) -> Rows:
    """17x17 maps, n = 7: an nxn convolution as 1xn and nx1."""
    return {
        "1x1": (((1, 1), 192),),
        "nxn": (((1, 1), c), ((1, 7), c), ((7, 1), 192)),
        "double": (((1, 1), c), ((7, 1), c), ((1, 7), c), ((7, 1), c), ((1, 7), 192)),
        "pool": (((1, 1), 192),),
    }


def figure7() -> Rows:
    """8x8 maps: 1x3 and 3x1 side by side, for high-dimensional representations."""
    return {
        "1x1": (((1, 1), 320),),
        "nxn": (((1, 1), 384), (((1, 3), (3, 1)), 384)),
        "double": (((1, 1), 448), ((3, 3), 384), (((1, 3), (3, 1)), 384)),
        "pool": (((1, 1), 192),),
    }


MODULES: dict[str, Rows] = {
    "mixed_5b": figure5(pool=32),
    "mixed_5c": figure5(pool=64),
    "mixed_5d": figure5(pool=64),
    "mixed_6a": {"nxn": (((3, 3), 384),), "double": (((1, 1), 64), ((3, 3), 96), ((3, 3), 96)), "pool": ()},
    "mixed_6b": figure6(128),
    "mixed_6c": figure6(160),
    "mixed_6d": figure6(160),
    "mixed_6e": figure6(192),
    "mixed_7a": {
        "nxn": (((1, 1), 192), ((3, 3), 320)),
        "double": (((1, 1), 192), ((1, 7), 192), ((7, 1), 192), ((3, 3), 192)),
        "pool": (),
    },
    "mixed_7b": figure7(),
    "mixed_7c": figure7(),
}
REDUCTIONS = ("mixed_6a", "mixed_7a")


class InceptionV3(InceptionNetwork):
    """[n, h, w, c] -> logits [n, num_classes], or pooled features [n, 2048 * width] if num_classes is None.

    With `auxiliary`, training gives (logits, auxiliary logits); there is no auxiliary head without classes.
    """

    kind = "classicnets.models.inception_v3:InceptionV3"

    norm: Literal["batch"] | None = "batch"
    """Normalisation with each convolution; with None convolutions have biases."""
    dropout: float = 0.5
    """Probability, in [0, 1), that training sets a feature before the logits to zero."""
    branches: tuple[Literal["1x1", "nxn", "double", "pool"], ...] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "1x1",
        "nxn",
        "double",
        "pool",
    )
    """Branches that modules have, in any order; the two grid reductions keep all of theirs."""
    factorised: bool = True
    """Whether an nxn convolution is 1xn and nx1."""
    count_padding: bool = True
    """Whether average pools count their padding as zeros (torchvision), or leave it out (slim, Keras)."""
    stem_padding: Literal["VALID", "SAME"] = "VALID"
    """Padding of the stem: "SAME" pads all of it, where the paper pads one convolution."""
    auxiliary: bool = True
    """Whether there is an auxiliary head, on mixed_6e."""

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, jax.Array]:
        unit = self.unit(train)
        x, auxiliary = self.stem_layers(images, unit), None
        largest = partial(MaxPool, 3, 2, method=self.conv, name="maxpool")
        average = partial(AvgPool, 3, 1, "SAME", count_padding=self.count_padding, name="avgpool")
        for name in MODULES:
            if name in REDUCTIONS:
                x = Inception(self.rows(name), unit, largest, 2, "VALID", name=name)(x)
            else:
                x = Inception(self.rows(name), unit, average, name=name)(x)
            if name == "mixed_6e" and self.num_classes and self.auxiliary and (train or self.is_initializing()):
                features, conv = (self.scaled(128), self.scaled(768)), unit.keywords["conv"]
                head = InceptionV3Auxiliary(self.num_classes, features, unit, conv, self.dtype, name="auxlogits")
                auxiliary = head(x)
        logits = self.head_layers(x, train)
        return (logits, auxiliary) if train and auxiliary is not None else logits

    def stem_layers(self, x: jax.Array, unit: partial) -> jax.Array:
        """[n, 299, 299, c] -> [n, 35, 35, 192]."""
        small, padding = self.stem == "small", self.stem_padding
        x = unit(self.scaled(32), (3, 3), 1 if small else 2, padding, name="conv2d_1a_3x3")(x)
        x = unit(self.scaled(32), (3, 3), 1, padding, name="conv2d_2a_3x3")(x)
        x = unit(self.scaled(64), (3, 3), 1, "SAME", name="conv2d_2b_3x3")(x)
        if not small:
            x = MaxPool(3, 2, padding, method=self.conv, name="maxpool_3a_3x3")(x)
        x = unit(self.scaled(80), (1, 1), name="conv2d_3b_1x1")(x)
        x = unit(self.scaled(192), (3, 3), 1, padding, name="conv2d_4a_3x3")(x)
        return MaxPool(3, 2, padding, method=self.conv, name="maxpool_5a_3x3")(x)

    def head_layers(self, x: jax.Array, train: bool) -> jax.Array:
        """[n, 8, 8, c] -> logits, with slim's endpoints."""
        if self.head != "dense":
            pool = partial(AdaptiveAvgPool, 1) if self.head == "pooled" else partial(SlidingAvgPool, 8)
            x = pool(name="avgpool_1a")(x)
        if self.num_classes is not None:
            x = Dropout(self.dropout, not train, self.axis_name, name="prelogits")(x)
        if self.head != "convolutional":
            x = x.reshape(x.shape[0], -1)
        if self.num_classes is None:
            return x
        return nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=he_truncated, name="logits")(x)

    def rows(self, name: str) -> Branches:
        """Return the module's rows of the table, under this network's options."""
        kept = MODULES[name] if name in REDUCTIONS else self.branches
        rows = {branch: row if self.factorised else unfactorised(row) for branch, row in MODULES[name].items()}
        if not self.reduce:
            rows = {b: row if b == "1x1" else tuple(r for r in row if r[0] != (1, 1)) for b, row in rows.items()}
        return self.module({branch: numbered(branch, row) for branch, row in rows.items()}, kept)


def numbered(branch: str, row: Row) -> tuple[Layer, ...]:
    """Return the layers of a branch by name: "double_3", "1x1" if it is alone, "double_3a" and "double_3b" abreast."""
    layers = []
    for i, (kernel, features) in enumerate(row, 1):
        name, kernels = branch if len(row) == 1 else f"{branch}_{i}", abreast(kernel)
        names = (name,) if len(kernels) == 1 else (f"{name}a", f"{name}b")
        layers.append(Layer(tuple(zip(names, kernels, strict=True)), features))
    return tuple(layers)


def unfactorised(row: Row) -> Row:
    """1xn and nx1 as one nxn: with the features of the second if they are in series, of both if side by side."""
    whole: list[tuple[Any, int]] = []
    for kernel, features in row:
        kernels = abreast(kernel)
        square = (max(kernels[0]), max(kernels[0]))
        if len(kernels) == 2:
            whole.append((square, 2 * features))
        elif whole and whole[-1][0][0] != whole[-1][0][1]:
            whole[-1] = (square, features)
        else:
            whole.append((kernel, features))
    return tuple(whole)


def abreast(kernel: Any) -> tuple[Kernel, ...]:
    """Return the kernels of a layer: two if they are side by side."""
    return kernel if isinstance(kernel[0], tuple) else (kernel,)


PRINTED = (
    billions("5", f"{INCEPTION_V3}, abstract", why="this is what is counted at 299x299"),
    billions("4.8", f"{INCEPTION_V3}, Table 3", why="this is what is counted at 299x299"),
    millions("25", f"{INCEPTION_V3}, abstract (under)", why="without the auxiliary head there are 23.8 M"),
)

ENTRIES = {
    "inception_v3": Entry(
        InceptionV3,
        {},
        f"{INCEPTION_V3}, as released",
        27_161_264,
        5_713_216_096,
        size=299,
        note="tf-slim's and Keras's, with norm scales, have equal parameters, but their average pools do not count "
        "padding (count_padding=False)",
        printed=PRINTED,
        torchvision="inception_v3",
    ),
}

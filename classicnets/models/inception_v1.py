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

from functools import partial
from typing import Literal

import jax
from flax import linen as nn

from classicnets.models.heads import GoogLeNetAuxiliary
from classicnets.models.inception import Branches, EarlyInception, Inception, layer
from classicnets.models.layers import ACTIVATIONS, MaxPool
from classicnets.models.network import Entry
from classicnets.models.norm import LrnConstants, response_norm
from classicnets.models.papers import GOOGLENET, Printed, billions


def branches(one: int, reduce_three: int, three: int, reduce_five: int, five: int, projection: int) -> Branches:
    """Return a module of Figure 2(b) from its filters in Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool."""
    return {
        "1x1": (layer("1x1", 1, one),),
        "3x3": (layer("3x3_reduce", 1, reduce_three), layer("3x3", 3, three)),
        "5x5": (layer("5x5_reduce", 1, reduce_five), layer("5x5", 5, five)),
        "pool": (layer("pool_proj", 1, projection),),
    }


# Table 1. Beside each module the paper's name.
MODULES = {
    "mixed_3b": branches(64, 96, 128, 16, 32, 32),  # 3a
    "mixed_3c": branches(128, 128, 192, 32, 96, 64),  # 3b
    "mixed_4b": branches(192, 96, 208, 16, 48, 64),  # 4a
    "mixed_4c": branches(160, 112, 224, 24, 64, 64),  # 4b
    "mixed_4d": branches(128, 128, 256, 24, 64, 64),  # 4c
    "mixed_4e": branches(112, 144, 288, 32, 64, 64),  # 4d
    "mixed_4f": branches(256, 160, 320, 32, 128, 128),  # 4e
    "mixed_5b": branches(256, 160, 320, 32, 128, 128),  # 5a
    "mixed_5c": branches(384, 192, 384, 48, 128, 128),  # 5b
}
AUXILIARY = {"mixed_4b": "aux1", "mixed_4e": "aux2"}


class InceptionV1(EarlyInception):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 1024 * width] if num_classes is None.

    In training with `auxiliary` (logits, those of the head on 4a, those of the head on 4d).
    """

    kind = "classicnets.models.inception_v1:InceptionV1"

    dropout: float = 0.4
    """Probability, in [0, 1), that training sets a feature before the logits to zero."""
    branches: tuple[str, ...] = ("1x1", "3x3", "5x5", "pool")
    """Branches that each module has: one or more of 1x1, 3x3, 5x5, pool, in any order."""
    kernel: Literal[5, 3] = 5
    """Side of the kernels of the branch 5x5, which has 3x3 in torchvision and slim."""
    pool5: Literal[3, 2] = 3
    """Side of the windows of the last max pool."""
    lrn: bool = True
    """Whether local response normalisation follows the first pool and the convolutions before the second."""
    lrn_constants: LrnConstants = "paper"
    """Constants of that normalisation: AlexNet's "paper" has k=2 and alpha=1e-4, "caffe" k=1 and alpha=1e-4 over 5."""
    auxiliary: bool = True
    """Whether there are auxiliary heads, on mixed_4b and mixed_4e."""
    auxiliary_pool: Literal["5x5/3", "adaptive"] = "5x5/3"
    """Pool of the auxiliary heads: the paper's, or torchvision's, of any map 4x4."""
    auxiliary_dropout: float = 0.7
    """Probability, in [0, 1), that training sets a value before an auxiliary head's logits to zero."""

    def check(self) -> None:
        super().check()
        if not 0 <= self.auxiliary_dropout < 1:
            raise ValueError(f"auxiliary_dropout must be in [0, 1), got {self.auxiliary_dropout}")

    @nn.compact
    def forward(self, images: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, ...]:
        heads = self.num_classes is not None and self.auxiliary and (train or self.is_initializing())
        unit, pool = self.unit(train), self.halving_pool()
        x = self.first_layer(images, unit)
        if self.stem == "imagenet":
            x = pool(3, name="maxpool_2a_3x3")(x)
        x = response_norm(self.lrn_constants, name="lrn_2a")(x) if self.lrn else x
        x = unit(self.scaled(64), (1, 1), name="conv2d_2b_1x1")(x)
        x = unit(self.scaled(192), (3, 3), name="conv2d_2c_3x3")(x)
        x = response_norm(self.lrn_constants, name="lrn_2c")(x) if self.lrn else x
        x = pool(3, name="maxpool_3a_3x3")(x)
        auxiliary_logits = []
        for name, table in MODULES.items():
            if name == "mixed_4b":
                x = pool(3, name="maxpool_4a_3x3")(x)
            if name == "mixed_5b":
                x = pool(self.pool5, name=f"maxpool_5a_{self.pool5}x{self.pool5}")(x)
            module = self.module(self.with_kernel(table), self.branches)
            x = Inception(module, unit, partial(MaxPool, 3, 1, padding=1, method=self.conv, name="pool"), name=name)(x)
            if heads and name in AUXILIARY:
                auxiliary_logits.append(self.auxiliary_head(AUXILIARY[name], unit)(x, train=train))
        logits = self.classify(x, "avgpool_0a_7x7", 7, train=train)
        return (logits, *auxiliary_logits) if train and heads else logits

    def with_kernel(self, table: Branches) -> Branches:
        """Return the module with this network's kernel in the branch 5x5."""
        reduction, (_, features) = table["5x5"]
        return {**table, "5x5": (reduction, layer("5x5", self.kernel, features))}

    def auxiliary_head(self, name: str, unit: partial) -> GoogLeNetAuxiliary:
        """Return the head called `name`."""
        assert self.num_classes is not None
        return GoogLeNetAuxiliary(
            features=self.scaled(128),
            hidden=self.scaled(1024),
            num_classes=self.num_classes,
            pool=self.auxiliary_pool,
            dropout=self.auxiliary_dropout,
            unit=unit,
            activation=ACTIVATIONS[self.activation],
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )


OWN_FILTERS = "the filters of this row of the table give what is counted"
SEPARABLE = "this is a separable convolution: 8 filters of 7x7 a colour, then 1x1"
# Table 1 as printed: our layers, parameters in units of 1024, operations in millions, why we count others.
ROWS = (
    (("conv2d_1a_7x7",), "2.7K", "34M", SEPARABLE),
    (("conv2d_2b_1x1", "conv2d_2c_3x3"), "112K", "360M", ""),
    (("mixed_3b",), "159K", "128M", ""),
    (("mixed_3c",), "380K", "304M", ""),
    (("mixed_4b",), "364K", "73M", OWN_FILTERS),
    (("mixed_4c",), "437K", "88M", OWN_FILTERS),
    (("mixed_4d",), "463K", "100M", OWN_FILTERS),
    (("mixed_4e",), "580K", "119M", OWN_FILTERS),
    (("mixed_4f",), "840K", "170M", OWN_FILTERS),
    (("mixed_5b",), "1072K", "54M", OWN_FILTERS),
    (("mixed_5c",), "1388K", "71M", OWN_FILTERS),
    (("logits",), "1000K", "1M", ""),
)
TABLE_1 = f"{GOOGLENET}, Table 1"
PRINTED = (
    billions("1.5", f"{GOOGLENET}, section 1"),
    *(Printed("parameters", text, 1024, TABLE_1, layers, why=why) for layers, text, _, why in ROWS),
    *(Printed("macs", text, 1e6, TABLE_1, layers, why=why) for layers, _, text, why in ROWS),
)
TORCHVISION = {
    "norm": "batch",
    "lrn": False,
    "kernel": 3,
    "pool5": 2,
    "dropout": 0.2,
    "auxiliary_pool": "adaptive",
    "padding": "symmetric",
    "max_pool": "ceil",
}

ENTRIES = {
    "inception_v1": Entry(InceptionV1, {}, GOOGLENET, 13_378_280, 1_582_671_872, printed=PRINTED),
    "inception_v1_bn": Entry(
        InceptionV1,
        TORCHVISION,
        "torchvision googlenet",
        13_004_888,
        1_498_376_192,
        note="tf-slim's, with norm scales, has equal parameters and pads otherwise (padding='same')",
        torchvision="googlenet",
    ),
}

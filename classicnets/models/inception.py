"""The Inception module over a table of branches, and what the three Inception networks share."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.heads import PooledHeadNetwork, he_truncated
from classicnets.models.layers import ACTIVATIONS, ConvNorm, GlobalAvgPool, MaxPool, Padding, SlidingAvgPool
from classicnets.models.network import ImageSizeError, Stem

Kernel = tuple[int, int]
MaxPooling = Literal["same", "ceil"]


class Layer(NamedTuple):
    """A convolution of a branch, or several side by side: (name, kernel) of each, and the features of each."""

    convolutions: tuple[tuple[str, Kernel], ...]
    features: int


Branches = dict[str, tuple[Layer, ...]]


def layer(name: str, side: int, features: int) -> Layer:
    """Return a layer of one square convolution."""
    return Layer(((name, (side, side)),), features)


class Inception(nn.Module):
    """The outputs of the branches, side by side: [n, h, w, c] -> [n, h', w', sum of the branches' features].

    A branch is its layers in series, and "pool" has its pool before them. strides, padding: of the last layer of each
    other branch. pool: the constructor of the pool, with the same strides.
    """

    branches: Branches
    unit: Callable[..., Any]
    pool: Callable[[], nn.Module]
    strides: int = 1
    padding: Padding = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = [self.branch(name, layers, x) for name, layers in self.branches.items()]
        if len({y.shape[1:3] for y in outputs}) > 1:
            height, width = x.shape[1:3]
            raise ImageSizeError(
                f"max_pool='ceil' halves a map as the convolutions do only if it is even, got {height}x{width}; "
                "choose max_pool='same' or images of a multiple of 32 pixels"
            )
        return jnp.concatenate(outputs, -1)

    def branch(self, name: str, layers: tuple[Layer, ...], x: jax.Array) -> jax.Array:
        if name == "pool":
            x = self.pool()(x)
        for i, (convolutions, features) in enumerate(layers, 1):
            unit = partial(self.unit, features)
            if name != "pool" and i == len(layers):
                unit = partial(unit, strides=self.strides, padding=self.padding)
            x = jnp.concatenate([unit(kernel, name=called)(x) for called, kernel in convolutions], -1)
        return x


class InceptionNetwork(PooledHeadNetwork):
    """A network of Inception modules, whose names are slim's in lower case."""

    min_depth: int = 16
    """Fewest channels that `width` leaves a layer."""
    branches: tuple[str, ...] = ()
    """Branches that each module has, one or more, in any order."""
    reduce: bool = True
    """Whether 1x1 convolutions reduce what larger kernels read, and project the pool; without them a module is the
    naive one (figure 2a of 2015)."""
    use_scale: bool = True
    """Whether batch norm has a scale, gamma."""
    stem: Stem = "imagenet"
    """First layers: the paper's, or "small" (ours: stride 1 and one pool less) for images of 28x28 or 32x32 pixels."""

    def __post_init__(self):
        super().__post_init__()
        order = type(self).branches
        if isinstance(self.branches, tuple) and set(self.branches) <= set(order):  # their order makes no other network
            object.__setattr__(self, "branches", tuple(sorted(self.branches, key=order.index)))

    def check(self) -> None:
        super().check()
        known = type(self).branches
        if not self.branches or not set(self.branches) <= set(known) or len(set(self.branches)) < len(self.branches):
            choices = ", ".join(known)
            raise ValueError(f"branches must be one or more of {choices}, each once, got {self.branches!r}")

    def unit(self, train: bool) -> partial:
        """Return activation(norm(conv)), by features, kernel, strides, padding and name."""
        conv, norm = self.conv_norm(train)
        return partial(
            ConvNorm,
            conv=partial(conv, kernel_init=he_truncated),
            norm=partial(norm, epsilon=1e-3, use_scale=self.use_scale),
            activation=ACTIVATIONS[self.activation],
        )

    def module(self, table: Branches, kept: Collection[str]) -> Branches:
        """Return a row of the paper's table under the network's options, of the branches `kept`."""
        return {name: self.narrowed(name, layers) for name, layers in table.items() if name in kept}

    def narrowed(self, branch: str, layers: Iterable[Layer]) -> tuple[Layer, ...]:
        """Return the layers of a branch at the network's width, with reductions if it has them."""
        return tuple(
            Layer(convolutions, self.scaled(features))
            for convolutions, features in layers
            if self.reduce or branch == "1x1" or convolutions[0][1] != (1, 1)
        )

    def classify(self, x: jax.Array, pool: str, window: int, *, train: bool) -> jax.Array:
        """Return the logits, or the features that they read if there are no classes, of the last map [n, h, w, c].

        pool: the name of the pool; window: its side for a convolutional head.
        """
        if self.head == "dense":
            x = x.reshape(x.shape[0], -1)
        else:
            x = (GlobalAvgPool(name=pool) if self.head == "pooled" else SlidingAvgPool(window, name=pool))(x)
        return self.logits(x, self.dropout, train=train)


class EarlyInception(InceptionNetwork):
    """v1 and v2: a stem that starts with a 7x7 convolution, and two conventions of halving a map."""

    padding: Literal["same", "symmetric"] = "same"
    """Padding of the convolutions that halve a map: TensorFlow's "same", Caffe's and torch's "symmetric"."""
    max_pool: MaxPooling = "same"
    """Pools that halve a map: TensorFlow's "same", or "ceil", unpadded, whose last window may hang over the edge."""

    def halving_padding(self, kernel: int) -> Padding:
        """Return the padding of a convolution of stride 2 (at stride 1 and an odd kernel both conventions agree)."""
        return "SAME" if self.padding == "same" else kernel // 2

    def halving_pool(self) -> Callable[..., MaxPool]:
        """Return the constructor of a max pool of stride 2, by window and name."""
        padding = {"padding": "SAME"} if self.max_pool == "same" else {"padding": 0, "ceil": True}
        return partial(MaxPool, strides=2, method=self.conv, **padding)

    def first_layer(self, images: jax.Array, unit: Callable[..., Any]) -> jax.Array:
        """7x7/2, or 3x3/1 for small images; `unit`: by features, kernel, strides, padding and name."""
        kernel, strides = (7, 2) if self.stem == "imagenet" else (3, 1)
        name = f"conv2d_1a_{kernel}x{kernel}"
        return unit(self.scaled(64), (kernel, kernel), strides, self.halving_padding(kernel), name=name)(images)

"""Residual units, and the stage that stacks them; every residual network here is built of these.

    v1  Block, Bottleneck              He et al., "Deep residual learning", CVPR 2016, figure 5
    v2  PreactBlock, PreactBottleneck  He et al., "Identity mappings in deep residual networks", ECCV 2016, figure 1 (b)

A unit's layers are called conv1, norm1, conv2, ... (each norm after the convolution that it follows), v2's first
norm is preact, and the convolution of a projection is shortcut, with shortcut_norm after it in v1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.heads import PooledHeadNetwork
from classicnets.models.layers import AvgPool, GlobalAvgPool, no_layer
from classicnets.models.network import execution_option
from classicnets.models.stacks import name_of

Shortcut = Literal["none", "A", "B", "C", "pool"]
StrideIn = Literal["1x1", "3x3"]

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def subsample(x: jax.Array, strides: int) -> jax.Array:
    """Return every `strides`-th row and column, from the first on."""
    return x[:, ::strides, ::strides]


class Unit(nn.Module):
    """A residual unit, [n, h, w, c] -> [n, ceil(h / strides), ceil(w / strides), features], of v1.

    Shortcuts (section 3.3): "A" is the identity, subsampled and padded with zero channels where the shape changes;
    "B" a 1x1 projection where the shape changes; "C" a projection everywhere; "none" leaves a plain unit;
    "pool" is B with average pooling in the place of the projection's strides (He, T. et al. 2019, ResNet-D).
    conv, norm: as `Network.conv_norm` gives them. dilation: of the 3x3 convolutions up to the one with the strides, and
    after it. zero_init: f starts at zero (the last norm's scale in v1, the last kernel in v2).
    """

    features: int
    strides: int
    shortcut: Shortcut
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dilation: tuple[int, int] = (1, 1)
    zero_init: bool = False

    def last_norm(self, name: str) -> Callable[[jax.Array], jax.Array]:
        """Return the norm that ends f."""
        return self.norm(name=name, scale_init=nn.initializers.zeros if self.zero_init else nn.initializers.ones)

    def skip(self, x: jax.Array) -> jax.Array:
        """Return the shortcut's output."""
        return self.norm(name="shortcut_norm")(self.projection(x)) if self.projects(x) else self.identity(x)

    def projects(self, x: jax.Array) -> bool:
        """Return whether the shortcut of x is a projection; dilation in the place of strides does not change it."""
        before, after = self.dilation
        same_shape = self.strides == 1 and before == after and x.shape[-1] == self.features
        return self.shortcut == "C" or (self.shortcut in ("B", "pool") and not same_shape)

    def projection(self, x: jax.Array, **options: Any) -> jax.Array:
        """1x1 with the unit's strides; of "pool", 2x2 average pooling with the strides, then 1x1."""
        strides = self.strides
        if self.shortcut == "pool" and strides > 1:
            x = AvgPool(strides, strides, padding=0, ceil=True, count_padding=False, name="shortcut_pool")(x)
            strides = 1
        return self.conv(self.features, (1, 1), strides, padding=0, name="shortcut", **options)(x)

    def identity(self, x: jax.Array) -> jax.Array:
        """x, subsampled where the unit has strides and padded with zero channels where it has more than x."""
        x = subsample(x, self.strides)[..., : self.features]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1])))


class Block(Unit):
    """relu(shortcut(x) + f(x)), f = 3x3, BN, ReLU, 3x3, BN; a plain block is relu(f(x))."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        before, after = self.dilation
        y = self.conv(self.features, (3, 3), self.strides, padding=before, kernel_dilation=before, name="conv1")(x)
        y = self.activation(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), padding=after, kernel_dilation=after, name="conv2")(y)
        y = self.last_norm("norm2")(y)
        if self.shortcut != "none":
            y = y + self.skip(x)
        return self.activation(y)


class Bottleneck(Unit, kw_only=True):
    """relu(shortcut(x) + f(x)), f = 1x1, BN, ReLU, 3x3, BN, ReLU, 1x1, BN, with `inner` channels but for the last.

    The strides are the first 1x1's (the paper's) or, with `stride_in="3x3"`, the 3x3's ("v1.5").
    """

    inner: int
    stride_in: StrideIn

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first, second, dilation = bottleneck_strides(self.strides, self.dilation, self.stride_in)
        y = self.conv(self.inner, (1, 1), first, padding=0, name="conv1")(x)
        y = self.activation(self.norm(name="norm1")(y))
        y = self.conv(self.inner, (3, 3), second, padding=dilation, kernel_dilation=dilation, name="conv2")(y)
        y = self.activation(self.norm(name="norm2")(y))
        y = self.conv(self.features, (1, 1), padding=0, name="conv3")(y)
        y = self.last_norm("norm3")(y)
        if self.shortcut != "none":
            y = y + self.skip(x)
        return self.activation(y)


class PreactUnit(Unit):
    """A residual unit of v2, whose projection reads the activation and has no norm.

    bias: whether the convolutions that no norm follows (the last one and the projection) have biases.
    """

    bias: bool = False
    dropout: Callable[..., Any] = no_layer

    def last_conv(self, kernel: int, name: str, dilation: int = 1) -> nn.Conv:
        """Return the convolution that ends f."""
        init = {"kernel_init": nn.initializers.zeros} if self.zero_init else {}
        spatial = {"padding": dilation * (kernel // 2), "kernel_dilation": dilation}
        return self.conv(self.features, (kernel, kernel), use_bias=self.bias, name=name, **spatial, **init)

    def skip_of(self, x: jax.Array, activated: jax.Array) -> jax.Array:
        """Return the shortcut's output, of x or of what the first activation made of it."""
        return self.projection(activated, use_bias=self.bias) if self.projects(x) else self.identity(x)


class PreactBlock(PreactUnit):
    """shortcut(x) + f(a), a = relu(BN(x)), f = 3x3, BN, ReLU, dropout, 3x3; a projection reads a, not x."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        before, after = self.dilation
        a = self.activation(self.norm(name="preact")(x))
        y = self.conv(self.features, (3, 3), self.strides, padding=before, kernel_dilation=before, name="conv1")(a)
        y = self.dropout(name="dropout")(self.activation(self.norm(name="norm1")(y)))
        y = self.last_conv(3, "conv2", after)(y)
        return y if self.shortcut == "none" else y + self.skip_of(x, a)


class PreactBottleneck(PreactUnit, kw_only=True):
    """shortcut(x) + f(a), a = relu(BN(x)), f = 1x1, BN, ReLU, 3x3, BN, ReLU, dropout, 1x1; a projection reads a."""

    inner: int
    stride_in: StrideIn

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first, second, dilation = bottleneck_strides(self.strides, self.dilation, self.stride_in)
        a = self.activation(self.norm(name="preact")(x))
        y = self.conv(self.inner, (1, 1), first, padding=0, name="conv1")(a)
        y = self.activation(self.norm(name="norm1")(y))
        y = self.conv(self.inner, (3, 3), second, padding=dilation, kernel_dilation=dilation, name="conv2")(y)
        y = self.dropout(name="dropout")(self.activation(self.norm(name="norm2")(y)))
        y = self.last_conv(1, "conv3")(y)
        return y if self.shortcut == "none" else y + self.skip_of(x, a)


def bottleneck_strides(strides: int, dilation: tuple[int, int], stride_in: StrideIn) -> tuple[int, int, int]:
    """Return the strides of the first 1x1 and of the 3x3, and the dilation of the 3x3."""
    before, after = dilation
    return (strides, 1, after) if stride_in == "1x1" else (1, strides, before)


class Stage(nn.Module):
    """`length` units of one width, of which one changes the shape: the first or, in slim's form, the last.

    That one is a module apart, as the first is where x has other channels; the equal ones between are one scan over
    stacked parameters. The modules are called unit_1, units_2_5 (a stack of units 2 to 5), unit_6.
    unit: a partial of a unit. strided: whether the stage has strides (or, at a given output stride, dilation in
    their place). dilation: of the 3x3 convolutions up to the one with the strides, and after it.
    """

    unit: Callable[..., nn.Module]
    features: int
    length: int
    strides: int
    shortcut: Shortcut
    strided: bool
    last: bool = False
    dilation: tuple[int, int] = (1, 1)
    unroll: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        turn = self.length if self.last else 1  # the unit that changes the shape
        first_apart = x.shape[-1] != self.features or (self.strided and turn == 1)
        last_apart = self.strided and turn > 1
        start, stop = (2 if first_apart else 1), (self.length - 1 if last_apart else self.length)
        modules = []
        if first_apart:
            modules.append((1, 1))
        if start <= stop:
            modules.append((start, stop))
        if last_apart:
            modules.append((self.length, self.length))
        for start, stop in modules:
            x = self.units(start, stop, turn, x)
        return x

    def units(self, start: int, stop: int, turn: int, x: jax.Array) -> jax.Array:
        """Return the output of the equal units `start` to `stop`: one module, or one scan over stacked parameters."""
        before, after = self.dilation
        dilation = self.dilation if start == turn else (before, before) if start < turn else (after, after)
        # Slim's last unit has strides and no more channels: its shortcut is subsampled, not projected.
        shortcut = "A" if start == turn > 1 and self.shortcut == "B" else self.shortcut
        strides = self.strides if start == turn else 1
        unit = self.unit(self.features, strides, shortcut, dilation=dilation, name=name_of(start, stop))
        length = stop - start + 1
        if length == 1:
            return unit(x)
        scan = nn.scan(
            lambda unit, x, _: (unit(x), None),
            variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            length=length,
            unroll=length if self.unroll else 1,
        )
        return scan(unit, x, None)[0]


class ResidualNetwork(PooledHeadNetwork):
    """A network of stages of residual units."""

    shortcut: Shortcut = "B"
    """Shortcut of each unit: "none" (a plain network), the paper's option "A" (identity, new channels are zero), "B"
    (projection where the shape changes) or "C" (projection everywhere), or "pool" (B after average pooling)."""
    norm: Literal["batch"] | None = "batch"
    """Normalisation with each convolution; with None convolutions have biases."""
    zero_init: bool = False
    """Whether each residual branch starts at zero."""
    unroll: bool = execution_option(False)
    """Whether units of equal shapes are compiled one by one, without a loop, over the same parameters."""

    def execution(self) -> dict[str, Any]:
        return {**super().execution(), "unroll": self.unroll}

    def classify(self, x: jax.Array, dropout: float, *, train: bool, pooled: bool = True) -> jax.Array:
        """Return the logits, or the features that they read if there are no classes, of the last map [n, h, w, c].

        A convolutional head takes the mean after the logits, with equal results. pooled: whether there is a mean.
        """

        def pool(x: jax.Array) -> jax.Array:
            if self.head == "dense":
                return x.reshape(x.shape[0], -1)
            return GlobalAvgPool(name="global_pool")(x) if pooled else x

        if self.head == "convolutional" and self.num_classes is not None:
            return pool(self.logits(x, dropout, train=train))
        return self.logits(pool(x), dropout, train=train)


class CifarNetwork(ResidualNetwork):
    """Section 4.2's form: conv1 with 16 channels, three stages of equally many units, the map halved where the channels
    double from 16 or a multiple of it, the mean over the map and one dense layer."""

    num_classes: int | None = 10
    """Number of classes; None gives the features that the logits would read."""

    def stages(
        self, x: jax.Array, unit: Callable[..., Any], units: int, bottleneck: bool = False, widen: int = 1
    ) -> jax.Array:
        """Return the output of block1 to block3, of `units` units each; `unit`: a partial of a unit."""
        for i, features in enumerate((16, 32, 64), 1):
            inner = self.scaled(features * widen)
            stage = Stage(
                partial(unit, inner=inner, stride_in="3x3") if bottleneck else unit,
                features=inner * 4 if bottleneck else inner,
                length=units,
                strides=1 if i == 1 else 2,
                shortcut=self.shortcut,
                strided=i > 1,
                unroll=self.unroll,
                name=f"block{i}",
            )
            x = stage(x)
        return x


def check_depth(depth: int, step: int, rest: int) -> None:
    """Raise ValueError unless depth = step * n + rest."""
    if depth < step + rest or depth % step != rest:
        nearest = max(1, round((depth - rest) / step)) * step + rest
        raise ValueError(f"depth must be {step}n+{rest} with n >= 1, got {depth}; the nearest is {nearest}")

"""Residual units, and the stage that stacks them; every residual network here is built of these.

    v1  Block, Bottleneck              He et al., "Deep residual learning", CVPR 2016, figure 5
    v2  PreactBlock, PreactBottleneck  He et al., "Identity mappings in deep residual networks", ECCV 2016, figure 1 (b)

A unit's layers are called conv1, norm1, conv2, ... (each norm after the convolution that it follows), v2's first
norm is preact, and the convolution of a projection is shortcut, with shortcut_norm after it in v1.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.layers import AvgPool

Shortcut = Literal["none", "A", "B", "C", "pool"]

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def subsample(x, strides: int):
    """Every `strides`-th row and column, from the first on."""
    return x[:, ::strides, ::strides]


def no_layer(**_) -> Callable[[jax.Array], jax.Array]:
    """A layer that does nothing, for a norm or a dropout that is left out."""
    return lambda x: x


def projects(unit, x) -> bool:
    """Whether the unit's shortcut of x is a projection; dilation in the place of strides does not change it."""
    before, after = unit.dilation
    same_shape = unit.strides == 1 and before == after and x.shape[-1] == unit.features
    return unit.shortcut == "C" or (unit.shortcut in ("B", "pool") and not same_shape)


def projection(unit, x, name: str = "shortcut", **options):
    """1x1 with the unit's strides; of "pool", 2x2 average pooling with the strides, then 1x1."""
    strides = unit.strides
    if unit.shortcut == "pool" and strides > 1:
        x = AvgPool(strides, strides, padding=0, ceil=True, count_padding=False, name=f"{name}_pool")(x)
        strides = 1
    return unit.conv(unit.features, (1, 1), strides, padding=0, name=name, **options)(x)


def identity(unit, x):
    """x, subsampled where the unit has strides and padded with zero channels where it has more than x."""
    x = subsample(x, unit.strides)[..., : unit.features]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, unit.features - x.shape[-1])))


class Block(nn.Module):
    """relu(shortcut(x) + f(x)), f = 3x3, BN, ReLU, 3x3, BN; a plain block is relu(f(x)).

    [n, h, w, c] -> [n, ceil(h / strides), ceil(w / strides), features]. Shortcuts (v1's section 3.3):
    "A" is the identity, subsampled and padded with zero channels where the shape changes;
    "B" a 1x1 projection where the shape changes; "C" a projection everywhere;
    "pool" is B with average pooling in the place of the projection's strides (He, T. et al. 2019, ResNet-D).
    conv, norm: as `bound` gives them. dilation: of the 3x3 convolutions up to the one with the strides, and after it.
    zero_init: f starts at zero (the last norm's scale here, the last kernel in the pre-activated units).
    """

    features: int
    strides: int
    shortcut: Shortcut
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dilation: tuple[int, int] = (1, 1)
    zero_init: bool = False
    shortcut_name: str = "shortcut"

    @nn.compact
    def __call__(self, x):
        before, after = self.dilation
        y = self.conv(self.features, (3, 3), self.strides, padding=before, kernel_dilation=before, name="conv1")(x)
        y = self.activation(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), padding=after, kernel_dilation=after, name="conv2")(y)
        y = self.norm(name="norm2", scale_init=last_scale(self))(y)
        if self.shortcut != "none":
            y = y + shortcut_branch(self, x, self.shortcut_name)
        return self.activation(y)


class Bottleneck(nn.Module):
    """relu(shortcut(x) + f(x)), f = 1x1, BN, ReLU, 3x3, BN, ReLU, 1x1, BN, with `inner` channels but for the last.

    The strides are the first 1x1's (the paper's) or, with `stride_in="3x3"`, the 3x3's ("v1.5").
    """

    features: int
    strides: int
    shortcut: Shortcut
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    inner: int
    stride_in: Literal["1x1", "3x3"]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dilation: tuple[int, int] = (1, 1)
    zero_init: bool = False

    @nn.compact
    def __call__(self, x):
        first, second, dilation = bottleneck_strides(self)
        y = self.conv(self.inner, (1, 1), first, padding=0, name="conv1")(x)
        y = self.activation(self.norm(name="norm1")(y))
        y = self.conv(self.inner, (3, 3), second, padding=dilation, kernel_dilation=dilation, name="conv2")(y)
        y = self.activation(self.norm(name="norm2")(y))
        y = self.conv(self.features, (1, 1), padding=0, name="conv3")(y)
        y = self.norm(name="norm3", scale_init=last_scale(self))(y)
        if self.shortcut != "none":
            y = y + shortcut_branch(self, x)
        return self.activation(y)


class PreactBlock(nn.Module):
    """shortcut(x) + f(a), a = relu(BN(x)), f = 3x3, BN, ReLU, dropout, 3x3; a projection reads a, not x.

    bias: whether the convolutions that no norm follows (the last one and the projection) have biases.
    """

    features: int
    strides: int
    shortcut: Shortcut
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dilation: tuple[int, int] = (1, 1)
    zero_init: bool = False
    bias: bool = False
    dropout: Callable[..., Any] = no_layer

    @nn.compact
    def __call__(self, x):
        before, after = self.dilation
        a = self.activation(self.norm(name="preact")(x))
        y = self.conv(self.features, (3, 3), self.strides, padding=before, kernel_dilation=before, name="conv1")(a)
        y = self.dropout(name="dropout")(self.activation(self.norm(name="norm1")(y)))
        last = {"padding": after, "kernel_dilation": after, **last_kernel(self)}
        y = self.conv(self.features, (3, 3), name="conv2", **last)(y)
        return y if self.shortcut == "none" else y + preact_shortcut_branch(self, x, a)


class PreactBottleneck(nn.Module):
    """shortcut(x) + f(a), a = relu(BN(x)), f = 1x1, BN, ReLU, 3x3, BN, ReLU, dropout, 1x1; a projection reads a."""

    features: int
    strides: int
    shortcut: Shortcut
    conv: Callable[..., Any]
    norm: Callable[..., Any]
    inner: int
    stride_in: Literal["1x1", "3x3"]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    dilation: tuple[int, int] = (1, 1)
    zero_init: bool = False
    bias: bool = False
    dropout: Callable[..., Any] = no_layer

    @nn.compact
    def __call__(self, x):
        first, second, dilation = bottleneck_strides(self)
        a = self.activation(self.norm(name="preact")(x))
        y = self.conv(self.inner, (1, 1), first, padding=0, name="conv1")(a)
        y = self.activation(self.norm(name="norm1")(y))
        y = self.conv(self.inner, (3, 3), second, padding=dilation, kernel_dilation=dilation, name="conv2")(y)
        y = self.dropout(name="dropout")(self.activation(self.norm(name="norm2")(y)))
        y = self.conv(self.features, (1, 1), padding=0, name="conv3", **last_kernel(self))(y)
        return y if self.shortcut == "none" else y + preact_shortcut_branch(self, x, a)


def shortcut_branch(unit, x, name: str = "shortcut"):
    if not projects(unit, x):
        return identity(unit, x)
    return unit.norm(name=f"{name}_norm")(projection(unit, x, name))


def preact_shortcut_branch(unit, x, a):
    return projection(unit, a, use_bias=unit.bias) if projects(unit, x) else identity(unit, x)


def bottleneck_strides(unit) -> tuple[int, int, int]:
    """Strides of the first 1x1 and of the 3x3, dilation of the 3x3."""
    before, after = unit.dilation
    return (unit.strides, 1, after) if unit.stride_in == "1x1" else (1, unit.strides, before)


def last_scale(unit) -> nn.initializers.Initializer:
    return nn.initializers.zeros if unit.zero_init else nn.initializers.ones


def last_kernel(unit) -> dict[str, Any]:
    return {"use_bias": unit.bias, **({"kernel_init": nn.initializers.zeros} if unit.zero_init else {})}


def stacked(unit, length: int, x, unroll: bool):
    """`length` units of equal shapes, one scan over stacked parameters."""
    scan = nn.scan(
        lambda unit, x, _: (unit(x), None),
        variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        length=length,
        unroll=length if unroll else 1,
    )
    return scan(unit, x, None)[0]


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
    def __call__(self, x):
        n = self.length
        turn = n if self.last else 1
        first = x.shape[-1] != self.features or (self.strided and turn == 1)
        last = self.strided and turn > 1
        for start, stop in [(1, 1)] * first + [(1 + first, n - last)] + [(n, n)] * last:
            if start == stop:
                x = self.unit_at(start, turn, f"unit_{start}")(x)
            elif start < stop:
                x = stacked(self.unit_at(start, turn, f"units_{start}_{stop}"), stop - start + 1, x, self.unroll)
        return x

    def unit_at(self, i: int, turn: int, name: str) -> nn.Module:
        before, after = self.dilation
        dilation = self.dilation if i == turn else (before, before) if i < turn else (after, after)
        # Slim's last unit has strides and no more channels: its shortcut is subsampled, not projected.
        shortcut = "A" if i == turn > 1 and self.shortcut == "B" else self.shortcut
        strides = self.strides if i == turn else 1
        return self.unit(self.features, strides, shortcut, dilation=dilation, name=name)

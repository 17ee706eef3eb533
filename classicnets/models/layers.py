"""Layers that two or more families use.

Pooling layers are modules too, though they hold no parameters, so that every layer has a name that
`capture_intermediates` finds.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import initializers
from jax import lax, random

from classicnets.models.conv import ConvMethod
from classicnets.models.norm import wide
from classicnets.models.pooling import max_pool

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": nn.relu, "tanh": jnp.tanh, "sigmoid": nn.sigmoid}

# Rows of pixels before and after an axis, for both axes; or "SAME" (TensorFlow's, more after than before) or "VALID".
Padding = str | int | tuple[tuple[int, int], tuple[int, int]]


def no_layer(**_: Any) -> Callable[[jax.Array], jax.Array]:
    """Return a layer that does nothing, for a norm or a dropout that is left out."""
    return lambda x: x


class ConvNorm(nn.Module):
    """activation(norm(conv(x))): [n, h, w, c] -> [n, h', w', features].

    conv, norm: as `Network.conv_norm` gives them, further filled in by the family. The parameters are called conv and
    norm.
    """

    features: int
    kernel: tuple[int, int]
    strides: int = 1
    padding: Padding = "SAME"
    conv: Callable[..., Any] = nn.Conv
    norm: Callable[..., Any] = no_layer
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(self.features, self.kernel, self.strides, padding=self.padding, name="conv")(x)
        return self.activation(self.norm(name="norm")(x))


class Dropout(nn.Module):
    """Each value is kept with probability 1 - rate and then divided by it; the mask hangs on the example's place in the
    batch over all replicas of `axis_name`, so that the number of devices does not change it (key: rng "dropout")."""

    rate: float
    deterministic: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.rate == 0 or self.deterministic:
            return x
        first = 0 if self.axis_name is None or self.is_initializing() else lax.axis_index(self.axis_name) * len(x)
        keys = jax.vmap(random.fold_in, (None, 0))(self.make_rng("dropout"), first + jnp.arange(len(x)))
        kept = jax.vmap(lambda key: random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros((), x.dtype))


class MaxPool(nn.Module):
    """The largest value of each window; with `ceil` a last window may hang over the edge (Caffe, torch's ceil_mode)."""

    window: int
    strides: int
    padding: Padding = "VALID"
    ceil: bool = False
    method: ConvMethod = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = _pool_padding(x, self.window, self.strides, self.padding, self.ceil)
        return max_pool(x, self.window, self.strides, padding, method=self.method)


class AvgPool(nn.Module):
    """The mean of each window; with `count_padding` (torch, Caffe) padding counts as zeros, else not (slim, Keras)."""

    window: int
    strides: int
    padding: Padding = "VALID"
    ceil: bool = False
    count_padding: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = _pool_padding(x, self.window, self.strides, self.padding, self.ceil)
        window, strides = (self.window,) * 2, (self.strides,) * 2
        y = nn.avg_pool(wide(x), window, strides, padding, count_include_pad=self.count_padding)
        return y.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else y  # means of integers are none


class GlobalAvgPool(nn.Module):
    """[n, h, w, c] -> [n, c], the mean over the map."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x.mean((1, 2))


class AdaptiveAvgPool(nn.Module):
    """[n, h, w, c] -> [n, size, size, c]: window i of l pixels is floor(i l / size) to ceil((i + 1) l / size)."""

    size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for axis in (1, 2):
            length = x.shape[axis]
            spans = [(i * length // self.size, -(-(i + 1) * length // self.size)) for i in range(self.size)]
            parts = [lax.slice_in_dim(x, start, stop, axis=axis).mean(axis, keepdims=True) for start, stop in spans]
            x = jnp.concatenate(parts, axis)
        return x


class SlidingAvgPool(nn.Module):
    """The mean of each window, or of the whole map along an axis that is shorter: slim's pool before the logits."""

    window: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        window = (min(self.window, x.shape[1]), min(self.window, x.shape[2]))
        y = nn.avg_pool(wide(x), window)
        return y.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else y


def _pool_padding(x: jax.Array, window: int, strides: int, padding: Padding, ceil: bool) -> Any:
    if isinstance(padding, str):
        return padding
    pads = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    if not ceil:
        return pads
    spans = []
    for size, (low, high) in zip(x.shape[1:3], pads, strict=True):
        out = -(-(size + low + high - window) // strides) + 1
        if (out - 1) * strides >= size + low:  # a window must start in the image or in the padding before it
            out -= 1
        spans.append((low, max(high, (out - 1) * strides + window - size - low)))
    return tuple(spans)


class FullyConnected(nn.Module):
    """activation(W x + b): of the whole map [n, h, w, c] -> [n, features], or of its windows -> [n, h', w', features].

    window: None for the whole map, k for each of its k x k windows; 1 takes [n, c] too. The parameters, called dense,
    are the same: the kernel is [h, w, c, features], or [c, features] for window 1. squeeze: a 1x1 result becomes
    [n, features].
    """

    features: int
    window: int | None = 1
    conv: Callable[..., Any] = nn.Conv
    kernel_init: initializers.Initializer = initializers.lecun_normal()
    bias_init: initializers.Initializer = initializers.zeros
    activation: Callable[[jax.Array], jax.Array] | None = None
    squeeze: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init: dict[str, Any] = {"kernel_init": self.kernel_init, "bias_init": self.bias_init, "name": "dense"}
        whole = partial(nn.DenseGeneral, self.features, (1, 2, 3), dtype=self.dtype, **init)
        if self.window == 1:
            x = nn.Dense(self.features, dtype=self.dtype, **init)(x)
        elif self.window is None:
            x = whole()(x)
        elif x.shape[1:3] == (self.window, self.window):
            x = whole()(x)[:, None, None]
        else:
            init |= {"kernel_init": partial(_as_dense, self.kernel_init), "use_bias": True}
            x = self.conv(self.features, (self.window, self.window), padding="VALID", **init)(x)
        if self.squeeze and x.ndim == 4 and x.shape[1:3] == (1, 1):
            x = x[:, 0, 0]
        return x if self.activation is None else self.activation(x)


def _as_dense(init: initializers.Initializer, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """The kernel [h, w, c, o] of a window as the dense layer's, whose fans are h * w * c and o."""
    return init(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

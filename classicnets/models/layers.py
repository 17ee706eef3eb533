"""Layers that two or more families use.

Every network has the fields num_classes, width, min_depth, dtype, axis_name, conv and the others that `check_fields`
knows; `bound` gives its convolution and batch norm with all of that filled in. Pooling and normalisation over
channels are modules too, though they hold no parameters, so that every layer has a name that `capture_intermediates`
finds.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen import initializers
from jax import lax, random

from classicnets.models.conv import conv_general_dilated, resolve

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": nn.relu, "tanh": jnp.tanh, "sigmoid": nn.sigmoid}

Head = Literal["dense", "convolutional", "pooled"]
Stem = Literal["imagenet", "small"]

# Rows of pixels before and after an axis, for both axes; or "SAME" (TensorFlow's, more after than before) or "VALID".
Padding = str | int | tuple[tuple[int, int], tuple[int, int]]


def execution_option(default):
    """A module field that decides how the network is run, never what it computes: no part of a run's identity."""
    return dataclasses.field(default=default, metadata={"execution": True})


def execution(network) -> dict:
    """What a network's execution options come to on this backend, for the record of a run."""
    unroll = {"unroll": network.unroll} if hasattr(network, "unroll") else {}
    return {"conv": resolve(network.conv), **unroll}


def bound(network, train: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(conv, norm): `nn.Conv` and `BatchNorm` in the network's dtype, convolution method and replica axis."""
    conv = partial(
        nn.Conv, dtype=network.dtype, conv_general_dilated=partial(conv_general_dilated, method=network.conv)
    )
    norm = partial(BatchNorm, use_running_average=not train, dtype=network.dtype, axis_name=network.axis_name)
    return conv, norm


def scaled(features: int, width: float, min_depth: int = 1) -> int:
    """max(int(features * width), min_depth): slim's rule for its `depth_multiplier`."""
    return max(int(features * width), min_depth)


def wide(x):
    """Return x in float32 at least, in which sums of a map's values keep the digits of each."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class ConvNorm(nn.Module):
    """activation(norm(conv(x))); the convolution has a bias where there is no norm.

    conv, norm: as `bound` gives them, further filled in by the family (norm None for none, activation None for none).
    The parameters are called conv and norm.
    """

    features: int
    kernel: tuple[int, int]
    strides: int = 1
    padding: Padding = "SAME"
    conv: Callable[..., Any] = nn.Conv
    norm: Callable[..., Any] | None = None
    activation: Callable[[jax.Array], jax.Array] | None = nn.relu
    use_bias: bool | None = None

    @nn.compact
    def __call__(self, x):
        use_bias = self.norm is None if self.use_bias is None else self.use_bias
        x = self.conv(self.features, self.kernel, self.strides, padding=self.padding, use_bias=use_bias, name="conv")(x)
        if self.norm is not None:
            x = self.norm(name="norm")(x)
        return x if self.activation is None else self.activation(x)


class Dropout(nn.Module):
    """Each value is kept with probability 1 - rate and then divided by it; the mask hangs on the example's place in the
    batch over all replicas of `axis_name`, so that the number of devices does not change it (key: rng "dropout")."""

    rate: float
    deterministic: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x):
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

    @nn.compact
    def __call__(self, x):
        padding = _pool_padding(x, self.window, self.strides, self.padding, self.ceil)
        return nn.max_pool(x, (self.window,) * 2, (self.strides,) * 2, padding)


class AvgPool(nn.Module):
    """The mean of each window; with `count_padding` (torch, Caffe) padding counts as zeros, else not (slim, Keras)."""

    window: int
    strides: int
    padding: Padding = "VALID"
    ceil: bool = False
    count_padding: bool = True

    @nn.compact
    def __call__(self, x):
        padding = _pool_padding(x, self.window, self.strides, self.padding, self.ceil)
        window, strides = (self.window,) * 2, (self.strides,) * 2
        y = nn.avg_pool(wide(x), window, strides, padding, count_include_pad=self.count_padding)
        return y.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else y  # means of integers are none


class GlobalAvgPool(nn.Module):
    """[n, h, w, c] -> [n, c], the mean over the map."""

    @nn.compact
    def __call__(self, x):
        return x.mean((1, 2))


class AdaptiveAvgPool(nn.Module):
    """[n, h, w, c] -> [n, size, size, c]: window i of l pixels is floor(i l / size) to ceil((i + 1) l / size)."""

    size: int

    @nn.compact
    def __call__(self, x):
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
    def __call__(self, x):
        window = (min(self.window, x.shape[1]), min(self.window, x.shape[2]))
        y = nn.avg_pool(wide(x), window)
        return y.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else y


class LocalResponseNorm(nn.Module):
    """x / (k + alpha * sum of x**2 over `size` neighbouring channels)**beta.

    (Krizhevsky et al. 2012, section 3.3. alpha is not divided by the size, as it is in Caffe and torch.)
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75

    @nn.compact
    def __call__(self, x):
        before = self.size // 2
        window = (1, 1, 1, self.size)
        pads = ((0, 0), (0, 0), (0, 0), (before, self.size - 1 - before))
        y = wide(x)
        total = lax.reduce_window(y * y, np.zeros((), y.dtype), lax.add, window, (1, 1, 1, 1), pads)
        return (y * (self.k + self.alpha * total) ** -self.beta).astype(x.dtype)


def _pool_padding(x, window: int, strides: int, padding: Padding, ceil: bool) -> Any:
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
    def __call__(self, x):
        init: dict[str, Any] = {"kernel_init": self.kernel_init, "bias_init": self.bias_init, "name": "dense"}
        whole = partial(nn.DenseGeneral, self.features, (1, 2, 3), dtype=self.dtype, **init)
        if self.window == 1:
            x = nn.Dense(self.features, dtype=self.dtype, **init)(x)
        elif self.window is None:
            x = whole()(x)
        elif x.shape[1:3] == (self.window, self.window):
            x = whole()(x)[:, None, None]
        else:
            init["kernel_init"] = partial(_as_dense, self.kernel_init)
            x = self.conv(self.features, (self.window, self.window), padding="VALID", **init)(x)
        if self.squeeze and x.ndim == 4 and x.shape[1:3] == (1, 1):
            x = x[:, 0, 0]
        return x if self.activation is None else self.activation(x)


def _as_dense(init: initializers.Initializer, key, shape, dtype):
    """The kernel [h, w, c, o] of a window as the dense layer's, whose fans are h * w * c and o."""
    return init(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)


def classify(network, x, window: int, dense: Callable[..., Any], *, train: bool, drop_inputs: bool = False):
    """The last map [n, h, w, c] -> logits: AlexNet's head and VGG's, as `network.head` says.

    dense: FullyConnected by features and name, with the rest filled in. window: the side of the map at the paper's
    image size, which fc6 sees in the convolutional head. drop_inputs: dropout before fc6 and fc7, not after.
    """

    def dropped(x, layer: int, on: bool = True):
        return Dropout(network.dropout, not train, network.axis_name, name=f"dropout{layer}")(x) if on else x

    activation = ACTIVATIONS[network.activation]
    features = scaled(4096, network.width, network.min_depth)
    if network.head is None:
        return x
    if network.head == "pooled":
        x = GlobalAvgPool(name="global_pool")(x)
    else:
        convolutional = network.head == "convolutional" and network.stem == "imagenet"
        if network.head == "dense" and network.adaptive_pool:
            x = AdaptiveAvgPool(window, name="adaptive_pool")(x)
        x = dropped(x, 5, drop_inputs)
        x = dense(features, window if convolutional else None, activation=activation, name="fc6")(x)
        x = dropped(x, 6)
        x = dense(features, activation=activation, name="fc7")(x)
        if convolutional and network.global_pool:
            x = GlobalAvgPool(name="global_pool")(x)[:, None, None]
    if network.num_classes is None:
        return x
    x = dropped(x, 7, network.head == "pooled" or not drop_inputs)
    return dense(network.num_classes, squeeze=network.spatial_squeeze, name="fc8")(x)


def classify_pooled(network, x, dropout: float, *, train: bool, name: str = "logits"):
    """The last map [n, h, w, c] -> logits: the head of the residual networks, as `network.head` says.

    "pooled": the mean over the map, dropout, a dense layer called `name`; "dense": of the whole map; "convolutional":
    at each position, then the mean, with equal results. Without classes what the dense layer reads; with the field
    `global_pool` off, no mean.
    """

    def pool(x):
        if network.head == "dense":
            return x.reshape(x.shape[0], -1)
        return GlobalAvgPool(name="global_pool")(x) if getattr(network, "global_pool", True) else x

    if network.num_classes is None:
        return pool(x)
    x = x if network.head == "convolutional" else pool(x)
    x = Dropout(dropout, not train, network.axis_name, name="dropout")(x)
    x = nn.Dense(network.num_classes, dtype=network.dtype, name=name)(x)
    return pool(x) if network.head == "convolutional" else x


class BatchNorm(nn.Module):
    """scale * (x - mean) / sqrt(var + epsilon) + bias, over all axes but the last.

    In training the mean and the biased variance of the batch, over all replicas of `axis_name` if it is
    given; else the running averages, kept in `batch_stats` under the names of `flax.linen.BatchNorm`.
    (Ioffe & Szegedy 2015, algorithm 1; the backward pass is the paper's, written as one expression
    because the automatic one takes five times as long on a CPU.) `use_scale=False`: slim's default, no gamma.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    axis_name: str | None = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    use_scale: bool = True

    @nn.compact
    def __call__(self, x):
        c = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (c,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (c,))
        scale = self.param("scale", self.scale_init, (c,)) if self.use_scale else jnp.ones((c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        x = x.astype(self.dtype or x.dtype)
        if self.use_running_average:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            offset = bias - running_mean.value * factor
            return (x * _per_channel(factor, x) + _per_channel(offset, x)).astype(x.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        outputs: Any = _normalise(x, scale, bias, self.epsilon, axis_name)
        y, mean, var = outputs
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y


def _per_channel(v, x):
    return lax.expand_dims(v, range(x.ndim - 1))


def _sum(x, axis_name):
    total = x.sum(axis=tuple(range(x.ndim - 1)))
    return total if axis_name is None else lax.psum(total, axis_name)


def _count(x, axis_name):
    count = x.size // x.shape[-1]
    return count if axis_name is None else count * lax.axis_size(axis_name)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalise(x, scale, bias, epsilon, axis_name):
    """The normalised x, and the batch's mean and variance (no gradient flows through those two)."""
    return _normalise_forward(x, scale, bias, epsilon, axis_name)[0]


def _normalise_forward(x, scale, bias, epsilon, axis_name):
    values = wide(x)
    count = _count(x, axis_name)
    mean = _sum(values, axis_name) / count
    var = jnp.maximum(_sum(values * values, axis_name) / count - mean * mean, 0)
    inv = lax.rsqrt(var + epsilon)
    factor = scale * inv
    y = (values * _per_channel(factor, x) + _per_channel(bias - mean * factor, x)).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, inv)


def _normalise_backward(epsilon, axis_name, residuals, cotangents):
    x, scale, mean, inv = residuals
    g = cotangents[0].astype(mean.dtype)
    xhat = (x.astype(mean.dtype) - _per_channel(mean, x)) * _per_channel(inv, x)
    bias_gradient = _sum(g, None)
    scale_gradient = _sum(g * xhat, None)
    sums = bias_gradient, scale_gradient
    sum_g, sum_g_xhat = sums if axis_name is None else lax.psum(sums, axis_name)
    count = _count(x, axis_name)
    centred = g - _per_channel(sum_g / count, x) - xhat * _per_channel(sum_g_xhat / count, x)
    dx = _per_channel(scale * inv, x) * centred
    return dx.astype(x.dtype), scale_gradient.astype(scale.dtype), bias_gradient.astype(scale.dtype)


_normalise.defvjp(_normalise_forward, _normalise_backward)

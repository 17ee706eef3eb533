"""Normalisation: over the batch, whose gradient is written out, and over neighbouring channels."""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax


def wide(x: jax.Array) -> jax.Array:
    """Return x in float32 at least, in which sums of a map's values keep the digits of each."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class LocalResponseNorm(nn.Module):
    """x / (k + alpha * sum of x**2 over `size` neighbouring channels)**beta.

    (Krizhevsky et al. 2012, section 3.3. alpha is not divided by the size, as it is in Caffe and torch.)
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        before = self.size // 2
        window = (1, 1, 1, self.size)
        pads = ((0, 0), (0, 0), (0, 0), (before, self.size - 1 - before))
        y = wide(x)
        total = lax.reduce_window(y * y, np.zeros((), y.dtype), lax.add, window, (1, 1, 1, 1), pads)
        # XLA's power takes twice the time of these on a CPU.
        return (y * jnp.exp(-self.beta * jnp.log(self.k + self.alpha * total))).astype(x.dtype)


LrnConstants = Literal["paper", "caffe"]


def response_norm(constants: LrnConstants, size: int = 5, *, name: str) -> LocalResponseNorm:
    """Return the layer with the paper's constants, or Caffe's defaults: k=1, and alpha divided by the size."""
    return LocalResponseNorm(size, *((2.0, 1e-4) if constants == "paper" else (1.0, 1e-4 / size)), name=name)


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
    def __call__(self, x: jax.Array) -> jax.Array:
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


def _per_channel(v: jax.Array, x: jax.Array) -> jax.Array:
    return lax.expand_dims(v, range(x.ndim - 1))


def _sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    total = x.sum(axis=tuple(range(x.ndim - 1)))
    return total if axis_name is None else lax.psum(total, axis_name)


def _count(x: jax.Array, axis_name: str | None) -> Any:
    count = x.size // x.shape[-1]
    return count if axis_name is None else count * lax.axis_size(axis_name)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalise(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None) -> Any:
    """The normalised x, and the batch's mean and variance (no gradient flows through those two)."""
    return _normalise_forward(x, scale, bias, epsilon, axis_name)[0]


def _normalise_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[Any, tuple[jax.Array, ...]]:
    values = wide(x)
    count = _count(x, axis_name)
    mean = _sum(values, axis_name) / count
    var = jnp.maximum(_sum(values * values, axis_name) / count - mean * mean, 0)
    inv = lax.rsqrt(var + epsilon)
    factor = scale * inv
    y = (values * _per_channel(factor, x) + _per_channel(bias - mean * factor, x)).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, inv)


def _normalise_backward(
    epsilon: float, axis_name: str | None, residuals: tuple[jax.Array, ...], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
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

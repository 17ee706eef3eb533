"""Max pooling whose gradient XLA runs fast on a CPU.

XLA's gradient of it, select-and-scatter, goes from window to window: on a CPU it takes several times as long as

    at[w]    the place, row by row, of the first largest value in window w, which is the one that XLA chooses
    dx[p] =  sum of g[w] over the windows w that hold p at place at[w]

Places of equal remainders by the stride are summed together, so that all that is read lies side by side. On GPU and TPU
XLA's gradient is taken.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from classicnets.models.conv import ConvMethod, Pads, resolve

# Whose places are numbers of 8 bits.
_LARGEST_WINDOW = 11


def max_pool(x: jax.Array, window: int, stride: int, padding: Any, *, method: ConvMethod = "auto") -> jax.Array:
    """Return the largest value of each window of [n, h, w, c], as `flax.linen.max_pool`, with equal gradients.

    padding: "SAME", "VALID" or pads. method: as of convolutions; the gradient of "auto" on a CPU is reverse-mode only,
    and XLA's for other types than float32 and float64.
    """
    if resolve(method) == "lax" or x.dtype not in (jnp.float32, jnp.float64) or window > _LARGEST_WINDOW:
        return _pool(x, window, stride, padding)
    named = isinstance(padding, str)
    pads = lax.padtype_to_pads(x.shape[1:3], (window,) * 2, (stride,) * 2, padding) if named else padding
    rows, columns = ((int(low), int(high)) for low, high in pads)
    return _max_pool(x, window, stride, (rows, columns))


def _pool(x: jax.Array, window: int, stride: int, padding: Any) -> jax.Array:
    return nn.max_pool(x, (window, window), (stride, stride), padding)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: jax.Array, window: int, stride: int, padding: Pads) -> jax.Array:
    return _pool(x, window, stride, padding)


def _forward(x: jax.Array, window: int, stride: int, padding: Pads) -> tuple[jax.Array, tuple]:
    y = _pool(x, window, stride, padding)
    return y, (_places(x, y.shape[1:3], window, stride, padding), x.shape[1:3])


def _places(x: jax.Array, out: Sequence[int], window: int, stride: int, padding: Pads) -> jax.Array:
    """Return `at`, int8 [n, h', w', c]; as XLA has it too where a window holds a value that is not a number."""
    lows = (padding[0][0], padding[1][0])
    spans = [(n - 1) * stride + 1 for n in out]
    highs = [span + window - 1 - size - low for span, size, low in zip(spans, x.shape[1:3], lows, strict=True)]
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), ((0, 0, 0), (lows[0], highs[0], 0), (lows[1], highs[1], 0), (0, 0, 0)))
    best = jnp.full((len(x), *out, x.shape[3]), -jnp.inf, x.dtype)
    at = jnp.zeros(best.shape, jnp.int8)
    for place in range(window**2):
        i, j = divmod(place, window)
        value = x[:, i : i + spans[0] : stride, j : j + spans[1] : stride]
        larger = ~(best >= value)
        best, at = jnp.where(larger, value, best), jnp.where(larger, jnp.int8(place), at)
    return at


def _backward(window: int, stride: int, padding: Pads, residuals: tuple, g: jax.Array) -> tuple[jax.Array]:
    at, size = residuals
    before = (window - 1) // stride
    # Places p of the padded image, stride * blocks along each axis: all that a window or the image reaches.
    blocks = [
        max(-(-((out - 1) * stride + window) // stride), -(-(low + length) // stride))
        for out, length, (low, _) in zip(g.shape[1:3], size, padding, strict=True)
    ]
    pads = ((0, 0, 0), *((before, n - out, 0) for n, out in zip(blocks, g.shape[1:3], strict=True)), (0, 0, 0))
    at, g = lax.pad(at, jnp.int8(-1), pads), lax.pad(g, jnp.zeros((), g.dtype), pads)
    # Made once; the sums below would each make their own.
    at, g = lax.optimization_barrier((at, g))

    def sums(row: int, column: int) -> jax.Array:
        """Of the places of these remainders."""
        total = jnp.zeros((len(g), *blocks, g.shape[3]), g.dtype)
        for i in range(row, window, stride):
            for j in range(column, window, stride):
                u, v = before - i // stride, before - j // stride
                held = (slice(None), slice(u, u + blocks[0]), slice(v, v + blocks[1]))
                total += jnp.where(at[held] == i * window + j, g[held], jnp.zeros((), g.dtype))
        return total

    of_rows = [jnp.stack([sums(row, column) for column in range(stride)], 3) for row in range(stride)]
    dx = jnp.stack(of_rows, 2).reshape(len(g), blocks[0] * stride, blocks[1] * stride, g.shape[3])
    (top, _), (left, _) = padding
    return (dx[:, top : top + size[0], left : left + size[1]],)


_max_pool.defvjp(_forward, _backward)

"""Convolution whose gradients XLA runs fast on a CPU.

On CPU, XLA's automatic gradient of a convolution is slow, and 20 to 40 times slower inside a loop
(`lax.scan`), because its transposed layouts miss the Eigen kernels (jax issue 12868). Here both
gradients are written as canonical operations:

    input gradient   conv(dilate(g, strides), flip(kernel) with its channel axes swapped)
    filter gradient  conv(x, g), examples in the place of channels, and channels in that of examples; or
                     for each row i of the kernel, sum over chunks of the batch of  g.T @ rows_i(x),
                     rows_i(x) being x's rows from i on, kw columns side by side

and a convolution over no more positions than its kernel has taps is one dense product, which then
costs no more multiply-adds. Of the two filter gradients, over the shapes of the networks here, the first is the faster
at unit strides for the few channels of images and for batches of up to 64. Choices depend on shapes only, never on
cores. On GPU and TPU the automatic gradient is right. The day it has caught up on CPU, this file goes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from classicnets.system.settings import in_reference_execution

ConvMethod = Literal["auto", "lax"]
Strides = tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Up to which the filter gradient is one convolution.
_FEW_CHANNELS, _SMALL_BATCH = 4, 64
# A chunk's row matrix should stay in the cache.
_CHUNK_BYTES = 2**22


def resolve(method: ConvMethod) -> Literal["canonical", "lax"]:
    """Return what `method` means on this backend: "canonical" for "auto" on CPU, else "lax"."""
    if method not in ("auto", "lax"):
        raise ValueError(f"conv must be 'auto' or 'lax', got {method!r}")
    if method == "lax" or in_reference_execution():
        return "lax"
    return "canonical" if jax.default_backend() == "cpu" else "lax"


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    method: ConvMethod = "auto",
) -> jax.Array:
    """`lax.conv_general_dilated` for `flax.linen.Conv(conv_general_dilated=...)`.

    lhs: images [n, h, w, c], rhs: kernel [kh, kw, c // groups, o] -> [n, h', w', o]. The same values and gradients
    as lax's to rounding. Feature groups, dilation, other layouts than NHWC and other types than
    float32 and float64 take lax's own gradient. The canonical gradient is reverse-mode only: for
    `jax.jvp` or Hessian-vector products choose `method="lax"`.
    """
    x, kernel = lhs, rhs
    canonical = (
        resolve(method) == "canonical"
        and x.ndim == 4
        and feature_group_count == batch_group_count == 1
        and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
        and dimension_numbers in (None, _LAYOUT, nhwc_dimension_numbers(x, kernel))
        and x.dtype == kernel.dtype
        and x.dtype in (jnp.float32, jnp.float64)
    )
    if not canonical:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers or _LAYOUT,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )
    strides = (window_strides[0], window_strides[1])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    rows, columns = ((int(low), int(high)) for low, high in padding)
    if x.shape[1] * x.shape[2] <= kernel.shape[0] * kernel.shape[1]:
        return _dense(x, kernel, strides, (rows, columns))
    return _conv(x, kernel, strides, (rows, columns))


def nhwc_dimension_numbers(x: jax.Array, kernel: jax.Array) -> lax.ConvDimensionNumbers:
    """Return the resolved form of NHWC, HWIO -> NHWC, which Flax passes."""
    return lax.conv_dimension_numbers(x.shape, kernel.shape, _LAYOUT)


def _lax_conv(
    x: jax.Array, kernel: jax.Array, strides: Strides, padding: Pads, lhs_dilation: Strides = (1, 1)
) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, lhs_dilation, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Pads) -> jax.Array:
    return _lax_conv(x, kernel, strides, padding)


def _conv_forward(
    x: jax.Array, kernel: jax.Array, strides: Strides, padding: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv(x, kernel, strides, padding), (x, kernel)


def _conv_backward(
    strides: Strides, padding: Pads, residuals: tuple[jax.Array, ...], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    return _input_gradient(g, kernel, x.shape, strides, padding), _filter_gradient(x, g, kernel.shape, strides, padding)


_conv.defvjp(_conv_forward, _conv_backward)


def _input_gradient(
    g: jax.Array, kernel: jax.Array, x_shape: tuple[int, ...], strides: Strides, padding: Pads
) -> jax.Array:
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    # Padded so that the result has x's size: low side k - 1 - low, high side whatever is left.
    pads: list[tuple[int, int]] = []
    for size, out, k, stride, (low, _) in zip(
        x_shape[1:3], g.shape[1:3], kernel.shape[:2], strides, padding, strict=True
    ):
        before = k - 1 - low
        pads.append((before, size + k - 1 - before - ((out - 1) * stride + 1)))
    return _lax_conv(g, flipped, (1, 1), (pads[0], pads[1]), lhs_dilation=strides)


def _filter_gradient(
    x: jax.Array, g: jax.Array, kernel_shape: tuple[int, ...], strides: Strides, padding: Pads
) -> jax.Array:
    kh, kw, c, o = kernel_shape
    n, h, w, _ = g.shape
    if strides == (1, 1) and kh * kw > 1 and (c <= _FEW_CHANNELS or n <= _SMALL_BATCH):
        turned = _lax_conv(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), (1, 1), padding)
        return turned.transpose(1, 2, 0, 3)

    def product(x: jax.Array, g: jax.Array) -> jax.Array:
        x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)))
        columns = [x[:, :, j : j + (w - 1) * strides[1] + 1 : strides[1]] for j in range(kw)]
        rows = jnp.concatenate(columns, axis=-1).swapaxes(0, 1)
        g = g.swapaxes(0, 1).reshape(-1, o).T
        taps = [rows[i : i + (h - 1) * strides[0] + 1 : strides[0]].reshape(-1, kw * c) for i in range(kh)]
        return jnp.stack([g @ tap for tap in taps])

    most = max(1, _CHUNK_BYTES // (x.shape[1] * w * kw * c * x.dtype.itemsize))
    # A divisor, so that the chunks are views of the batch; a prime batch may have none but 1.
    chunk = max(d for d in range(1, n + 1) if n % d == 0 and d <= most)
    chunks = (x.reshape(n // chunk, chunk, *x.shape[1:]), g.reshape(n // chunk, chunk, *g.shape[1:]))
    total = jnp.zeros((kh, o, kw * c), x.dtype)
    total, _ = lax.scan(lambda total, xg: (total + product(*xg), None), total, chunks)
    return total.reshape(kh, o, kw, c).transpose(0, 2, 3, 1)


def _dense(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Pads) -> jax.Array:
    """The convolution as x [n, h*w*c] @ matrix [h*w*c, h'*w'*o]; the matrix is linear in the kernel."""
    n, h, w, c = x.shape
    kh, kw, _, o = kernel.shape
    rows = _taps(h, kh, strides[0], padding[0])
    columns = _taps(w, kw, strides[1], padding[1])
    select = np.einsum("yui,xvj->yxuvij", rows, columns)
    (_, _, out_h, out_w, _, _) = select.shape
    matrix = jnp.asarray(select.reshape(-1, kh * kw), x.dtype) @ kernel.reshape(kh * kw, c * o)
    matrix = matrix.reshape(h * w, out_h * out_w, c, o).swapaxes(1, 2).reshape(h * w * c, out_h * out_w * o)
    return (x.reshape(n, h * w * c) @ matrix).reshape(n, out_h, out_w, o)


def _taps(size: int, k: int, stride: int, padding: tuple[int, int]) -> np.ndarray:
    """One-hot [size, out, k]: which tap joins an input position to an output position."""
    out = (size + sum(padding) - k) // stride + 1
    tap = np.arange(size)[:, None] - np.arange(out)[None, :] * stride + padding[0]
    return tap[..., None] == np.arange(k)

"""Pooling against windows that are counted one by one."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from classicnets.models.layers import AdaptiveAvgPool, AvgPool, MaxPool, SlidingAvgPool


def windows(size: int, window: int, strides: int, padding: int, ceil: bool) -> list[slice]:
    """Return the windows, in padded coordinates.

    With ceil as many as cover all, of which none begins in the padding behind the image (torch's ceil_mode).
    """
    starts = [0]
    while starts[-1] + window < size + 2 * padding and (ceil or starts[-1] + strides + window <= size + 2 * padding):
        starts.append(starts[-1] + strides)
    return [slice(start, start + window) for start in starts if start == 0 or start < size + padding]


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("window, strides, padding", [(3, 2, 0), (3, 2, 1), (2, 2, 0), (2, 2, 1), (3, 1, 1), (5, 3, 2)])
def test_pools_are_of_the_windows_counted_one_by_one(window, strides, padding, ceil):
    height, width = 6, 9
    image = np.random.default_rng(height).normal(size=(1, height, width, 2)).astype(np.float32)
    padded = np.full((1, height + 2 * padding + window, width + 2 * padding + window, 2), np.nan, np.float32)
    padded[:, padding : padding + height, padding : padding + width] = image
    rows, columns = (windows(size, window, strides, padding, ceil) for size in (height, width))
    for pool, reduce in (
        (MaxPool(window, strides, padding, ceil), np.nanmax),
        (AvgPool(window, strides, padding, ceil, count_padding=False), np.nanmean),
    ):
        expected = [[reduce(padded[0, row, column], (0, 1)) for column in columns] for row in rows]
        np.testing.assert_allclose(pool.apply({}, jnp.asarray(image)), [expected], rtol=1e-5, atol=1e-6)


PADDINGS = ["SAME", "VALID", 1, ((0, 1), (1, 0)), ((2, 1), (0, 2))]


@pytest.mark.parametrize("window, strides", [(3, 2), (2, 2), (3, 1), (5, 3), (2, 3), (3, 4)])
def test_gradients_of_largest_values_are_xlas_with_ties_too(window, strides):
    rng = np.random.default_rng(window)
    for padding, ceil in itertools.product(PADDINGS, (False, True)):
        # Few values, as behind a ReLU, so that most windows hold their largest value more than once.
        x = jnp.asarray(np.maximum(rng.integers(-4, 3, (2, 6, 9, 3)), 0), jnp.float32)
        own, xlas = (partial(MaxPool(window, strides, padding, ceil, m).apply, {}) for m in ("auto", "lax"))
        (y, pullback), (theirs, their_pullback) = (jax.vjp(jax.jit(pool), x) for pool in (own, xlas))
        np.testing.assert_array_equal(y, theirs)
        g = jnp.asarray(rng.integers(-9, 9, y.shape), jnp.float32)  # of which sums are exact in any order
        np.testing.assert_array_equal(pullback(g)[0], their_pullback(g)[0])
        assert jax.jvp(xlas, (x,), (x,))[1].shape == y.shape
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(own, (x,), (x,))


@pytest.mark.parametrize(("dtype", "window"), [(jnp.bfloat16, 3), (jnp.float16, 3), (jnp.float32, 12)])
def test_other_types_and_large_windows_have_xlas_gradient(dtype, window):
    rng, side = np.random.default_rng(0), 15 - window
    x, g = jnp.asarray(rng.normal(size=(1, 14, 14, 2)), dtype), jnp.asarray(rng.normal(size=(1, side, side, 2)), dtype)
    own, xlas = (jax.vjp(partial(MaxPool(window, 1, method=m).apply, {}), x)[1](g)[0] for m in ("auto", "lax"))
    np.testing.assert_array_equal(own, xlas)


def test_windows_with_a_value_that_is_no_number_have_xlas_gradient():
    x = jnp.zeros((1, 4, 4, 1)).at[0, (1, 3), (2, 1), 0].set(jnp.nan)
    own, xlas = (jax.grad(lambda x, m=m: MaxPool(2, 2, method=m).apply({}, x).sum())(x) for m in ("auto", "lax"))
    np.testing.assert_array_equal(own, xlas)


def test_averages_of_the_whole_and_of_parts():
    image = jnp.arange(2 * 5 * 3, dtype=jnp.float32).reshape(1, 5, 3, 2)
    np.testing.assert_allclose(SlidingAvgPool(7).apply({}, image), image.mean((1, 2), keepdims=True))
    assert SlidingAvgPool(2).apply({}, image).shape == (1, 4, 2, 2)
    parts = AdaptiveAvgPool(2).apply({}, image)
    for i, rows in enumerate((slice(0, 3), slice(2, 5))):
        for j, columns in enumerate((slice(0, 2), slice(1, 3))):
            np.testing.assert_allclose(parts[0, i, j], image[0, rows, columns].mean((0, 1)), rtol=1e-6)

"""The canonical gradient equals lax's automatic one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from classicnets.models.conv import conv_general_dilated

sizes = st.integers(1, 9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 5),
    hw=st.tuples(sizes, sizes),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(
        st.sampled_from(["SAME", "VALID"]),
        st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
    ),
    groups=st.sampled_from([1, 1, 2]),
    dilation=st.sampled_from([(1, 1), (1, 1), (2, 1)]),
)
def test_gradients_equal_lax_in_float64(n, hw, kernel, strides, padding, groups, dilation):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(n, *hw, 2 * groups)))
        w = jnp.asarray(rng.normal(size=(*kernel, 2, 3 * groups)))

        def conv(f):
            return lambda x, w: f(
                x,
                w,
                strides,
                padding,
                rhs_dilation=dilation,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=groups,
            )

        y, pullback = jax.vjp(conv(lax.conv_general_dilated), x, w)
        if y.size == 0:
            return
        ours, our_pullback = jax.vjp(conv(conv_general_dilated), x, w)
        g = jnp.asarray(rng.normal(size=y.shape))
        for a, b in zip((ours, *our_pullback(g)), (y, *pullback(g)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "batch"), [(20, 65), (40, 72), (40, 24), (2, 8)])
def test_chunked_and_dense_paths_equal_lax(size, batch):
    """Batches that are cut into chunks of 13 and 12, one that is not cut, and the product over few positions."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x, w = jnp.asarray(rng.normal(size=(batch, size, size, 8))), jnp.asarray(rng.normal(size=(3, 3, 8, 4)))

        def loss(f):
            return lambda x, w: jnp.sin(f(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))).sum()

        ours = jax.grad(loss(conv_general_dilated), (0, 1))(x, w)
        theirs = jax.grad(loss(lax.conv_general_dilated), (0, 1))(x, w)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_lax_method_is_forward_differentiable_and_auto_says_no():
    x, w = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))

    def conv(method):
        return lambda w: conv_general_dilated(x, w, (1, 1), "SAME", method=method)

    assert jax.jvp(conv("lax"), (w,), (w,))[1].shape == (2, 8, 8, 4)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(conv("auto"), (w,), (w,))
    with pytest.raises(ValueError, match="'winograd'"):
        conv("winograd")(w)

"""What augmentation does to an image, against the formulas in NumPy; each image by its own key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from classicnets.data import moments
from classicnets.data.augmentation import GREY, along_colour_axes, mirrored, pad_crop_flip, photometric

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3)).astype(np.float32)
KEYS = random.split(random.key(0), 40)


@pytest.mark.parametrize("function", [mirrored, photometric, lambda k, x: along_colour_axes(k, x, jnp.eye(3))])
def test_an_image_does_not_depend_on_its_batch(function):
    whole = np.asarray(function(KEYS, IMAGES))
    np.testing.assert_array_equal(whole[7:9], np.asarray(function(KEYS[7:9], IMAGES[7:9])))
    assert len({image.tobytes() for image in whole}) == 40


def test_mirrored_are_those_that_shifts_mirror():
    ours = np.asarray(mirrored(KEYS, IMAGES))
    np.testing.assert_array_equal(ours, np.asarray(pad_crop_flip(KEYS, IMAGES, 0, flip=True)))
    turned = [(image == mirror[:, ::-1]).all() for image, mirror in zip(IMAGES, ours, strict=True)]
    assert 8 < sum(turned) < 32


def test_colours_move_along_the_axes_by_a_tenth_of_their_deviation():
    axes = np.diag([10.0, 20.0, 40.0]).astype(np.float32)
    keys = random.split(random.key(1), 4000)
    moved = np.asarray(along_colour_axes(keys, np.zeros((4000, 2, 2, 3), np.float32), jnp.asarray(axes)))
    assert (moved == moved[:, :1, :1]).all()
    np.testing.assert_allclose(moved[:, 0, 0].std(0), [1, 2, 4], rtol=0.05)
    np.testing.assert_allclose(moved[:, 0, 0].mean(0), 0, atol=0.25)


def test_colour_axes_are_the_principal_components():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pixels = 128 + rng.normal(size=(50, 30, 30, 3)) * [3, 9, 27] @ basis.T
    images = pixels.clip(0, 255).round().astype(np.uint8)
    axes = moments.colour_axes(images, 40)
    covariance = np.cov(images[:40].reshape(-1, 3).T.astype(np.float64), bias=True)
    np.testing.assert_allclose(axes @ axes.T, covariance, rtol=1e-4, atol=1e-3)
    gram = axes.T @ axes
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=0.05)
    assert (axes[np.abs(axes).argmax(0), range(3)] > 0).all()


def by_hand(image, order, factors):
    for place in order:
        grey = (image * np.array(GREY, np.float32)).sum(-1, keepdims=True)
        other = [np.full_like(grey, grey.mean()), np.zeros_like(grey), grey][place]
        image = (other + factors[place] * (image - other)).clip(0, 255)
    return image


def test_photometric_changes_are_howards_in_any_order():
    changed, orders = np.asarray(photometric(KEYS, IMAGES)), set()
    for key, image, ours in zip(KEYS, IMAGES, changed, strict=True):
        order_key, factor_key = random.split(random.fold_in(key, 2))
        order = tuple(np.asarray(random.permutation(order_key, 3)).tolist())
        factors = np.asarray(random.uniform(factor_key, (3,), minval=0.5, maxval=1.5))
        orders.add(order)
        np.testing.assert_allclose(ours, by_hand(image, order, factors), atol=1e-3)
    assert len(orders) == 6
    assert changed.min() >= 0 and changed.max() <= 255


def test_moments_are_exact_sums():
    image = np.random.default_rng(1).integers(0, 256, (7, 9, 3), np.uint8)
    pixels = image.reshape(-1, 3).astype(int)
    products = [int((pixels[:, i] * pixels[:, j]).sum()) for i in range(3) for j in range(i, 3)]
    assert moments.sums(image).tolist() == [*pixels.sum(0).tolist(), *products]
    bright = np.full((2048, 1025, 3), 255, np.uint8)
    assert moments.sums(bright).tolist() == [2048 * 1025 * 255] * 3 + [2048 * 1025 * 255**2] * 6


def test_jit_gives_the_same_bits():
    np.testing.assert_array_equal(np.asarray(jax.jit(mirrored)(KEYS, IMAGES)), np.asarray(mirrored(KEYS, IMAGES)))

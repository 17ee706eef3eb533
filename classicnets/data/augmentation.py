"""Augmentation inside jit, keyed by example: what an image becomes does not depend on its batch or its device."""

import jax
import jax.numpy as jnp
from jax import lax, random

# Krizhevsky et al. 2012, section 4.1: deviation of the change along each axis, in the axis's own deviations.
PCA_DEVIATION = 0.1
# Howard 2013, section 2: factors of contrast, brightness and saturation, from this less than one to as much more.
PHOTOMETRIC = 0.5
# Luminance of RGB (ITU-R 601-2), as Pillow's conversion to grey has it.
GREY = (0.299, 0.587, 0.114)


def pad_crop_flip(keys: jax.Array, images: jax.Array, padding: int, flip: bool) -> jax.Array:
    """Zero-pad each image by `padding` pixels, crop it at random to its size and mirror half of them.

    keys [n], images [n, h, w, c] -> [n, h, w, c] (He et al. 2016 (CVPR), section 4.2).
    """

    def of_one(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key = random.split(key)
        corner = random.randint(crop_key, (2,), 0, 2 * padding + 1)
        padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        image = lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)
        return _mirrored(flip_key, image) if flip else image

    return jax.vmap(of_one)(keys, images)


def mirrored(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Mirror half of the images [n, h, w, c], those that `pad_crop_flip` would of the same keys [n]."""
    return jax.vmap(lambda key, image: _mirrored(random.split(key)[1], image))(keys, images)


def along_colour_axes(keys: jax.Array, images: jax.Array, axes: jax.Array) -> jax.Array:
    """Add to each pixel of an image `axes @ a`, a ~ N(0, 0.1) drawn once an image: images [n, h, w, 3] in 0 to 255.

    axes [3, 3]: principal components of RGB times their deviations (Krizhevsky et al. 2012, section 4.1).
    """

    def of_one(key: jax.Array, image: jax.Array) -> jax.Array:
        shift = axes @ (PCA_DEVIATION * random.normal(random.fold_in(key, 2), (3,)))
        return image + shift[None, None]

    return jax.vmap(of_one)(keys, images)


def photometric(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Change contrast, brightness and saturation of each image [n, h, w, 3] in 0 to 255, in random order.

    Each mixes the image with another, image' = other + f (image - other), f uniform in [0.5, 1.5], cut to [0, 255]:
    with its mean grey, with black, with its grey version (Howard 2013, section 2, by Pillow's ImageEnhance).
    """

    def of_one(key: jax.Array, image: jax.Array) -> jax.Array:
        order_key, factor_key = random.split(random.fold_in(key, 2))
        order = random.permutation(order_key, 3)
        factors = random.uniform(factor_key, (3,), minval=1 - PHOTOMETRIC, maxval=1 + PHOTOMETRIC)
        weights = jnp.array(GREY)
        for place in range(3):
            grey = (image * weights[None, None]).sum(-1, keepdims=True)
            others = jnp.stack([jnp.broadcast_to(grey.mean(), grey.shape), jnp.zeros_like(grey), grey])
            other = others[order[place]]
            image = (other + factors[order[place]] * (image - other)).clip(0, 255)
        return image

    return jax.vmap(of_one)(keys, images)


def _mirrored(key: jax.Array, image: jax.Array) -> jax.Array:
    return jnp.where(random.bernoulli(key), image[:, ::-1], image)

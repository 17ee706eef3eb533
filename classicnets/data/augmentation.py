"""Augmentation inside jit, keyed by example."""

import jax
import jax.numpy as jnp
from jax import lax, random


def pad_crop_flip(keys: jax.Array, images: jax.Array, padding: int, flip: bool) -> jax.Array:
    """Zero-pad each image by `padding` pixels, crop it at random to its size and mirror half of them.

    keys [n], images [n, h, w, c] -> [n, h, w, c] (He et al. 2016 (CVPR), section 4.2). A key an example, so that
    what an image becomes does not depend on the batch or the device that it is in.
    """

    def of_one(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key = random.split(key)
        corner = random.randint(crop_key, (2,), 0, 2 * padding + 1)
        padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        image = lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)
        return jnp.where(random.bernoulli(flip_key), image[:, ::-1], image) if flip else image

    return jax.vmap(of_one)(keys, images)

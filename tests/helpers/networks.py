"""Networks by their shapes, variables drawn leaf by leaf (compiling `init` is slow), images, outputs of layers."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from classicnets.models import stacks


@cache
def traced(network, *sizes, train=False):
    """(variables, output, {module: shape of its output without the batch, stacked units apart}), by shapes.

    sizes: one side, or height and width, of an image.
    """
    images = jax.ShapeDtypeStruct((1, sizes[0], sizes[-1], 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    output, variables = jax.eval_shape(
        lambda x: network.init_with_output(keys, x, train=train, capture_intermediates=True, mutable=True), images
    )
    calls = {path: made[0] for path, made in flatten_dict(variables.pop("intermediates")).items() if len(path) > 1}
    layers = {"/".join(path[:-1]): out.shape[1:] for path, out in jax.eval_shape(stacks.split, calls).items()}
    return variables, output, layers


def shapes(network, *sizes):
    return traced(network, *sizes)[0]


def endpoints(network, *sizes):
    """{layer directly in the network: shape of its output}."""
    return {name: shape for name, shape in traced(network, *sizes)[2].items() if "/" not in name}


def leaves(tree):
    """{path: shape}."""
    return {path: leaf.shape for path, leaf in flatten_dict(tree).items()}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def drawn(network, *sizes, seed=0):
    """Variables whose kernels are He-scaled, whose biases and means are small and whose scales and variances near 1."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1] in ("scale", "var"):
            values = random.uniform(0.5, 1.5, leaf.shape)
        else:
            fan_in = np.prod(leaf.shape[-4:-1] if leaf.ndim > 3 else leaf.shape[:-1])
            values = random.normal(0, (2 / fan_in) ** 0.5 if path[-1] == "kernel" else 0.1, leaf.shape)
        return jnp.asarray(values, jnp.float32)

    tree = flatten_dict(shapes(network, *sizes))
    return unflatten_dict({path: draw(path, leaf) for path, leaf in tree.items()})


def images_of(n, *sizes, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, sizes[0], sizes[-1], 3)), jnp.float32)


def outputs(network, variables, images, **apply):
    """{module: its output}."""
    options = {"train": False, "capture_intermediates": True, "mutable": ["intermediates", "batch_stats"], **apply}
    _, state = jax.jit(lambda v, x: network.apply(v, x, **options))(variables, images)
    return {"/".join(path[:-1]): made[0] for path, made in flatten_dict(state["intermediates"]).items()}


def apply(network, variables, images):
    return jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, images)


def distance(a, b):
    """|a - b| / |b|."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)

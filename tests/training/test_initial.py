"""The variables that a network begins with."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from classicnets.models import ENTRIES, create, input_size
from classicnets.training.initial import init, initial_variables

# Each distribution that networks draw from, units in a loop, and constants.
SMALL = [
    ("cifar_resnet", {"depth": 20, "width": 0.25, "zero_init": True}, 8),
    ("vgg11", {"width": 1 / 16}, 32),
]
OTHERS = [
    ("cifar_resnet", {"depth": 20, "width": 0.25, "unroll": True}, 8),
    ("resnet50_v2", {"zero_init": True}, 32),
    ("vgg11", {"initializer": "gaussian"}, 32),
    *((name, {}, input_size(name)) for name in ENTRIES),
]


def assert_equal_to_compiled(model, size, seed):
    here = initial_variables(model, seed, (size, size, 3))
    compiled = jax.jit(partial(init, model, (size, size, 3)))(seed)
    assert jax.tree.structure(here) == jax.tree.structure(compiled)
    for (path, ours), (_, theirs) in zip(*map(jax.tree_util.tree_leaves_with_path, (here, compiled)), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), path
        assert ours.tobytes() == np.asarray(theirs).tobytes(), path


@pytest.mark.parametrize(("name", "fields", "size"), SMALL)
def test_they_are_those_of_the_compiled_init_in_every_bit(name, fields, size):
    assert_equal_to_compiled(create(name, **fields), size, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fields", "size"), OTHERS)
def test_they_are_so_for_every_network(name, fields, size):
    assert_equal_to_compiled(create(name, **fields), size, 2**31 - 1)


def test_no_setting_of_the_process_changes_them():
    model = create("cifar_resnet", depth=8, width=0.25)
    here = initial_variables(model, 1, (8, 8, 3))
    with jax.threefry_partitionable(False), jax.enable_x64(True):
        there = initial_variables(model, 1, (8, 8, 3))
    assert [leaf.tobytes() for leaf in jax.tree.leaves(here)] == [leaf.tobytes() for leaf in jax.tree.leaves(there)]


def test_a_module_of_ones_own_begins_as_it_says():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            draw = self.param("draw", lambda key, shape: jnp.sin(jax.random.gumbel(key, shape)), (3, 5))
            return images.mean((1, 2)) @ draw

    own = initial_variables(Own(), 7, (8, 8, 3))["params"]["draw"]
    assert own.tobytes() == jax.jit(partial(init, Own(), (8, 8, 3)))(7)["params"]["draw"].tobytes()

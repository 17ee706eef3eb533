"""torchvision's arrays reach their places, stacks in order; what does not fit is named."""

import re

import jax
import numpy as np
import pytest

from classicnets.complexity.counts import variables_of
from classicnets.models import MODELS, create, input_size
from classicnets.weights import torchvision
from classicnets.weights.torchvision import NAMES, variables

SMALL = {"width": 1 / 16, "num_classes": 3}


def torch_state(name):
    """(our variables at random, the same in torchvision's layout)."""
    model = create(name, **SMALL)
    find, rng, state = torchvision.mapping(name, model), np.random.default_rng(0), {}

    def draw(keys, leaf):
        path, value = tuple(key.key for key in keys), rng.normal(size=leaf.shape).astype(np.float32)
        stack = re.search(r"units_\d+_\d+", "/".join(path))
        for index, one in enumerate(value) if stack else [(None, value)]:
            key, _ = find(path, index)
            assert key not in state
            state[key] = one.transpose(3, 2, 0, 1) if one.ndim == 4 else one.T
        return value

    return jax.tree_util.tree_map_with_path(draw, variables_of(model, (input_size(name),) * 2 + (3,))), state


@pytest.mark.parametrize("name", ["resnet34", "resnet50_v1_5"])
def test_arrays_reach_their_places(name):
    ours, state = torch_state(name)
    state["bn1.num_batches_tracked"] = np.zeros(())
    found = variables(name, state, **SMALL)
    assert jax.tree.structure(found) == jax.tree.structure(ours)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(ours), strict=True):
        np.testing.assert_array_equal(a, b)
    second = state["layer3.2.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["params"]["block3"]["units_2_6"]["conv2"]["kernel"][1], second)


def test_what_does_not_fit_is_named():
    _, state = torch_state("resnet18")
    for change, sentence in (
        ({"fc.weight": None}, "torchvision's weights for resnet18 lack 'fc.weight'"),
        ({"fc.scale": np.zeros(1)}, "resnet18 has no place for 'fc.scale' of torchvision's weights"),
        ({"fc.bias": np.zeros(4)}, r"params/logits/bias must have shape \(3,\), torchvision's has \(4,\)"),
    ):
        changed = {key: value for key, value in {**state, **change}.items() if value is not None}
        with pytest.raises(ValueError, match=sentence):
            variables("resnet18", changed, **SMALL)
    with pytest.raises(ValueError, match="torchvision has no 'resnet50_v1'; the nearest is 'resnet50_v1_5'"):
        variables("resnet50_v1", {})
    assert set(NAMES) <= set(MODELS)

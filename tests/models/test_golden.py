"""Logits and two layers of each network equal torchvision's and Keras's, stored by `make golden`."""

from pathlib import Path

import jax
import numpy as np
import pytest
from golden.recipe import GOLDEN, SPREAD, distance, images, leaf, sample

from classicnets.complexity.counts import variables_of
from classicnets.models import create, input_size
from classicnets.models.features import features

HERE = Path(__file__).parents[1] / "golden"
# One of each family and block is in the suite, the rest of the depths in `make test-slow`.
FEW = [
    *("torchvision_alexnet", "torchvision_googlenet", "torchvision_inception_v3", "keras_InceptionV3"),
    *("torchvision_vgg16", "torchvision_vgg19_bn", "keras_VGG16"),
    *(
        "torchvision_resnet18",
        "torchvision_resnet50",
        "torchvision_wide_resnet50_2",
        "keras_ResNet50",
        "keras_ResNet50V2",
    ),
]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n not in FEW else []) for n in GOLDEN])
def test_activations_equal_the_peers(name):
    golden = GOLDEN[name]
    model, size = create(golden.name, **golden.fields), input_size(golden.name)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, shape: leaf("/".join(key.key for key in path), shape.shape), variables_of(model, (size, size, 3))
    )
    found = jax.jit(lambda v, x: features(model, v, x, golden.layers))(variables, images(size))
    stored = np.load(HERE / f"{name}.npz")
    assert set(stored) == set(found)
    for layer in golden.layers:
        assert distance(sample(found[layer]), stored[layer]) < 1e-5, layer
    first, second = np.split(stored[golden.layers[-1]], 2)
    assert distance(first, second) > SPREAD


def test_each_stored_file_is_compared():
    assert {path.stem for path in HERE.glob("*.npz")} == set(GOLDEN)

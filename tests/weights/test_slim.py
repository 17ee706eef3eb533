"""Checkpoints that tf-slim wrote, small: V1 of Inception v2 and V2 of v3, imported, give its activations.

Written by tf-slim 1.1.0 on TensorFlow 2.21.0, with weights drawn at random (moments and scales too) and the images of
`golden.recipe`; beside each the logits and samples of two endpoints.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
from golden.recipe import images

import classicnets as cn
from classicnets.models.features import features
from classicnets.weights.files import read

pytestmark = pytest.mark.usefixtures("without_expensive_passes")
SLIM = Path(__file__).parents[1] / "golden" / "slim"


@pytest.mark.parametrize(
    ("file", "side", "known", "name"),
    [
        ("inception_v2.ckpt", 64, {"width": 0.1, "min_depth": 4}, "inception_v2_slim"),
        ("inception_v3.ckpt", 299, {"width": 0.06, "min_depth": 4}, "inception_v3"),
    ],
)
def test_activations_are_slims(file, side, known, name):
    net = cn.load_weights(SLIM / file, **known)
    assert (net.weights.name, net.weights.source, list(net.weights.extras)) == (name, "slim", ["global_step"])
    assert net.weights.fields["num_classes"] == 11
    with np.load(SLIM / f"{Path(file).stem}.npz") as held:
        expected = {key.lower(): held[key] for key in held.files}
    layers = tuple(expected)
    found = jax.jit(lambda v, x: features(net.model, v, x, layers))(net.variables, images(side))
    for layer in layers:
        flat = np.asarray(found[layer]).ravel()
        ours = flat if layer == "logits" else flat[:: max(1, flat.size // 512)]
        theirs = expected[layer].ravel()
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max(), layer
    arrays, back = read(SLIM / file), net.weights.arrays()
    assert list(arrays) == list(back)
    assert all(back[key].tobytes() == array.tobytes() for key, array in arrays.items())

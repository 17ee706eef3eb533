"""torchvision's weights as variables of our networks.

state = {key: tensor.numpy() for key, tensor in torchvision.models.resnet50().state_dict().items()}
logits = create("resnet50_v1_5").apply(variables("resnet50_v1_5", state), images, train=False)

torchvision's pretrained googlenet and inception_v3 are built with transform_input=True, which renormalises images
before the first layer, and its pretrained googlenet has no auxiliary heads (auxiliary=False here).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from classicnets.models import ENTRIES, create, input_size, stacks
from classicnets.models.alexnet import AlexNet
from classicnets.models.inception_v1 import InceptionV1
from classicnets.models.inception_v3 import InceptionV3
from classicnets.models.network import Network
from classicnets.models.resnet import ResNet
from classicnets.models.vgg import VGG
from classicnets.system.words import nearest
from classicnets.weights import alexnet, inception_v1, inception_v3, resnet, vgg


def variables(name: str, state: Mapping[str, np.ndarray], **fields: Any) -> dict[str, Any]:
    """Return the variables of `create(name, **fields)` from the arrays of torchvision's state_dict, in their own type.

    Raise ValueError, in one sentence, for a network that torchvision does not have, a key that is missing or left
    over (but for num_batches_tracked), and an array of another shape.
    """
    names = [ours for ours, entry in ENTRIES.items() if entry.torchvision]
    if name not in names:
        raise ValueError(f"torchvision has no {name!r}{nearest(name, names)}")
    model, size = create(name, **fields), input_size(name)
    find = mapping(model)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = flatten_dict(jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images))
    arrays, used = {}, set()
    for path, shape in jax.eval_shape(stacks.split, shapes).items():
        key, convert = find(path)
        if key not in state:
            raise ValueError(f"torchvision's weights for {name} lack {key!r}")
        used.add(key)
        arrays[path] = convert(np.asarray(state[key]))
        if arrays[path].shape != shape.shape:
            raise ValueError(f"{'/'.join(path)} must have shape {shape.shape}, torchvision's has {arrays[path].shape}")
    left = sorted(key for key in state if key not in used and not key.endswith("num_batches_tracked"))
    if left:
        raise ValueError(f"{name} has no place for {left[0]!r} of torchvision's weights")
    return unflatten_dict(stacks.join(arrays, shapes))


def mapping(model: Network) -> Callable[[tuple[str, ...]], tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Return the function from a leaf's path to (key in torchvision's state_dict, its array -> ours)."""
    if isinstance(model, VGG):
        return partial(vgg.torchvision, network=model)
    families = {AlexNet: alexnet, InceptionV1: inception_v1, InceptionV3: inception_v3, ResNet: resnet}
    return families[type(model)].torchvision

"""torchvision's weights as variables of our networks.

state = {key: tensor.numpy() for key, tensor in torchvision.models.resnet50().state_dict().items()}
logits = create("resnet50_v1_5").apply(variables("resnet50_v1_5", state), images, train=False)

torchvision's pretrained googlenet and inception_v3 are built with transform_input=True, which renormalises images
before the first layer, and its pretrained googlenet has no auxiliary heads (auxiliary=False here).
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from classicnets.models import create, input_size
from classicnets.system.words import nearest
from classicnets.weights import alexnet, inception_v1, inception_v3, resnet, vgg

# Our name -> torchvision's.
NAMES = {
    "alexnet_owt": "alexnet",
    **{name: name for d in (11, 13, 16, 19) for name in (f"vgg{d}", f"vgg{d}_bn")},
    "inception_v1_bn": "googlenet",
    "inception_v3": "inception_v3",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    **{f"resnet{d}_v1_5": f"resnet{d}" for d in (50, 101, 152)},
    "wide_resnet50_2": "wide_resnet50_2",
    "wide_resnet101_2": "wide_resnet101_2",
}


def variables(name: str, state: Mapping[str, np.ndarray], **fields) -> dict:
    """The variables of `create(name, **fields)` from the arrays of torchvision's state_dict, in their own type.

    Raises ValueError, in one sentence, for a network that torchvision does not have, a key that is missing or left
    over (but for num_batches_tracked), and an array of another shape.
    """
    if name not in NAMES:
        raise ValueError(f"torchvision has no {name!r}{nearest(name, NAMES)}")
    model, size = create(name, **fields), input_size(name)
    find = mapping(name, model)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    used = set()

    def array(path: tuple[str, ...], index: int | None) -> np.ndarray:
        key, convert = find(path, index)
        if key not in state:
            raise ValueError(f"torchvision's weights for {name} lack {key!r}")
        used.add(key)
        return convert(np.asarray(state[key]))

    def leaf(keys, shape) -> np.ndarray:
        path = tuple(key.key for key in keys)
        stack = re.search(r"units_(\d+)_(\d+)", "/".join(path))
        indices = range(int(stack[2]) - int(stack[1]) + 1) if stack else [None]
        found = [array(path, index) for index in indices]
        made = np.stack(found) if stack else found[0]
        if made.shape != shape.shape:
            raise ValueError(f"{'/'.join(path)} must have shape {shape.shape}, torchvision's has {made.shape}")
        return made

    made = jax.tree_util.tree_map_with_path(leaf, shapes)
    left = sorted(key for key in state if key not in used and not key.endswith("num_batches_tracked"))
    if left:
        raise ValueError(f"{name} has no place for {left[0]!r} of torchvision's weights")
    return made


def mapping(name: str, model) -> Callable[..., tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    families: dict[str, Any] = {
        "alexnet": alexnet.torchvision,
        "vgg": partial(vgg.torchvision, network=model),
        "inception_v1": inception_v1.torchvision,
        "inception_v3": inception_v3.torchvision,
    }
    return next((find for family, find in families.items() if name.startswith(family)), resnet.torchvision)

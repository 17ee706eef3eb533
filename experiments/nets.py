"""The networks that claims are put to the test on."""

from collections.abc import Sequence
from functools import partial

import jax
from flax import linen as nn

from classicnets.claims import Case
from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.models.conv import conv_general_dilated
from classicnets.models.layers import ACTIVATIONS, MaxPool
from classicnets.training import Recipe

# Shortcuts of a CIFAR-style network, and what it is called then.
KINDS = {"none": "plain", "A": "residual"}

# Of the weights' variance times their number: He et al. 2015 for ReLU, LeCun et al. 1998 for the others.
GAIN = {"relu": 2.0, "tanh": 1.0, "sigmoid": 1.0}


class Chain(nn.Module):
    """Convolutions, each with an activation, and a dense layer: images [n, h, w, c] -> logits [n, num_classes].

    layers: features and the kernel's side of each convolution, or "pool", which halves the map by its maxima.
    norm: whether each convolution is normalised by batch before its activation. Weights are normal, of variance
    gain / fan-in, the gain that of the activation.
    """

    layers: Sequence[tuple[int, int] | str]
    activation: str = "relu"
    norm: bool = False
    num_classes: int = 10
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        init = nn.initializers.variance_scaling(GAIN[self.activation], "fan_in", "normal")
        conv = partial(nn.Conv, kernel_init=init, conv_general_dilated=partial(conv_general_dilated, method="auto"))
        x = images
        for layer in self.layers:
            if isinstance(layer, str):
                x = MaxPool(2, 2)(x)
                continue
            features, side = layer
            x = conv(features, (side, side))(x)
            if self.norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name)(x)
            x = ACTIVATIONS[self.activation](x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.lecun_normal())(x.reshape(len(x), -1))


def plain_and_residual(
    data: DataConfig, recipes: Sequence[Recipe], depths: Sequence[int] = (20, 56), width: float = 1.0
) -> list[Case]:
    """Return a plain and a residual net of section 4.2 of He et al. (CVPR 2016) for each recipe and depth.

    Their names are KIND and DEPTH, and where there are several recipes the recipe's number from 1.
    """
    fields = {"width": width, "num_classes": 10}
    numbers = [f"-{i}" for i in range(1, len(recipes) + 1)] if len(recipes) > 1 else [""]
    return [
        Case(f"{kind}{depth}{number}", create("cifar_resnet", depth=depth, shortcut=shortcut, **fields), data, recipe)
        for number, recipe in zip(numbers, recipes, strict=True)
        for depth in depths
        for shortcut, kind in KINDS.items()
    ]

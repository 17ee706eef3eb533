"""The small network that claims about single choices are put to the test on."""

from collections.abc import Sequence
from functools import partial

import jax
from flax import linen as nn

from classicnets.models.conv import conv_general_dilated
from classicnets.models.layers import ACTIVATIONS, MaxPool

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

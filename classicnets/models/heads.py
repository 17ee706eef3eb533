"""From the last map to the logits: the dense layers of AlexNet and VGG, one pooled dense layer, auxiliary heads."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from classicnets.models.layers import ACTIVATIONS, AdaptiveAvgPool, AvgPool, Dropout, GlobalAvgPool
from classicnets.models.network import Network, Stem

Head = Literal["dense", "convolutional", "pooled"]

he_truncated = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class DenseHeadNetwork(Network):
    """A network that ends in fc6, fc7 and fc8: AlexNet, VGG."""

    dropout: float = 0.5
    """Probability, in [0, 1), that training sets an activation of fc6 or fc7 to zero."""
    stem: Stem = "imagenet"
    """First layers: the paper's, or "small" (ours) for images of 28x28 or 32x32 pixels."""
    head: Head | None = "dense"
    """Reading of the last map: "dense" takes it whole, so that parameters depend on the image size; "convolutional"
    has the parameters of "dense" at the paper's size and gives a map of logits for larger images; "pooled" takes its
    mean, then fc8 alone; None, which needs num_classes=None, gives the map."""
    adaptive_pool: bool = False
    """Whether the map is pooled to its side at the paper's image size before fc6 (torchvision)."""
    global_pool: bool = False
    """Whether a convolutional head takes the mean over positions before fc8 (VGG's section 3.2: dense evaluation)."""
    spatial_squeeze: bool = True
    """Whether logits of a 1x1 map are [n, num_classes] and not [n, 1, 1, num_classes] (slim)."""

    def check(self) -> None:
        super().check()
        if self.head is None and self.num_classes is not None:
            raise ValueError(f"num_classes must be None where head is None, got {self.num_classes}")
        if self.global_pool and self.head != "convolutional":
            raise ValueError(f"global_pool must be False unless head is 'convolutional', got True with {self.head!r}")

    def classify(
        self, x: jax.Array, window: int, dense: Callable[..., Any], *, train: bool, drop_inputs: bool = False
    ) -> jax.Array:
        """Return the logits, or what fc8 reads if there are no classes, of the last map [n, h, w, c].

        dense: FullyConnected by features and name, with the rest filled in. window: the side of the map at the paper's
        image size, which fc6 sees in the convolutional head. drop_inputs: dropout before fc6 and fc7, not after.
        """
        dropout = partial(Dropout, self.dropout, not train, self.axis_name)
        activation, features = ACTIVATIONS[self.activation], self.scaled(4096)
        if self.head is None:
            return x
        if self.head == "pooled":
            x = GlobalAvgPool(name="global_pool")(x)
        else:
            convolutional = self.head == "convolutional" and self.stem == "imagenet"
            if self.head == "dense" and self.adaptive_pool:
                x = AdaptiveAvgPool(window, name="adaptive_pool")(x)
            if drop_inputs:
                x = dropout(name="dropout5")(x)
            x = dense(features, window if convolutional else None, activation=activation, name="fc6")(x)
            x = dropout(name="dropout6")(x)
            x = dense(features, activation=activation, name="fc7")(x)
            if convolutional and self.global_pool:
                x = GlobalAvgPool(name="global_pool")(x)[:, None, None]
        if self.num_classes is None:
            return x
        if self.head == "pooled" or not drop_inputs:
            x = dropout(name="dropout7")(x)
        return dense(self.num_classes, squeeze=self.spatial_squeeze, name="fc8")(x)


class PooledHeadNetwork(Network):
    """A network that ends in one dense layer, called logits: Inception, ResNet."""

    head: Head = "pooled"
    """Reading of the last map: "pooled" takes its mean; "dense" takes it whole, so that parameters depend on the image
    size; "convolutional" has the parameters of "pooled" and reads each position or window on its own."""

    def logits(self, x: jax.Array, dropout: float, *, train: bool) -> jax.Array:
        """Return a dense layer's logits of the last axis of x after dropout, or x if there are no classes."""
        if self.num_classes is None:
            return x
        x = Dropout(dropout, not train, self.axis_name, name="dropout")(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="logits")(x)


class GoogLeNetAuxiliary(nn.Module):
    """[n, h, w, c] -> logits [n, num_classes]: average pool, 1x1, dense, dropout, dense (section 5)."""

    features: int
    hidden: int
    num_classes: int
    pool: Literal["5x5/3", "adaptive"]
    dropout: float
    unit: Callable[..., Any]
    activation: Callable[[jax.Array], jax.Array]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = (AvgPool(5, 3, name="pool") if self.pool == "5x5/3" else AdaptiveAvgPool(4, name="pool"))(x)
        x = self.unit(self.features, (1, 1), name="conv")(x)
        x = x.reshape(x.shape[0], -1)
        x = self.activation(nn.Dense(self.hidden, dtype=self.dtype, kernel_init=he_truncated, name="fc")(x))
        x = Dropout(self.dropout, not train, self.axis_name, name="dropout")(x)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="logits")(x)


class InceptionV3Auxiliary(nn.Module):
    """[n, h, w, c] -> logits [n, num_classes]: pool 5x5/3, 1x1, 5x5, mean, dense. (Figure 8.)

    The windows are cut to maps that are smaller.
    """

    num_classes: int
    features: tuple[int, int]
    unit: Callable[..., Any]
    conv: Callable[..., Any]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = AvgPool(min(5, *x.shape[1:3]), 3, name="avgpool_1a_5x5")(x)
        x = self.unit(self.features[0], (1, 1), name="conv2d_1b_1x1")(x)
        kernel = (min(5, x.shape[1]), min(5, x.shape[2]))
        conv = partial(self.conv, kernel_init=nn.initializers.truncated_normal(0.01))
        x = self.unit(self.features[1], kernel, padding="VALID", conv=conv, name="conv2d_2a_5x5")(x)
        init = nn.initializers.truncated_normal(0.001)
        return nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name="logits")(x.mean((1, 2)))

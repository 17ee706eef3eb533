"""The base of all networks, and the entry of a network's name."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.conv import ConvMethod, conv_general_dilated, resolve
from classicnets.models.layers import no_layer
from classicnets.models.norm import BatchNorm
from classicnets.models.papers import Printed
from classicnets.models.remat import rematerialised
from classicnets.system import fields

# What Flax adds to a module's fields.
FLAX_FIELDS = ("parent", "name")

Stem = Literal["imagenet", "small"]


def execution_option(default: Any) -> Any:
    """Return a module field that decides how the network is run, never what it computes: no part of its identity."""
    return field(default=default, metadata={"execution": True})


class ImageSizeError(ValueError):
    """An image has a size of which some layer makes nothing."""


class Network(nn.Module):
    """Images [n, h, w, c] -> logits [n, num_classes], by `forward`, which each family defines.

    Its fields' values have one form each, so that equal networks are equal, and have one hash.
    kind: the word that names the class in a run's identity. It is frozen: it began as the class's import path, and
    stays what it is when the class moves, or every recorded run would have another name.
    """

    kind: ClassVar[str]

    num_classes: int | None = 1000
    """Number of classes; None gives the features that the logits would read."""
    width: float = 1.0
    """Factor of each layer's channels, which become max(int(channels * width), min_depth): slim's depth_multiplier."""
    min_depth: int = 1
    """Fewest channels that `width` leaves a layer."""
    norm: Literal["batch"] | None = None
    """Normalisation after each convolution; with None convolutions have biases."""
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    """Nonlinearity after each convolution and hidden dense layer."""
    dropout: float = 0.0
    """Probability, in [0, 1), that training sets a value before the logits to zero."""
    dtype: Any = jnp.float32
    """Type of the activations: float32, bfloat16, or float64 under jax_enable_x64. Parameters are float32."""
    axis_name: str | None = None
    """Name of the replicas' axis over which a batch is normalised; None for one replica."""
    conv: ConvMethod = execution_option("auto")
    """Gradient of convolutions and max pools: "lax" is XLA's; "auto" on a CPU a faster one, equal to rounding."""
    remat: tuple[str, ...] = execution_option(())
    """Layers, such as 'block*/unit*' or block1, that training computes again in the backward pass in place of keeping
    what lies in them: less memory, more time, equal to rounding."""

    def __post_init__(self):
        fields.conform(self, skip=FLAX_FIELDS)
        if self.dtype is not None:  # which NumPy takes for float64
            with suppress(TypeError, ValueError):  # `check` refuses what names no type
                object.__setattr__(self, "dtype", jnp.dtype(self.dtype))
        super().__post_init__()  # after which Flax allows no field to be set

    def check(self) -> None:
        """Raise ValueError, in one sentence with the field, the value and the choices, for a network that cannot be."""
        fields.check(self, skip=FLAX_FIELDS)
        if not 0 < self.width <= 1000:
            raise ValueError(f"width must be positive and at most 1000, got {self.width}")
        if not 1 <= self.min_depth < 2**16:
            raise ValueError(f"min_depth must be in [1, 65535], got {self.min_depth}")
        if self.num_classes is not None and not 1 <= self.num_classes < 2**24:
            raise ValueError(f"num_classes must be None or in [1, 2**24), got {self.num_classes}")
        if self.dtype not in (jnp.float32, jnp.bfloat16, jnp.float64):
            shown = self.dtype.name if isinstance(self.dtype, jnp.dtype) else repr(self.dtype)
            raise ValueError(f"dtype must be float32, bfloat16 or float64, got {shown}")
        if self.dtype == jnp.float64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError("dtype float64 needs jax_enable_x64, which is off")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    def execution(self) -> dict[str, Any]:
        """Return what the execution options come to on this backend, for the record of a run."""
        return {"conv": resolve(self.conv), **({"remat": list(self.remat)} if self.remat else {})}

    def scaled(self, features: int) -> int:
        """max(int(features * width), min_depth)"""
        return max(int(features * self.width), self.min_depth)

    def conv_norm(self, train: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return `nn.Conv` and `BatchNorm` (or no layer) with all that the fields say of them."""
        method = partial(conv_general_dilated, method=self.conv)
        conv = partial(nn.Conv, dtype=self.dtype, use_bias=self.norm is None, conv_general_dilated=method)
        norm = partial(BatchNorm, use_running_average=not train, dtype=self.dtype, axis_name=self.axis_name)
        return conv, norm if self.norm else no_layer

    def __call__(self, images: jax.Array, *, train: bool) -> Any:
        """Return the logits of images [n, h, w, c], or in training (logits, auxiliary logits, ...) of some networks.

        Raise ValueError, in one sentence, for a bad field, and for images of another layout or that are too small.
        """
        self.check()
        check_layout(images)
        try:
            with nn.intercept_methods(_refuse_nothing):
                if not self.remat:
                    return self.forward(images, train=train)
                differentiated = train and not self.is_initializing()
                return rematerialised(lambda: self.forward(images, train=train), self.remat, differentiated)
        except ImageSizeError:
            height, width, colours = images.shape[1:]
            alone: Any = self.clone(parent=None, name=None)
            smallest = smallest_image(alone, colours, train, self.is_initializing())
            if min(height, width) >= smallest:
                raise
            sizes = f"{smallest}x{smallest} pixels, got {height}x{width}"
            raise ValueError(f"images must be at least {sizes}") from None

    def forward(self, images: jax.Array, *, train: bool) -> Any:
        """Return the output of the layers: each family's `nn.compact` method."""
        raise NotImplementedError


@cache
def smallest_image(network: Network, colours: int = 3, train: bool = False, initializing: bool = True) -> int:
    """Return the least height and width, in pixels, of the images that `network` takes; nothing is computed.

    train: with the auxiliary heads, which have sizes of their own, as does `initializing`.
    """
    network = network.clone(axis_name=None)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}

    def run(images: jax.Array) -> Any:
        if initializing:
            return network.init(keys, images, train=train, method="forward")
        return network.apply({}, images, train=train, rngs=keys, mutable=True, method="forward")

    def fits(side: int) -> bool:
        try:
            with nn.intercept_methods(_refuse_nothing):
                jax.eval_shape(run, jax.ShapeDtypeStruct((2, side, side, colours), jnp.float32))
        except ImageSizeError:
            return False
        return True

    small, large = 0, 1  # the first is too small, the second, a power of two until one fits, will not be
    while not fits(large):
        small, large = large, 2 * large
    while large - small > 1:
        middle = (small + large) // 2
        small, large = (small, middle) if fits(middle) else (middle, large)
    return large


def _refuse_nothing(call: Callable[..., Any], arguments: tuple, keywords: dict, context: Any) -> Any:
    """Run a module's method; raise ImageSizeError if its output has no positions."""
    output = call(*arguments, **keywords)
    if context.method_name == "__call__" and isinstance(output, jax.Array) and 0 in output.shape[1:]:
        raise ImageSizeError(f"{'/'.join(context.module.path)} has the shape {list(output.shape)}")
    return output


def check_layout(images: jax.Array) -> None:
    """Raise ValueError if images are not [n, h, w, c], or are plainly [n, c, h, w]."""
    if images.ndim != 4:
        raise ValueError(f"images must be [n, h, w, c], got {images.ndim} axes")
    _, height, width, channels = images.shape
    # A map of so few rows can be real (1x1x512, 3x3x64), but then it has no more columns.
    if height in (1, 3, 4) and min(width, channels) > 4 and (width == channels or height == 3):
        raise ValueError(f"images must be [n, h, w, c], got {list(images.shape)}; move the channels last")


@dataclass(frozen=True)
class Entry:
    """All that is said of a network's name, in one place.

    network, fields: its class, and the fields that the name fixes. source: where it comes from. parameters, macs: the
    counts (multiply-adds) with num_classes as it is, for an image of `size` pixels a side, the paper's. note: which
    other network it could be taken for. printed: what its paper prints. torchvision: its name there.
    """

    network: type[Network]
    fields: Mapping[str, Any]
    source: str
    parameters: int
    macs: int
    size: int = 224
    note: str = ""
    printed: tuple[Printed, ...] = ()
    torchvision: str = ""

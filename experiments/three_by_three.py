"""Three 3x3 convolutions see what one 7x7 sees, with 27 of its 49 weights.

Receptive fields are counted from kernels and strides, and measured: how many rows and columns of an image have a
gradient of one output that is not zero. Weights are those of convolutions between equally many channels, in units of
channels squared. And VGG's five networks: stage by stage the side halves, and the channels double until they are 512.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from classicnets.claims import main
from classicnets.claims.exact import Stated, counts, exact
from classicnets.complexity.counts import describe

PAPER = "Simonyan & Zisserman 2015"
SIDE, CHANNELS = 31, 8
NETS = ("vgg11", "vgg13", "vgg16_c", "vgg16", "vgg19")


class Series(nn.Module):
    """Convolutions one after the other, without biases, of as many channels as the images."""

    kernels: Sequence[tuple[int, int]]

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        for kernel in self.kernels:
            images = nn.Conv(images.shape[-1], kernel, use_bias=False)(images)
        return images


def weights(*kernels: tuple[int, int]) -> float:
    """Return the weights of convolutions in series, over the square of their channels."""
    return describe(Series(kernels), (SIDE, SIDE, CHANNELS))["parameters"] / CHANNELS**2


def field(*kernels: tuple[int, int]) -> int:
    """Return the rows that an output of convolutions in series sees, as counted."""
    return describe(Series(kernels), (SIDE, SIDE, CHANNELS))["layers"][-1]["receptive_field"]


def measured_field(*kernels: tuple[int, int]) -> int:
    """Return the side of the square of pixels that move the middle output of convolutions with random weights."""
    net, images = Series(kernels), jax.random.normal(jax.random.key(0), (1, SIDE, SIDE, CHANNELS))
    variables = net.init(jax.random.key(1), images, train=False)

    def middle(images: jax.Array) -> jax.Array:
        return jnp.sum(jnp.asarray(net.apply(variables, images, train=False))[0, SIDE // 2, SIDE // 2])

    moves = (jax.grad(middle)(images) != 0).any((0, 3))
    return int(jnp.minimum(moves.any(1).sum(), moves.any(0).sum()))


def stages(name: str) -> list[tuple[int, int]]:
    """Return (side, channels) at the end of each stage of convolutions."""
    of_stage = {layer[:5]: found["output"] for layer, found in counts(name)["layers"].items() if layer[:4] == "conv"}
    return [(side, channels) for side, _, channels in of_stage.values()]


def steps_as_stated() -> int:
    """Return how many of the steps between stages halve the side, and double the channels or leave them at 512."""
    return sum(
        (side, channels) == (before[0] / 2, min(2 * before[1], 512))
        for net in NETS
        for before, (side, channels) in zip(stages(net), stages(net)[1:], strict=False)
    )


THREE, SEVEN = ((3, 3),) * 3, (7, 7)
STACKS = f"{PAPER}, section 2.3"
claim = exact(
    name="three_by_three",
    sentence="three 3x3 convolutions see what one 7x7 sees, which has 81 % more weights",
    source="Simonyan & Zisserman, ICLR 2015, sections 2.1 and 2.3",
    stated=[
        Stated("weights of three 3x3 (channels squared)", "= 27", STACKS, lambda: weights(*THREE)),
        Stated("weights of one 7x7 (channels squared)", "= 49", STACKS, lambda: weights(SEVEN)),
        Stated("more weights in one 7x7 (%)", "= 81", STACKS, lambda: 100 * (weights(SEVEN) / weights(*THREE) - 1)),
        Stated("side seen by two 3x3, counted", "= 5", STACKS, lambda: field(*THREE[:2])),
        Stated("side seen by three 3x3, counted", "= 7", STACKS, lambda: field(*THREE)),
        Stated("side seen by two 3x3, measured", "= 5", STACKS, lambda: measured_field(*THREE[:2])),
        Stated("side seen by three 3x3, measured", "= 7", STACKS, lambda: measured_field(*THREE)),
        Stated("side seen by one 7x7, measured", "= 7", STACKS, lambda: measured_field(SEVEN)),
        Stated(
            "steps between stages of A to E that halve and double", "= 20", f"{PAPER}, section 2.1", steps_as_stated
        ),
    ],
)

if __name__ == "__main__":
    main(claim, __file__)

"""Residual networks (He et al., "Deep residual learning for image recognition", CVPR 2016).

`CifarResNet` is section 4.2: a 3x3 stem, three stages of n blocks with 16, 32 and 64 channels, the
map halved where the channels double, global average pooling, one dense layer: 6n+2 weighted layers.
A plain network is the same class and the same block with `shortcut="none"`.

Departures: batch norm's running averages (momentum 0.9) keep the biased variance, as Flax does;
the paper does not say how it computes its test-time statistics.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax.numpy as jnp
from flax import linen as nn

from classicnets.models.conv import ConvMethod, conv_general_dilated, resolve
from classicnets.models.layers import BatchNorm, execution_option

Shortcut = Literal["none", "A", "B", "C"]

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Block(nn.Module):
    """relu(shortcut(x) + f(x)), f = 3x3, BN, ReLU, 3x3, BN; a plain block is relu(f(x)).

    [n, h, w, c] -> [n, ceil(h / strides), ceil(w / strides), features]. Figure 2 (left) and section 3.3:
    "A" is the identity, subsampled and padded with zero channels where the shape changes;
    "B" a 1x1 projection where the shape changes; "C" a projection everywhere.
    """

    features: int
    strides: int
    shortcut: Shortcut
    conv: Callable[..., Any]
    norm: Callable[..., Any]

    @nn.compact
    def __call__(self, x):
        y = self.conv(self.features, (3, 3), self.strides, name="conv1")(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), name="conv2")(y)
        y = self.norm(name="norm2")(y)
        if self.shortcut != "none":
            y = y + self.shortcut_branch(x)
        return nn.relu(y)

    def shortcut_branch(self, x):
        same_shape = self.strides == 1 and x.shape[-1] == self.features
        if self.shortcut == "C" or (self.shortcut == "B" and not same_shape):
            x = self.conv(self.features, (1, 1), self.strides, padding=0, name="projection")(x)
            return self.norm(name="projection_norm")(x)
        if same_shape:
            return x
        x = x[:, :: self.strides, :: self.strides]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1])))


class CifarResNet(nn.Module):
    """[n, h, w, c] -> logits [n, num_classes], or features [n, 64 * width] if num_classes is None.

    Section 4.2, with 6n+2 = depth. The blocks of a stage that have equal shapes are one scan over stacked
    parameters; `unroll` compiles them without a loop, over the same parameters.
    """

    depth: int = 20
    shortcut: Shortcut = "A"
    width: float = 1.0
    min_depth: int = 1
    num_classes: int | None = 10
    dtype: Any = jnp.float32
    axis_name: str | None = None
    conv: ConvMethod = execution_option("auto")
    unroll: bool = execution_option(False)

    def check(self):
        """Raises ValueError, in one sentence, for a network that the paper does not define."""
        if self.depth < 8 or self.depth % 6 != 2:
            below = max(8, (self.depth - 2) // 6 * 6 + 2)
            nearest = below if self.depth - below <= 3 else below + 6
            raise ValueError(f"depth must be 6n+2 with n >= 1, got {self.depth}; the nearest is {nearest}")
        if self.shortcut not in get_args(Shortcut):
            raise ValueError(f"shortcut must be one of {', '.join(get_args(Shortcut))}, got {self.shortcut!r}")
        if not self.width > 0 or (int(16 * self.width) < 1 and self.min_depth < 1):
            raise ValueError(f"width must leave at least one of 16 channels, got {self.width}")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1 or None, got {self.num_classes}")
        if jnp.dtype(self.dtype) not in (jnp.float32, jnp.bfloat16, jnp.float64):
            raise ValueError(f"dtype must be float32, bfloat16 or float64, got {jnp.dtype(self.dtype).name}")
        if self.conv not in get_args(ConvMethod):
            raise ValueError(f"conv must be auto or lax, got {self.conv!r}")

    def execution(self) -> dict:
        """What the execution options come to on this backend, for the record of a run."""
        return {"conv": resolve(self.conv), "unroll": self.unroll}

    @nn.compact
    def __call__(self, images, *, train: bool):
        self.check()
        conv = partial(
            nn.Conv,
            padding=1,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            conv_general_dilated=partial(conv_general_dilated, method=self.conv),
        )
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        block = partial(Block, shortcut=self.shortcut, conv=conv, norm=norm)
        blocks = (self.depth - 2) // 6
        widths = [max(int(features * self.width), self.min_depth) for features in (16, 32, 64)]

        x = conv(widths[0], (3, 3), name="stem")(images)
        x = nn.relu(norm(name="stem_norm")(x))
        x = self.stage(block(widths[0], 1, name="stage1"), blocks, x)
        x = block(widths[1], 2, name="stage2_first")(x)
        x = self.stage(block(widths[1], 1, name="stage2"), blocks - 1, x)
        x = block(widths[2], 2, name="stage3_first")(x)
        x = self.stage(block(widths[2], 1, name="stage3"), blocks - 1, x)
        x = x.mean(axis=(1, 2))
        if self.num_classes is None:
            return x
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x)

    def stage(self, block: Block, length: int, x):
        if length == 0:
            return x
        scan = nn.scan(
            lambda block, x, _: (block(x), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=length,
            unroll=length if self.unroll else 1,
        )
        return scan(block, x, None)[0]

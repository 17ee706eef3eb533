"""Stock Flax: `nn.Conv`, `nn.BatchNorm` and Optax in the manner of the Flax examples, with XLA's gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from experiments.peers import Work, serve

# Stages of units, of two 3x3 convolutions or a bottleneck, and the features of the first.
RESNETS = {"resnet18": ((2, 2, 2, 2), False, 64), "resnet50_v1_5": ((3, 4, 6, 3), True, 64)}
VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class ResNet(nn.Module):
    """He et al. 2016: of ImageNet's form, or with `small` of CIFAR's, whose shortcuts have no parameters."""

    stages: tuple[int, ...]
    bottleneck: bool
    features: int
    small: bool
    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        conv = partial(nn.Conv, use_bias=False)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = conv(self.features, (3, 3) if self.small else (7, 7), 1 if self.small else 2)(x)
        x = nn.relu(norm()(x))
        if not self.small:
            x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, count in enumerate(self.stages):
            for i in range(count):
                features, stride = self.features * 2**stage, 2 if stage > 0 and i == 0 else 1
                y = x
                if self.bottleneck:
                    y = nn.relu(norm()(conv(features, (1, 1))(y)))
                    y = nn.relu(norm()(conv(features, (3, 3), stride)(y)))
                    y = norm()(conv(4 * features, (1, 1))(y))
                else:
                    y = nn.relu(norm()(conv(features, (3, 3), stride)(y)))
                    y = norm()(conv(features, (3, 3))(y))
                if self.small and stride > 1:
                    x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, features // 2)))
                elif x.shape != y.shape:
                    x = norm()(conv(y.shape[-1], (1, 1), stride)(x))
                x = nn.relu(x + y)
        return nn.Dense(self.classes)(x.mean((1, 2)))


class Stack(nn.Module):
    """AlexNet of one tower, or VGG-11: convolutions and pools, and three dense layers with dropout."""

    vgg: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        if self.vgg:
            for width in VGG11:
                x = nn.max_pool(x, (2, 2), (2, 2)) if width == "M" else nn.relu(nn.Conv(int(width), (3, 3))(x))
        else:
            pool = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
            x = pool(nn.relu(nn.Conv(64, (11, 11), 4, padding=2)(x)))
            x = pool(nn.relu(nn.Conv(192, (5, 5))(x)))
            for width in (384, 256, 256):
                x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = pool(x)
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(4096)(x)))
        return nn.Dense(1000)(x)


def network(work: Work) -> nn.Module:
    """Return the peer of a network of ours; raise KeyError where there is none."""
    if work.network == "cifar_resnet":
        return ResNet(((work.fields["depth"] - 2) // 6,) * 3, False, 16, True, 10)
    if work.network in ("alexnet_owt", "vgg11"):
        return Stack(work.network == "vgg11")
    return ResNet(*RESNETS[work.network], small=False, classes=1000)


def make(work: Work) -> tuple[Callable[[], None], int]:
    """Return one step of SGD with momentum on fixed random images, its state donated."""
    model = network(work)
    images = jax.random.normal(jax.random.key(0), (work.batch, work.side, work.side, 3))
    labels = jnp.arange(work.batch) % (10 if work.network == "cifar_resnet" else 1000)
    tx = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.01, 0.9))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(1), images[:1])
    params, stats = variables["params"], variables.get("batch_stats", {})
    held: list[Any] = [(params, stats, tx.init(params), jax.random.key(2))]

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: Any) -> Any:
        params, stats, opt_state, key = state
        key, dropout = jax.random.split(key)

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": stats}
            logits, new = model.apply(variables, images, mutable=["batch_stats"], rngs={"dropout": dropout})
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, new.get("batch_stats", {})

        gradients, stats = jax.grad(loss_of, has_aux=True)(params)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), stats, opt_state, key

    def step() -> None:
        held[0] = jax.block_until_ready(train_step(held[0]))

    return step, 1


if __name__ == "__main__":
    serve(make)

"""Keras on JAX, compiled, by `train_on_batch`: its own ResNet-50 and Inception v3, and plain stacks of its layers."""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from experiments.peers import Work, serve
from experiments.peers.stock_flax import VGG11

os.environ["KERAS_BACKEND"] = "jax"
keras: Any = import_module("keras")
layers = keras.layers


def stack(vgg: bool) -> Any:
    """Return VGG-11, or AlexNet of one tower."""
    convolution = dict(padding="same", activation="relu")
    if vgg:
        body = [layers.MaxPooling2D(2, 2) if w == "M" else layers.Conv2D(w, 3, **convolution) for w in VGG11]
    else:
        first = [layers.ZeroPadding2D(2), layers.Conv2D(64, 11, 4, activation="relu"), layers.MaxPooling2D(3, 2)]
        second = [layers.Conv2D(192, 5, **convolution), layers.MaxPooling2D(3, 2)]
        rest = [layers.Conv2D(width, 3, **convolution) for width in (384, 256, 256)]
        body = [*first, *second, *rest, layers.MaxPooling2D(3, 2)]
    dense = [layer for _ in range(2) for layer in (layers.Dense(4096, activation="relu"), layers.Dropout(0.5))]
    return keras.Sequential([*body, layers.Flatten(), *dense, layers.Dense(1000)])


def make(work: Work) -> tuple[Callable[[], None], int]:
    """Return one step of SGD with momentum on fixed random images; raise KeyError where there is no peer."""
    applications = {"resnet50_v1_5": keras.applications.ResNet50, "inception_v3": keras.applications.InceptionV3}
    if work.network in ("alexnet_owt", "vgg11"):
        model = stack(work.network == "vgg11")
    else:
        model = applications[work.network](weights=None, classifier_activation=None)
    model.compile(
        keras.optimizers.SGD(0.01, 0.9, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = np.random.default_rng(0).standard_normal((work.batch, work.side, work.side, 3), np.float32)
    labels = np.arange(work.batch) % 1000

    def step() -> None:
        float(np.asarray(model.train_on_batch(images, labels)))

    return step, 1


if __name__ == "__main__":
    serve(make)

"""A network with its weights and with what its images go through: logits, predictions, features.

`load_weights(path)` gives one of anyone's weights, `load(run)` one of a run; both do the same things.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from classicnets.data import crops
from classicnets.models import create
from classicnets.models.features import features
from classicnets.system.settings import pinned
from classicnets.training import Trained
from classicnets.weights import stored
from classicnets.weights.stored import Weights

# Images that are computed at once.
BATCH = 32
Images = np.ndarray | Sequence[np.ndarray]


class Guess(NamedTuple):
    """A class that a network sees in an image, and its probability."""

    number: int
    name: str
    probability: float


class Net(ABC):
    """What is done with a trained network. model: the Flax module; variables: its parameters and batch statistics."""

    model: Any
    variables: Mapping[str, Any]

    @abstractmethod
    def inputs(self, images: Images) -> np.ndarray:
        """Return what is given to the compiled programs, [n, h, w, c], of uint8 images [h, w, 3] of any sizes."""

    @abstractmethod
    def seen(self, inputs: jax.Array) -> jax.Array:
        """Return the network's images, float [n, h, w, c], of `inputs`, inside a compiled program."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str] | None:
        """Names of the classes, None where they are not known."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what is told beside every result: network, weights, preprocessing."""

    def scores(self, images: Images) -> np.ndarray:
        """Return float logits [n, classes] of images of any sizes, in evaluation mode."""
        return self._computed(self._logits, images)

    def predict(self, images: Images, top: int = 5) -> list[list[Guess]]:
        """Return for each image its `top` likeliest classes, the likeliest first, of equal ones that of less number.

        images: uint8, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes. Raise ValueError for other images.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        logits = self.scores(images).astype(np.float64)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = powers / powers.sum(1, keepdims=True)
        names = self.names
        order = np.argsort(-probabilities, 1, kind="stable")[:, :top]
        return [
            [Guess(k, names[k] if names else str(k), float(p[k])) for k in map(int, best)]
            for p, best in zip(probabilities, order, strict=True)
        ]

    def features(self, images: Images, layers: Sequence[str]) -> dict[str, np.ndarray]:
        """Return {layer: its output [n, ...]} of layers by name, as `describe` lists them ("block3", "fc7").

        Raise ValueError with the nearest name for a layer that is not there.
        """
        return self._computed(self._outputs(tuple(layers)), images)

    @pinned()
    def _computed(self, function: Callable, images: Images) -> Any:
        """Return a program's outputs of all images, computed in batches of one size, the last filled up."""
        if isinstance(images, np.ndarray) and images.ndim == 3:
            images = images[None]
        count, parts = len(images), []
        if not count:
            raise ValueError("there are no images")
        batch = min(BATCH, 1 << (count - 1).bit_length())  # few sizes, so that few programs are compiled
        for start in range(0, count, batch):
            inputs = self.inputs(images[start : start + batch])
            rest = batch - len(inputs)
            filled = np.concatenate([inputs, np.repeat(inputs[-1:], rest, 0)]) if rest else inputs
            outputs = function(self.variables, jnp.asarray(filled))
            parts.append(jax.tree.map(np.asarray, outputs))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays)[:count], *parts)

    @cached_property
    def _logits(self) -> Callable:
        return jax.jit(lambda variables, inputs: self.model.apply(variables, self.seen(inputs), train=False))

    @cached_property
    def _outputs(self) -> Callable:
        """The program of layers by name, compiled once for the same ones."""

        def of_layers(layers: tuple[str, ...]) -> Callable:
            return jax.jit(lambda variables, inputs: features(self.model, variables, self.seen(inputs), layers))

        return cache(of_layers)


class WeightsNet(Net):
    """The network of anyone's weights, and what their images go through. weights: where they come from."""

    def __init__(self, weights: Weights):
        self.weights = weights
        self.model = create(weights.name, **weights.fields)
        self.variables = weights.variables

    def inputs(self, images: Images) -> np.ndarray:
        return self.weights.preprocessing(images)

    def seen(self, inputs: jax.Array) -> jax.Array:
        return inputs

    @property
    def names(self) -> Sequence[str] | None:
        return self.weights.classes

    def facts(self) -> dict[str, Any]:
        return self.weights.facts()

    def logits(self, images: Images) -> np.ndarray:
        """Return float logits [n, classes] of uint8 images, [n, h, w, 3] or a sequence of [h, w, 3] of any sizes."""
        return self.scores(images)


class RunNet(Trained, Net):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The network of a run at its newest good checkpoint. `logits` takes images as its data set has them."""

    def inputs(self, images: Images) -> np.ndarray:
        """Return uint8 images as the run's data set has them: its size, and grey where it is grey.

        Those of a set of one size are resized whole, of others their central square is seen, as in evaluation.
        """
        dataset = self.trainer.dataset
        (height, width, channels), view = dataset.shape, dataset.view
        made = []
        for image in images:
            image = np.asarray(image)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
                raise ValueError(f"an image must be uint8, height x width x 3, got {image.dtype}, {list(image.shape)}")
            if image.shape[2] != channels:
                image = _grey(image) if channels == 1 else np.repeat(image, 3, 2)
            tall, wide = image.shape[:2]
            box = crops.Box(0, 0, wide, tall)
            if view.crop != "shift":
                box = crops.central_box(tall, wide, view.side, view.test_side)
            made.append(crops.resized(image, box, height, width))
        return np.stack(made)

    def seen(self, inputs: jax.Array) -> jax.Array:
        return self.trainer.prepared(inputs)

    @property
    def names(self) -> Sequence[str]:
        return self.trainer.dataset.class_names

    def facts(self) -> dict[str, Any]:
        return {"run": self.run.id, "step": self.step, "dataset": self.config.data.dataset}


def _grey(image: np.ndarray) -> np.ndarray:
    """Return [h, w, 1] uint8 by ITU-R 601-2's luma, as Pillow has it."""
    red, green, blue = (image[..., i].astype(np.uint32) for i in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]


def load_weights(path: str | Path, source: str | None = None, model: str | None = None, **fields: Any) -> WeightsNet:
    """Return the network of a file of weights: one that `save_weights` wrote, or another library's.

    `load_weights("vgg16-397923af.pth").predict(images)` takes uint8 images of any sizes and does to them what belongs
    to the weights. source, model, fields: which library's they are and which network, needed where names and shapes do
    not tell. Raise ValueError, in one sentence, for a file that cannot be read or told.
    """
    return WeightsNet(stored.load(Path(path).expanduser(), source, model, **fields))


def save_weights(net: WeightsNet, path: str | Path) -> None:
    """Write the weights of a network, with source, preprocessing and classes, to one .safetensors file."""
    stored.store(net.weights, Path(path).expanduser())

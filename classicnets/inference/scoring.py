"""The errors of anyone's weights on a data set of ours."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from classicnets.data import DataConfig, Dataset, load
from classicnets.inference.net import WeightsNet
from classicnets.weights.classes import BACKGROUND, imagenet
from classicnets.weights.preprocessing import with_pixel_mean

BATCH = 512
Progress = Callable[[int, int], None]


def with_means(net: WeightsNet, name: str) -> WeightsNet:
    """Return the network with the mean of each pixel of the set's images that are not for test, where it needs one."""
    before = net.weights.preprocessing
    if not before.needs_pixel_mean or before.pixel_mean is not None:
        return net
    dataset = load(DataConfig(dataset=name))
    start, _ = dataset.span("test")
    if not isinstance(dataset.images, np.ndarray) or dataset.images.shape[1:] != (before.side, before.side, 3):
        raise ValueError(
            f"these weights take off each pixel's mean of {before.side}x{before.side} images, not {name}'s"
        )
    return WeightsNet(replace(net.weights, preprocessing=with_pixel_mean(before, dataset.images[:start], name)))


def score(net: WeightsNet, name: str, split: str = "test", progress: Progress = lambda done, total: None) -> dict:
    """Return {"images", "loss", "error", "top5_error"} of a split of the data set `name`, errors in percent.

    Images go through what belongs to the weights. Raise ValueError where the classes are not the data set's, or the
    split has no images.
    """
    dataset = load(DataConfig(dataset=name))
    start, size = dataset.span(split)
    if not size:
        raise ValueError(f"{name} has no images in {split}")
    net = with_means(net, name)
    columns = columns_of(net, dataset, name)
    loss = wrong = wrong_of_five = 0.0
    for at in range(start, start + size, BATCH):
        labels = dataset.labels[at : min(at + BATCH, start + size)]
        logits = net.scores(_images(dataset, range(at, at + len(labels))))[:, columns].astype(np.float64)
        own = np.take_along_axis(logits, labels[:, None].astype(np.int64), 1)
        top = logits.max(1, keepdims=True)
        loss += float((np.log(np.exp(logits - top).sum(1)) + top[:, 0] - own[:, 0]).sum())
        # Of equal logits the first class wins, as argmax has it.
        earlier = (logits == own) & (np.arange(logits.shape[1])[None] < labels[:, None])
        rank = ((logits > own) | earlier).sum(1)
        wrong += int((rank > 0).sum())
        wrong_of_five += int((rank > 4).sum())
        progress(at - start + len(labels), size)
    found = {"images": size, "loss": loss / size, "error": 100 * wrong / size}
    return found | ({"top5_error": 100 * wrong_of_five / size} if dataset.classes > 5 else {})


def columns_of(net: WeightsNet, dataset: Dataset, name: str) -> list[int]:
    """Return for each class of a data set the number of its logit, without slim's background.

    By their names where both have names, in whatever order; ImageNet's by WordNet's ids too. By number where the
    weights' classes have none. Raise ValueError for another number of classes, or other ones.
    """
    count, names = net.model.num_classes, list(net.names or ())
    first = int(bool(names) and names[0] == BACKGROUND)
    if count is None or count - first != dataset.classes:
        raise ValueError(f"{name} has {dataset.classes} classes, these weights have {count}")
    own, words = names[first:], list(dataset.class_names)
    if not own or words in (own, [wnid for wnid, _ in imagenet()]):
        return list(range(first, count))
    if len(set(own)) < len(own) or set(own) != set(words):
        alien = next((word for word in words if word not in own), words[0])
        raise ValueError(f"{name} has the class {alien!r}, these weights know {', '.join(own[:3])} and others")
    return [first + own.index(word) for word in words]


def _images(dataset: Dataset, examples: range) -> Any:
    """Return examples as colour images uint8 [h, w, 3]: an array where they have one size."""
    if isinstance(dataset.images, np.ndarray):
        images = dataset.images[examples.start : examples.stop]
        return np.repeat(images, 3, 3) if images.shape[3] == 1 else images
    return list(_coloured(dataset, examples))


def _coloured(dataset: Dataset, examples: range) -> Iterator[np.ndarray]:
    for example in examples:
        image = dataset.images[example]
        yield np.repeat(image, 3, 2) if image.shape[2] == 1 else image

"""Names of the classes that the logits of trained networks stand for."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BACKGROUND = "background"


@cache
def imagenet() -> tuple[tuple[str, str], ...]:
    """Return (WordNet's id, name) of the 1,000 classes of ILSVRC 2012, in their order: that of the ids."""
    return tuple(_rows(files("classicnets.weights").joinpath("imagenet.txt").read_text()))


def _rows(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            wnid, _, name = line.partition(" ")
            yield wnid, name


def classes_of(network: str, count: int | None) -> tuple[str, ...] | None:
    """Return the names of ImageNet's classes, also with slim's background, or CIFAR-10's of a CIFAR network."""
    if count == 1000:
        return tuple(name for _, name in imagenet())
    if count == 1001:
        return (BACKGROUND, *(name for _, name in imagenet()))
    return CIFAR10 if count == 10 and network.startswith("cifar") else None

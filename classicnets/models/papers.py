"""The papers, and the numbers that they print of their networks."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

ALEXNET = "Krizhevsky et al. 2012"
VGG = "Simonyan & Zisserman 2015"
GOOGLENET = "Szegedy et al. 2015"
BN_INCEPTION = "Ioffe & Szegedy 2015"
INCEPTION_V3 = "Szegedy et al. 2016"
RESNET = "He et al. 2016 (CVPR)"
PREACT = "He et al. 2016 (ECCV)"
WIDE = "Zagoruyko & Komodakis 2016"


class Printed(NamedTuple):
    """A number that a paper prints of a network.

    text: as printed, its number in units of `scale`. layers: those it is about, () for the whole network. fields: what
    the network has that its name alone does not say. why: what explains a count that is another.
    """

    quantity: Literal["parameters", "macs", "outputs"]
    text: str
    scale: float
    where: str
    layers: tuple[str, ...] = ()
    fields: Mapping[str, Any] = {}
    why: str = ""

    def judge(self, counted: float) -> Literal["rounded", "cut", "differs"]:
        """Return how the printed number came of the count: rounded or cut to its digits, or not at all."""
        number = re.search(r"[\d.,]+", self.text)
        assert number
        digits = number[0].replace(",", "")
        shows = len(digits.replace(".", "").lstrip("0"))
        last = self.scale * 10.0 ** -len(digits.partition(".")[2])
        beyond = counted - float(digits) * self.scale
        if abs(beyond) <= last / 2:
            return "rounded"
        return "cut" if 0 < beyond < last and shows > 1 else "differs"


def millions(text: str, where: str, **more: Any) -> Printed:
    """Return parameters as printed, in millions."""
    return Printed("parameters", f"{text} M", 1e6, where, **more)


def billions(text: str, where: str, **more: Any) -> Printed:
    """Return multiply-adds as printed, in units of 10^9."""
    return Printed("macs", f"{text} G", 1e9, where, **more)

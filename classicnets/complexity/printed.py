"""Where each network comes from, what its paper prints of it, and which other network it could be taken for."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Quantity = Literal["parameters", "macs", "outputs"]

ALEXNET = "Krizhevsky et al. 2012"
VGG = "Simonyan & Zisserman 2015"
GOOGLENET = "Szegedy et al. 2015"
BN_INCEPTION = "Ioffe & Szegedy 2015"
INCEPTION_V3 = "Szegedy et al. 2016"
RESNET = "He et al. 2016 (CVPR)"
PREACT = "He et al. 2016 (ECCV)"
WIDE = "Zagoruyko & Komodakis 2016"

SOURCES: dict[str, str] = {
    "alexnet": ALEXNET,
    "alexnet_owt": "torchvision alexnet, after Krizhevsky 2014",
    "alexnet_slim": "tf-slim alexnet_v2, after Krizhevsky 2014",
    "alexnet_tf_benchmark": "TensorFlow models, alexnet_benchmark.py",
    "vgg11": f"{VGG}, A",
    "vgg11_lrn": f"{VGG}, A-LRN",
    "vgg13": f"{VGG}, B",
    "vgg16_c": f"{VGG}, C",
    "vgg16": f"{VGG}, D",
    "vgg19": f"{VGG}, E",
    **{f"vgg{depth}_bn": f"torchvision vgg{depth}_bn" for depth in (11, 13, 16, 19)},
    "inception_v1": GOOGLENET,
    "inception_v1_bn": "torchvision googlenet",
    "inception_v2": BN_INCEPTION,
    "inception_v2_slim": "tf-slim inception_v2",
    "inception_v3": f"{INCEPTION_V3}, as released",
    "cifar_resnet": f"{RESNET}, section 4.2",
    **{f"resnet{depth}": f"{RESNET}, Table 1" for depth in (18, 34, 50, 101, 152)},
    "resnet200": f"{PREACT}, section 4: the original unit",
    **{f"plain{depth}": f"{RESNET}, Table 2" for depth in (18, 34)},
    **{f"resnet{depth}_v1_5": f"torchvision resnet{depth}" for depth in (50, 101, 152)},
    **{f"wide_resnet{depth}_2": f"torchvision wide_resnet{depth}_2" for depth in (50, 101)},
    **{f"resnet{depth}_v1_slim": f"tf-slim resnet_v1_{depth}" for depth in (50, 101, 152, 200)},
    **{f"resnet{depth}_v2": f"timm resnetv2_{depth}, after {PREACT}" for depth in (50, 101, 152)},
    "resnet200_v2": f"{PREACT}, section 4",
    **{f"resnet{depth}_v2_slim": f"tf-slim resnet_v2_{depth}" for depth in (50, 101, 152, 200)},
    "cifar_resnet_v2": f"{PREACT}, Table 3",
    "cifar_wide_resnet": f"{WIDE}, Table 1",
}

STRIDES = (
    "a network with strides in a stage's first 1x1 convolution (the paper's, Caffe's and Keras's), one with strides in "
    "its 3x3 (_v1_5, torchvision's {0}) and one with strides in a stage's last unit (_v1_slim) have equal parameters "
    "and compute different things"
)
STRIDES_200 = (
    "a network with strides in a stage's first unit and one with strides in its last (_v1_slim) have equal parameters "
    "and compute different things"
)
# Networks whose equal counts hide that they differ.
NOTES: dict[str, str] = {
    **{name: "A and A-LRN have equal parameters: LRN has none" for name in ("vgg11", "vgg11_lrn")},
    **{
        f"resnet{depth}{form}": STRIDES.format(f"resnet{depth}")
        for depth in (50, 101, 152)
        for form in ("", "_v1_5", "_v1_slim")
    },
    **{f"resnet200{form}": STRIDES_200 for form in ("", "_v1_slim")},
    **{
        f"resnet{depth}_v2_slim": f"Keras's ResNet{depth}V2 has equal parameters and pads its first pool with zeros "
        "(pool_padding='zeros'), which is not the same where no ReLU came before"
        for depth in (50, 101, 152)
    },
    "inception_v1_bn": "tf-slim's, with norm scales, has equal parameters and pads otherwise (padding='same')",
    "inception_v3": "tf-slim's and Keras's, with norm scales, have equal parameters, but their average pools do not "
    "count padding (count_padding=False)",
    "cifar_resnet": "a plain network and shortcuts A have equal parameters: an identity has none",
}


class Printed(NamedTuple):
    """A number that a paper prints of a network.

    text: as printed, its number in units of `scale`. layers: those it is about, () for the whole network. fields: what
    the network has that its name alone does not say. why: what explains a count that is another.
    """

    quantity: Quantity
    text: str
    scale: float
    where: str
    layers: tuple[str, ...] = ()
    fields: Mapping[str, Any] = {}
    why: str = ""

    def judge(self, counted: float) -> Literal["rounded", "cut", "differs"]:
        """How the printed number came of the count: rounded or cut to its digits, or not at all."""
        number = re.search(r"[\d.,]+", self.text)
        assert number
        digits = number[0].replace(",", "")
        shows = len(digits.replace(".", "").lstrip("0"))
        last = self.scale * 10.0 ** -len(digits.partition(".")[2])
        beyond = counted - float(digits) * self.scale
        if abs(beyond) <= last / 2:
            return "rounded"
        return "cut" if 0 < beyond < last and shows > 1 else "differs"


def millions(text: str, where: str, **more) -> Printed:
    return Printed("parameters", f"{text} M", 1e6, where, **more)


def billions(text: str, where: str, **more) -> Printed:
    return Printed("macs", f"{text} G", 1e9, where, **more)


_TABLE_1 = f"{GOOGLENET}, Table 1"
_OWN_FILTERS = "the filters of this row of the table give what is counted"
_SEPARABLE = "this is a separable convolution: 8 filters of 7x7 a colour, then 1x1"
# Table 1 of GoogLeNet, row by row: our layers, parameters in units of 1024, operations in millions.
_GOOGLENET_ROWS = (
    (("conv2d_1a_7x7",), "2.7K", "34M", _SEPARABLE),
    (("conv2d_2b_1x1", "conv2d_2c_3x3"), "112K", "360M", ""),
    (("mixed_3b",), "159K", "128M", ""),
    (("mixed_3c",), "380K", "304M", ""),
    (("mixed_4b",), "364K", "73M", _OWN_FILTERS),
    (("mixed_4c",), "437K", "88M", _OWN_FILTERS),
    (("mixed_4d",), "463K", "100M", _OWN_FILTERS),
    (("mixed_4e",), "580K", "119M", _OWN_FILTERS),
    (("mixed_4f",), "840K", "170M", _OWN_FILTERS),
    (("mixed_5b",), "1072K", "54M", _OWN_FILTERS),
    (("mixed_5c",), "1388K", "71M", _OWN_FILTERS),
    (("logits",), "1000K", "1M", ""),
)
_FIGURE_2 = f"{ALEXNET}, Figure 2"
_WIDE_MILLIONS = ((40, 1, "0.6"), (40, 2, "2.2"), (40, 4, "8.9"), (40, 8, "35.7"), (28, 10, "36.5"), (28, 12, "52.5"))
_WIDE_MILLIONS += ((22, 8, "17.2"), (22, 10, "26.8"), (16, 8, "11.0"), (16, 10, "17.1"))

PRINTED: dict[str, tuple[Printed, ...]] = {
    "alexnet": (
        millions("60", f"{ALEXNET}, abstract"),
        Printed(
            "outputs",
            "650,000",
            1,
            f"{ALEXNET}, abstract",
            ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"),
            why="the maps of its Figure 2 and the dense layers add up to what is counted",
        ),
        Printed(
            "outputs",
            "253,440",
            1,
            _FIGURE_2,
            ("conv1",),
            why="48 maps of 55x55 on each GPU are 290,400, as Figure 2 draws",
        ),
        Printed("outputs", "186,624", 1, _FIGURE_2, ("conv2",)),
        Printed("outputs", "64,896", 1, _FIGURE_2, ("conv3",)),
        Printed("outputs", "64,896", 1, _FIGURE_2, ("conv4",)),
        Printed("outputs", "43,264", 1, _FIGURE_2, ("conv5",)),
        Printed("outputs", "4096", 1, _FIGURE_2, ("fc6",)),
        Printed("outputs", "4096", 1, _FIGURE_2, ("fc7",)),
        Printed("outputs", "1000", 1, _FIGURE_2, ("fc8",)),
    ),
    "vgg11": (millions("133", f"{VGG}, Table 2"),),
    "vgg11_lrn": (millions("133", f"{VGG}, Table 2"),),
    "vgg13": (millions("133", f"{VGG}, Table 2"),),
    "vgg16_c": (millions("134", f"{VGG}, Table 2"),),
    "vgg16": (
        millions("138", f"{VGG}, Table 2"),
        billions("15.3", f"{RESNET}, section 4.1", why="this is without the dense layers"),
    ),
    "vgg19": (millions("144", f"{VGG}, Table 2"), billions("19.6", f"{RESNET}, section 4.1")),
    "inception_v1": (
        billions("1.5", f"{GOOGLENET}, section 1"),
        *(Printed("parameters", text, 1024, _TABLE_1, layers, why=why) for layers, text, _, why in _GOOGLENET_ROWS),
        *(Printed("macs", text, 1e6, _TABLE_1, layers, why=why) for layers, _, text, why in _GOOGLENET_ROWS),
    ),
    "inception_v2": (
        millions("13.6", f"{BN_INCEPTION}, section 4.2", why="the network of its Figure 5 has what is counted"),
        billions("2.0", f"{INCEPTION_V3}, Table 3"),
    ),
    "inception_v3": (
        billions("5", f"{INCEPTION_V3}, abstract", why="this is what is counted at 299x299"),
        billions("4.8", f"{INCEPTION_V3}, Table 3", why="this is what is counted at 299x299"),
        millions("25", f"{INCEPTION_V3}, abstract (under)", why="without the auxiliary head there are 23.8 M"),
    ),
    "cifar_resnet": tuple(
        millions(text, f"{RESNET}, Table 6", fields={"depth": depth})
        for depth, text in ((20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7"), (1202, "19.4"))
    ),
    "resnet18": (billions("1.8", f"{RESNET}, Table 1"),),
    "resnet34": (billions("3.6", f"{RESNET}, Table 1"),),
    "resnet50": (billions("3.8", f"{RESNET}, Table 1"),),
    "resnet101": (billions("7.6", f"{RESNET}, Table 1"),),
    "resnet152": (billions("11.3", f"{RESNET}, Table 1"),),
    "plain18": (billions("1.8", f"{RESNET}, Table 1"),),
    "plain34": (billions("3.6", f"{RESNET}, Figure 3"),),
    "cifar_resnet_v2": (
        millions("1.7", f"{PREACT}, Table 4", fields={"depth": 164, "block": "bottleneck"}),
        millions(
            "10.2",
            f"{PREACT}, Table 4",
            fields={"depth": 1001, "block": "bottleneck"},
            why="the layers that the paper describes add up to what is counted",
        ),
    ),
    "cifar_wide_resnet": tuple(
        millions(text, f"{WIDE}, Table 4", fields={"depth": depth, "widen": widen})
        for depth, widen, text in _WIDE_MILLIONS
    ),
}


def compared(name: str, fields: Mapping[str, Any], defaults: Mapping[str, Any], found: Mapping) -> Iterator[dict]:
    """Each number printed of the network `name` with `fields`, beside the count in `found`, from `describe`.

    Yields {"quantity", "layers", "printed", "where", "counted", "verdict", "why"}; nothing for a network that differs
    from the printed one in a field.
    """
    for printed in PRINTED.get(name, ()):
        if {**defaults, **printed.fields} != {**defaults, **fields}:
            continue
        layers = [
            layer
            for layer in found["layers"]
            if any(layer["name"] == one or layer["name"].startswith(f"{one}/") for one in printed.layers)
        ]
        if printed.quantity == "outputs":
            counted = sum(math.prod(layer["output"]) for layer in layers)
        else:
            counted = sum(layer[printed.quantity] for layer in layers) if printed.layers else found[printed.quantity]
        verdict = printed.judge(counted)
        yield {
            "quantity": printed.quantity,
            "layers": list(printed.layers),
            "printed": printed.text,
            "where": printed.where,
            "counted": counted,
            "verdict": verdict,
            "why": printed.why if verdict == "differs" else "",
        }

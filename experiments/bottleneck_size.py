"""ResNet-50 costs what ResNet-34 costs, and ResNet-152 less than VGG-16.

The paper's "FLOPs" are multiply-adds, with the strides of the bottlenecks in their first 1x1 convolutions. Its 15.3 G
for VGG-16 are the convolutions alone, its 19.6 G for VGG-19 are all layers.
"""

from functools import partial

from classicnets.claims import main
from classicnets.claims.exact import Stated, counts, exact

PAPER = "He et al. 2016 (CVPR)"
TABLE_1, DEEPER = f"{PAPER}, Table 1", f"{PAPER}, section 4.1"


def macs(name: str) -> float:
    """Return a network's multiply-adds, in 10^9."""
    return counts(name)["macs"] / 1e9


def of_convolutions(name: str) -> float:
    """Return the multiply-adds of a network's convolutions, in 10^9."""
    return sum(layer["macs"] for layer in counts(name)["layers"].values() if layer["type"] == "Conv") / 1e9


def over(name: str, other: str) -> float:
    """Return a network's multiply-adds over another's."""
    return macs(name) / macs(other)


claim = exact(
    name="bottleneck_size",
    sentence="ResNet-50 costs what ResNet-34 costs, and ResNet-152 less than VGG-16",
    source="He et al., CVPR 2016, section 4.1 and Table 1",
    stated=[
        Stated("ResNet-34 (G)", "= 3.6", TABLE_1, partial(macs, "resnet34")),
        Stated("ResNet-50 (G)", "= 3.8", TABLE_1, partial(macs, "resnet50")),
        Stated("ResNet-101 (G)", "= 7.6", TABLE_1, partial(macs, "resnet101")),
        Stated("ResNet-152 (G)", "= 11.3", TABLE_1, partial(macs, "resnet152")),
        Stated("VGG-16, convolutions (G)", "= 15.3", DEEPER, partial(of_convolutions, "vgg16")),
        Stated("VGG-19 (G)", "= 19.6", DEEPER, partial(macs, "vgg19")),
        Stated("ResNet-50 over ResNet-34", "<= 1.06", "3.8 over 3.6, Table 1", partial(over, "resnet50", "resnet34")),
        Stated("ResNet-152 over VGG-16", "< 1", DEEPER, partial(over, "resnet152", "vgg16")),
    ],
)

if __name__ == "__main__":
    main(claim, __file__)

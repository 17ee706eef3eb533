"""AlexNet has 60 million parameters in 650,000 neurons, and its convolutions have few of the parameters.

The 2012 network at 227x227, the size at which its convolutions have the maps of the paper's Figure 2, with its two
towers. A neuron is an output of a layer with parameters. The paper's introduction says that each convolution contains
no more than 1 % of the parameters.
"""

from classicnets.claims import main
from classicnets.claims.exact import Stated, counts, exact

PAPER = "Krizhevsky et al. 2012"
SZE = "Sze et al. 2017 (Proceedings of the IEEE), Table 2"
OWT = "Krizhevsky 2014 (One weird trick), Some observations"
CONVOLUTIONS = [f"conv{i}/conv" for i in range(1, 6)]
DENSE = ["fc6/dense", "fc7/dense", "fc8/dense"]


def of(quantity: str, layers: list[str]) -> list[float]:
    """Return "parameters", "macs" (of a dense layer, its weights without biases) or "neurons" of each of the layers."""
    found = [counts("alexnet")["layers"][name] for name in layers]
    return [one["activation_bytes"] / 4 if quantity == "neurons" else one[quantity] for one in found]


def share(quantity: str, layers: list[str]) -> float:
    """Return the percentage of the network's parameters or multiply-adds that the layers have."""
    return 100 * sum(of(quantity, layers)) / counts("alexnet")[quantity]


claim = exact(
    name="alexnet_size",
    sentence="AlexNet has 60 M parameters and 650,000 neurons, and no convolution more than 1 % of the parameters",
    source="Krizhevsky et al., NIPS 2012, abstract and section 1",
    stated=[
        Stated("parameters (M)", "= 60", f"{PAPER}, abstract", lambda: counts("alexnet")["parameters"] / 1e6),
        Stated(
            "neurons (thousands)", "= 650", f"{PAPER}, abstract", lambda: sum(of("neurons", CONVOLUTIONS + DENSE)) / 1e3
        ),
        Stated(
            "largest share of a convolution in the parameters (%)",
            "<= 1",
            f"{PAPER}, section 1",
            lambda: max(share("parameters", [layer]) for layer in CONVOLUTIONS),
        ),
        Stated("multiply-adds (M)", "= 724", SZE, lambda: counts("alexnet")["macs"] / 1e6),
        Stated("multiply-adds of the convolutions (M)", "= 666", SZE, lambda: sum(of("macs", CONVOLUTIONS)) / 1e6),
        Stated("weights of the dense layers (M)", "= 58.6", SZE, lambda: sum(of("macs", DENSE)) / 1e6),
        Stated(
            "share of the convolutions in the multiply-adds (%)",
            ">= 90",
            OWT,
            lambda: share("macs", CONVOLUTIONS),
        ),
        Stated("share of the dense layers in the parameters (%)", ">= 95", OWT, lambda: share("parameters", DENSE)),
    ],
    note="Of the convolutions conv3, which sees both towers, has 1.45 % of the parameters and conv4 1.09 %; the others "
    "have less than 1 %. 60 M and 650 thousand are both less than what is counted, by 1.6 and 1.4 %: cut to two digits "
    "that is 60 M, and 65 times ten thousand.",
)

if __name__ == "__main__":
    main(claim, __file__)

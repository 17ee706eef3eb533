"""GoogLeNet has 5 million parameters, a twelfth of AlexNet's, and takes 1.5 billion multiply-adds.

Counted without the two auxiliary heads, which nothing needs after training. The cost of 1x1 reduction is counted in the
nine modules as they stand: the same filters of 3x3 and 5x5 would see all channels of the module's input, and the pool's
branch would have no projection, as in the paper's Figure 2(a).
"""

import math

from classicnets.claims import main
from classicnets.claims.exact import Stated, counts, exact

PAPER = "Szegedy et al. 2015"
FOLLOWED = "Szegedy et al. 2016, section 1"
MODULES = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")


def parameters() -> float:
    """Return the parameters of what is used after training."""
    net = counts("inception_v1")
    return sum(layer["parameters"] for name, layer in net["layers"].items() if not name.startswith("aux"))


def macs(module: str, reduced: bool) -> float:
    """Return the multiply-adds of a module as it stands, or without its 1x1 reductions and projection."""
    layers = counts("inception_v1")["layers"]
    if reduced:
        return sum(layer["macs"] for name, layer in layers.items() if name.startswith(f"mixed_{module}/"))
    channels = layers[f"mixed_{module}/pool"]["output"][-1]
    kernels = {"1x1": 1, "3x3": 9, "5x5": 25}
    return sum(
        channels * taps * math.prod(layers[f"mixed_{module}/{branch}/conv"]["output"])
        for branch, taps in kernels.items()
    )


def saved() -> list[float]:
    """Return how many times as many multiply-adds each module would take without reduction."""
    return [macs(module, reduced=False) / macs(module, reduced=True) for module in MODULES]


claim = exact(
    name="inception_size",
    sentence="GoogLeNet has 5 M parameters, a twelfth of AlexNet's, and takes 1.5 G multiply-adds",
    source="Szegedy et al., CVPR 2015, section 1, and CVPR 2016, section 1",
    stated=[
        Stated("parameters (M)", "= 5", FOLLOWED, lambda: parameters() / 1e6),
        Stated(
            "parameters, rows of Table 1 added up (1024)", "= 6798", f"{PAPER}, Table 1", lambda: parameters() / 1024
        ),
        Stated(
            "AlexNet's parameters over these",
            "= 12",
            f"{PAPER}, section 1",
            lambda: counts("alexnet")["parameters"] / parameters(),
        ),
        Stated("multiply-adds (G)", "= 1.5", f"{PAPER}, section 1", lambda: counts("inception_v1")["macs"] / 1e9),
        Stated("least factor of a module without 1x1 reduction", ">= 2", "this project", lambda: min(saved())),
        Stated("greatest factor of a module without 1x1 reduction", "<= 6", "this project", lambda: max(saved())),
    ],
    note="The filters of the paper's Table 1 give 7.0 M parameters, a ninth of AlexNet's. Of 5 M, or a twelfth, no "
    "counting of them is known; Table 1's own rows of parameters, whose K is 1024, add up to 6.96 M. Its 1.5 G of "
    "multiply-adds are a budget, which 1.58 G is when cut.",
)

if __name__ == "__main__":
    main(claim, __file__)

"""Shortcuts of every kind cure a deep plain network, and how they change shape matters little.

One network of 56 layers on 8x8 digits without shortcuts, with those of options A, B and C, and with average pooling
before the 1x1 convolution of B, as tutorials of later networks have it. All have the recipe of `degradation`, chosen
for its residual nets of option A.
"""

from collections.abc import Sequence

import numpy as np

from classicnets.claims import Case, Claim, Preset, Row, by_seed, main
from classicnets.claims.criteria import EverySeed
from classicnets.data import DataConfig
from classicnets.models import create
from classicnets.training import Recipe
from experiments.degradation import DIGITS, WARM

KINDS = ("none", "A", "B", "C", "pool")


def cases(data: DataConfig, recipe: Recipe, depth: int = 56, width: float = 1.0) -> list[Case]:
    """Return the network with shortcuts of each kind."""
    return [
        Case(kind, create("cifar_resnet", depth=depth, width=width, num_classes=10, shortcut=kind), data, recipe)
        for kind in KINDS
    ]


def differences(rows: Sequence[Row]) -> dict:
    """What shortcuts of a kind take off the training error, in points; span: between the best and the worst of them."""
    errors = {kind: by_seed(rows, "train_error", shortcut=kind) for kind in KINDS}
    of_kinds = [errors[kind] for kind in KINDS[1:]]
    off = {f"off by {kind}": errors["none"] - errors[kind] for kind in KINDS[1:]}
    return {**off, "span": np.max(of_kinds, 0) - np.min(of_kinds, 0)}


claim = Claim(
    name="shortcuts",
    sentence="shortcuts of every kind cure a deep plain network, and differ little from each other",
    source="He et al., CVPR 2016, section 4.1 and Table 3",
    stated="3.5 to 4.4 points of top-1 error for 34 layers on ImageNet",
    statistic=differences,
    criterion=EverySeed({**{f"off by {kind}": "> 5" for kind in KINDS[1:]}, "span": "< 5"}),
    presets={
        "quick": Preset(
            cases(DIGITS, WARM),
            every=20,
            sentence="shortcuts of every kind cure a plain network of 56 layers, and differ by less than the cure is "
            "worth",
            note="8x8 digits, 20 epochs. In a pilot on seed 100 the training error was 33 % without shortcuts, 2.1 % "
            "with C and 0 % with A, B and pooling. Differences as small as those of the paper's Table 3, 0.8 points "
            "from A to C, cannot be told apart at this size.",
        ),
    },
)

if __name__ == "__main__":
    main(claim, __file__)

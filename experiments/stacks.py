"""Stacked 3x3 convolutions have a lower test error than one large convolution that sees the same.

Three stages of convolutions without batch norm, as VGG has them, each a stack of three 3x3 or one 7x7, and of two 3x3
or one 5x5, of equally many channels. Each network has the rate of the least validation error in a pilot, out of a grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from classicnets.claims import Case, Claim, Preset, Row, by_seed, main, pilot
from classicnets.claims.criteria import EverySeed
from classicnets.data import DataConfig
from classicnets.report.figures import training_curves
from classicnets.training import Recipe
from experiments.nets import Chain

STAGES = {"3x3x3": (3, 3, 3), "7x7": (7,), "3x3x2": (3, 3), "5x5": (5,)}
FASHION = DataConfig("fashion_mnist", train_size=4_000, augment=False)
RECIPE = Recipe(epochs=16, batch_size=64, schedule="cosine", weight_decay=5e-4)
NAMES = {"3x3x3": "three 3x3", "7x7": "one 7x7", "3x3x2": "two 3x3", "5x5": "one 5x5"}
RATES = {"3x3x3": 0.03, "7x7": 0.01, "3x3x2": 0.01, "5x5": 0.03}


def net(stage: Sequence[int], features: int = 8) -> Chain:
    """Return three stages of `features`, twice and four times as many channels, each of which ends in a pool."""
    return Chain(tuple(part for k in (1, 2, 4) for part in (*((k * features, side) for side in stage), "pool")))


def cases(rates: Mapping[str, float], data: DataConfig, recipe: Recipe) -> list[Case]:
    """Return the network of each kind of stage, at its rate."""
    return [Case(name, net(STAGES[name]), data, replace(recipe, learning_rate=rate)) for name, rate in rates.items()]


def worse(rows: Sequence[Row]) -> dict:
    """How much greater the test error of one large convolution is than that of the stack, in points."""
    errors = {name: by_seed(rows, "test_error", case=name) for name in STAGES}
    return {
        "5x5 minus two 3x3": errors["5x5"] - errors["3x3x2"],
        "7x7 minus three 3x3": errors["7x7"] - errors["3x3x3"],
    }


claim = Claim(
    name="stacks",
    sentence="stacked 3x3 convolutions have a lower test error than one 7x7 or 5x5 that sees the same",
    source="Simonyan & Zisserman, ICLR 2015, sections 2.3 and 4.1",
    stated="7 points of top-1 error for 5x5 on ImageNet",
    statistic=worse,
    criterion=EverySeed({"5x5 minus two 3x3": "> 0.5", "7x7 minus three 3x3": "> 0.5"}),
    figure=partial(training_curves, panel="dataset", line="case", titles={"fashion_mnist": "Fashion-MNIST", **NAMES}),
    presets={
        "quick": Preset(
            cases(RATES, FASHION, RECIPE),
            every=2,
            note="4,000 images of Fashion-MNIST, 16 epochs, 8, 16 and 32 channels. In the pilot the "
            "validation error at rates 0.01, 0.03 and 0.1 was 15.3, 14.9 and 90 % with three 3x3, 13.7, 13.9 and "
            "22.5 % with one 7x7, 14.0, 14.5 and 17.5 % with two 3x3, 14.2, 13.3 and 16.0 % with one 5x5: it did not "
            "bear the claim out at this size.",
        ),
        "pilot": pilot(cases(RATES, FASHION, RECIPE), (0.01, 0.03, 0.1), ["validation_error"], every=16),
    },
)

if __name__ == "__main__":
    main(claim, __file__)

"""Claims about what is counted: what holds of our networks, and what the papers state otherwise."""

from importlib import import_module

import pytest

from classicnets.claims.run import measured


@pytest.mark.parametrize(
    ("name", "missed"),
    [
        (
            "alexnet_size",
            ["neurons (thousands) = 650", "largest share of a convolution in the parameters (%) <= 1"],
        ),
        ("three_by_three", []),
        (
            "inception_size",
            [
                "parameters (M) = 5",
                "parameters, rows of Table 1 added up (1024) = 6798",
                "AlexNet's parameters over these = 12",
            ],
        ),
        ("factorised_size", []),
        ("bottleneck_size", []),
    ],
)
def test_what_is_stated_is_what_is_counted_but_for_what_is_known(name, missed):
    trial = import_module(f"experiments.{name}").claim.trial("counts")
    verdict = measured(trial.preset).verdict(trial)
    assert verdict["missed"] == missed
    assert verdict["outcome"] == ("refuted" if missed else "reproduced")


def test_the_counts_of_the_sizes():
    statistics = {}
    for name in ("alexnet_size", "inception_size", "bottleneck_size"):
        trial = import_module(f"experiments.{name}").claim.trial("counts")
        statistics |= trial.statistic(measured(trial.preset).raw)
    assert statistics["neurons (thousands)"] == 659.272
    assert statistics["largest share of a convolution in the parameters (%)"] == pytest.approx(
        100 * 885_120 / 60_965_224
    )
    assert statistics["weights of the dense layers (M)"] == (9_216 * 4_096 + 4_096 * 4_096 + 4_096 * 1_000) / 1e6
    assert statistics["parameters (M)"] == 6_998_552 / 1e6  # GoogLeNet's, of the same name as AlexNet's
    assert statistics["VGG-16, convolutions (G)"] == (15_470_264_320 - 123_633_664) / 1e9
    # 3b: 192 channels into 64 of 1x1, 128 of 3x3 and 32 of 5x5, against 163,328 weights.
    least = 192 * (64 + 9 * 128 + 25 * 32) / 163_328
    assert statistics["least factor of a module without 1x1 reduction"] == pytest.approx(least)

"""Trained networks of others have here the errors on CIFAR-10 that their authors state.

Three ResNets for CIFAR, from two repositories that order channels otherwise than ours: ResNet-20 and 32 of
akamaster/pytorch_resnet_cifar10 (pretrained_models) and ResNet-32 of Lasagne/Recipes (papers/deep_residual_learning).
Their files are not part of this project: put them into the folder that CLASSICNETS_WEIGHTS names, `weights` by default,
and prepare cifar10.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from classicnets.claims import Claim, Preset, Row, main
from classicnets.claims.criteria import Limits


class Published(NamedTuple):
    """Weights that their authors published: the file, its SHA-256, and the error in percent that they state."""

    file: str
    sha256: str
    error: float


PUBLISHED = {
    "ResNet-20, akamaster": Published(
        "resnet20-12fca82f.th", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", 8.27
    ),
    "ResNet-32, akamaster": Published(
        "resnet32-d509ac18.th", "d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850", 7.37
    ),
    "ResNet-32, Lasagne": Published(
        "cifar_model_n5.npz", "536662d9c2da893534f82f388ec7c56e80676dbab2fb3a14d840f5c90dbda27a", 7.42
    ),
}


def measure() -> list[dict]:
    """Return the error of each network on CIFAR-10's 10,000 test images, beside the stated one.

    Raise ValueError for a file that is not there, or another one.
    """
    from classicnets.inference.net import load_weights
    from classicnets.inference.scoring import score
    from classicnets.report.progress import Count

    folder, rows = Path(os.environ.get("CLASSICNETS_WEIGHTS", "weights")), []
    for case, published in PUBLISHED.items():
        net = load_weights(folder / published.file)
        if net.weights.sha256 != published.sha256:
            raise ValueError(f"{folder / published.file} has SHA-256 {net.weights.sha256}, not {published.sha256}")
        with Count(case) as count:
            found = score(net, "cifar10", progress=count)
        rows.append({"case": case, "error": found["error"], "stated": published.error, "n": found["images"]})
    return rows


def distances(rows: Sequence[Row]) -> dict[str, float]:
    """Distance of each network's error from the one that its authors state, in points of CIFAR-10's test error."""
    return {row["case"]: abs(row["error"] - row["stated"]) for row in rows}


# What the order of sums in float32 may change: three images of 10,000, and ten where the mean of each pixel enters.
BOUNDS = {"ResNet-20, akamaster": "<= 0.03", "ResNet-32, akamaster": "<= 0.03", "ResNet-32, Lasagne": "<= 0.1"}

claim = Claim(
    name="weights",
    sentence="trained networks of others have the errors that their authors state",
    source="this project",
    statistic=distances,
    criterion=Limits(BOUNDS),
    presets={
        "cifar10": Preset(
            measure=measure, note="Test error in percent on CIFAR-10; the files' SHA-256 are in experiments/weights.py."
        )
    },
)

if __name__ == "__main__":
    main(claim, __file__)

"""The runs of a claim that compares a few cases: one for each case and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classicnets.data import DataConfig
    from classicnets.sweeps import Job
    from classicnets.training import Recipe


@dataclass(frozen=True)
class Case:
    """What is trained on each seed."""

    net: Any
    """A Flax module."""
    data: "DataConfig"
    """The images, and how they are augmented."""
    recipe: "Recipe"
    """How it is trained."""


def runs(seeds: Sequence[int], experiment: str, cases: Mapping[str, Case], every: int = 1) -> list["Job"]:
    """Return a job for each case and seed, named CASE-DATASET-sSEED; `every`: epochs between two evaluations."""
    from classicnets.sweeps import Job
    from classicnets.training import Config, Execution

    execution = Execution(devices=1, evaluate_every=every, keep_best=False)
    return [
        Job(
            case.net,
            Config(case.data, case.recipe, seed),
            name=f"{name}-{case.data.dataset}-s{seed}",
            experiment=experiment,
            execution=execution,
        )
        for name, case in cases.items()
        for seed in seeds
    ]

"""The classic convolutional networks, exact, and experiments with them that repeat bit for bit."""

import importlib
from typing import TYPE_CHECKING, Any

from classicnets.system.settings import complete_flags

if TYPE_CHECKING:
    from classicnets.cli.recorded import load as load
    from classicnets.complexity.counts import describe as describe
    from classicnets.data import DataConfig as DataConfig
    from classicnets.inference.net import load_weights as load_weights
    from classicnets.inference.net import save_weights as save_weights
    from classicnets.models import create as create
    from classicnets.models.features import features as features
    from classicnets.sweeps import Job as Job
    from classicnets.sweeps import sweep as sweep
    from classicnets.training import Config as Config
    from classicnets.training import Execution as Execution
    from classicnets.training import Recipe as Recipe
    from classicnets.training import evaluate as evaluate
    from classicnets.training import train as train

__version__ = "0.3.0"

# Where each public name is defined; jax is imported when the first of them is used.
HOMES = {
    "Config": "training",
    "DataConfig": "data",
    "Execution": "training",
    "Job": "sweeps",
    "Recipe": "training",
    "create": "models",
    "describe": "complexity.counts",
    "evaluate": "training",
    "features": "models.features",
    "load": "cli.recorded",
    "load_weights": "inference.net",
    "save_weights": "inference.net",
    "sweep": "sweeps",
    "train": "training",
}


complete_flags()  # before a backend starts, which reads them once


def __getattr__(name: str) -> Any:
    """Return a public name, imported when it is first used."""
    if name not in HOMES:
        raise AttributeError(f"module 'classicnets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"classicnets.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*HOMES, "__version__"]

"""Where tasks are trained: worker processes here, tasks of a Ray cluster, or array jobs of Slurm.

An engine is a function of the tasks' texts that yields (index, outcome) as they end, and None at least once a second.
The outcome is the worker's, or {"error": ...} where the worker died more often than `retries` allow.
"""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from classicnets.sweeps.engines.local import local
from classicnets.sweeps.engines.placement import Ended, Placement
from classicnets.sweeps.engines.ray import ray
from classicnets.sweeps.engines.slurm import slurm

__all__ = ["ENGINES", "Ended", "Placement"]

ENGINES: dict[str, Callable[[Sequence[str], Path, Placement], Generator[Ended, None, None]]] = {
    "local": local,
    "ray": ray,
    "slurm": slurm,
}

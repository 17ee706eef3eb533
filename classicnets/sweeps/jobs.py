"""A job is one run to be trained, a task one or several packed, and its text travels to the process that trains it."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classicnets.data import load
from classicnets.runs import Run
from classicnets.runs.modules import built, written
from classicnets.training import Config, Execution, Start, Weights, facts
from classicnets.training.optimizer import SCALARS

# One device a run: a sweep is parallel over its runs, and the device count must not hang on which machine trains one.
ALONE = Execution(devices=1)


@dataclass(frozen=True)
class Job:
    """One run: a Flax module and its configuration, under `<runs>/<experiment>/<name>-<hash>`."""

    model: Any
    config: Config
    name: str
    experiment: str = "sweep"
    execution: Execution = field(default=ALONE)
    start: Start | None = None

    def run(self, root: Path) -> Run:
        """The run, whether it has begun or not; ValueError for a bad configuration or what a worker cannot be sent."""
        if self.start and isinstance(self.start.source, Weights):
            raise ValueError(f"start of job {self.name} must be a checkpoint or what is made of one, got weights")
        self.config.check()
        self.execution.check()
        return Run.of(root, self.experiment, self.name, facts(self.model, self.config, self.execution, self.start))


def text(task: Sequence[Job]) -> str:
    """The jobs of a task as one line of JSON; ValueError for a module that another process could not build."""
    return json.dumps([written(job) for job in task], allow_nan=False)


def read(line: str) -> list[Job]:
    """The jobs of a task's text."""
    return [built(job) for job in json.loads(line)]


def packable(job: Job) -> str:
    """What jobs have in common that can be one pack: all but name, seed and SCALARS of the recipe.

    A run whose data the host reads has a pack of its own, since the members of a pack share what lies on the device,
    and so has one that starts from other variables than its seed's.
    """
    if job.start or not load(job.config.data).is_resident:
        return text([job])
    recipe = dataclasses.replace(job.config.recipe, **dict.fromkeys(SCALARS, 0.0))
    return text([dataclasses.replace(job, config=dataclasses.replace(job.config, seed=0, recipe=recipe), name="")])

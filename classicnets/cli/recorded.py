"""A run found again by its id or directory, and what its record says it was trained with, built again."""

import dataclasses
from pathlib import Path
from typing import Any

from classicnets.inference.net import RunNet
from classicnets.models import create, from_facts, is_named
from classicnets.runs import find_run, modules
from classicnets.runs.identity import NUMERICS, deciding, digest
from classicnets.training import Execution, Start, config_of
from classicnets.training.facts import require_same_program


class Rebuilt:
    """A run, and of its record the configuration, how it was run last, and what builds its network.

    name, fields: what `create` takes for a network of ours; None and {} for somebody's own module.
    """

    def __init__(self, root: Path, word: str):
        self.run = find_run(root, word)
        facts = self.run.facts["model"]
        self.name, self.fields = from_facts(facts) if is_named(facts) else (None, {})
        self.config = config_of(self.run)
        self._last = (self.run.environment or [{}])[-1].get("execution", {})

    def network(self, **execution: Any) -> Any:
        """Return the network, built as it was but for `execution`, its execution options.

        Somebody's own module is imported, which a warning tells before, and traced. Raise ValueError if that cannot be,
        or if it computes something else now.
        """
        if self.name:
            return create(self.name, **self.fields | execution)
        model = modules.rebuilt(self.run.facts["model"], self.run.id)
        require_same_program(self.run, model, self.config)
        return model

    @property
    def label(self) -> str:
        """The network's name: of somebody's own module that of its class."""
        return self.name or str(self.run.facts["model"].get("module")).rpartition(":")[2].rpartition(".")[2]

    @property
    def place(self) -> tuple[Path, str]:
        """(runs directory, experiment)."""
        return self.run.path.parent.parent, self.run.path.parent.name

    @property
    def execution(self) -> Execution:
        """How the run was run last."""
        known = {field.name for field in dataclasses.fields(Execution)}
        return Execution(**{key: value for key, value in self._last.items() if key in known})

    @property
    def layout(self) -> dict[str, Any]:
        """The execution options with which the network was run last."""
        known = {field.name for field in dataclasses.fields(Execution)}
        if not self.name:
            return {}
        last = {key: value for key, value in self._last.items() if key not in known}
        return {key: tuple(value) if isinstance(value, list) else value for key, value in last.items()}

    @property
    def start(self) -> Start | None:
        """How this run began, None for a start from its seed alone."""
        return Start.of_record(self.run)

    def require_numerics(self, command: str) -> None:
        """Raise ValueError, naming the version to use, for a run that this version computes to other bits."""
        numerics = self.run.facts.get("numerics", 1)
        if numerics != NUMERICS:
            segment = (self.run.environment or [{}])[-1]
            commit = f", commit {segment['commit'][:12]}" if segment.get("commit") else ""
            raise ValueError(
                f"{self.run.id} was trained under NUMERICS {numerics}, and this version computes NUMERICS {NUMERICS}: "
                f"{command} it with classicnets {segment.get('classicnets', 'of its time')}{commit}"
            )

    def require_same_numbers(self, facts: dict) -> None:
        """Raise ValueError if `facts`, of this code, data and number of devices, no longer give the run's numbers.

        A run that an earlier version named by its module's source text is told apart by what it computes alone.
        """
        recorded, facts = deciding(self.run.facts), deciding(facts)
        for key in sorted({*recorded, *facts}) if "source_sha256" not in self.run.facts["model"] else ():
            if recorded.get(key) != facts.get(key):
                raise ValueError(
                    f"{key} is {recorded.get(key)!r} in the record of {self.run.id} and {facts.get(key)!r} here: "
                    "it cannot be continued to the same numbers"
                )

    def require_own_place(self) -> None:
        """Raise ValueError if the directory is not where a run of this record lives."""
        named = digest(self.run.facts)
        if "source_sha256" not in self.run.facts["model"] and not self.run.id.endswith(f"-{named}"):
            raise ValueError(f"{str(self.run.path)!r} was renamed: its name must end in -{named} to be resumed")


def load(run: str, runs: str = "runs") -> RunNet:
    """Return the trained network of a run, named by its id below `runs`, or by its directory.

    `load("RUN").logits(images)` takes uint8 images [n, h, w, c] and normalises them as in training; `.predict(images)`
    and `.features(images, layers)` take colour images of any sizes and bring them to the data set's; `.model` is the
    Flax module, `.variables` are its parameters and batch statistics at the newest good checkpoint, `.step`, `.config`
    and `.run` say where they come from. Raise ValueError for a run that is not there, holds no good checkpoint, or
    whose module computes something else now.
    """
    rebuilt = Rebuilt(Path(runs).expanduser(), str(run))
    return RunNet.of(rebuilt.run, rebuilt.network(), rebuilt.config)

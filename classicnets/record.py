"""A run found again, and what its record says of it."""

import dataclasses
import json
from pathlib import Path

from classicnets.models import from_facts
from classicnets.options import Field
from classicnets.runs import Run, find_run, identity
from classicnets.training import Parent, config_of


class Record:
    """A run found again by its id or directory, and what its record says of it."""

    def __init__(self, runs: Path, word: str):
        self.run = find_run(runs, word)
        self.model, self.fields = from_facts(self.run.config["model"])
        self.config = config_of(self.run)
        # A resumed run is run as it was run last, unless options say otherwise.
        self.execution = (self.run.environment or [{}])[-1].get("execution", {})
        self.options = {**self.execution, **self.fields, "seed": self.config.seed}
        for part in (self.config.data, self.config.recipe):
            self.options |= dataclasses.asdict(part)

    @property
    def parent(self):
        """The checkpoint that this run started from, if it is a fork."""
        recorded = self.run.config.get("parent")
        return Parent(**{**recorded, "run": Run(self.run.path.parent / recorded["run"])}) if recorded else None

    def refuse_other(self, name: str, options, decided: list[Field]) -> None:
        """ValueError naming the first option that differs from the record; execution options may."""
        pairs = [("model", self.model, name)]
        pairs += [(f, recorded, getattr(options, f)) for f, _, recorded in decided if f not in ("conv", "unroll")]
        for field, recorded, given in pairs:
            if given != recorded:
                raise ValueError(
                    f"{field} is {recorded!r} in the record of {self.run.id}, got {given!r}; "
                    "leave the option out, or start another run from its weights with --fork"
                )

    def refuse_other_numbers(self, facts: dict) -> None:
        """ValueError if this code, data or number of devices no longer give the run's numbers."""
        recorded = self.run.facts
        facts = json.loads(json.dumps(facts))
        for key in sorted({*recorded, *facts}):
            if recorded.get(key) != facts.get(key):
                raise ValueError(
                    f"{key} is {recorded.get(key)!r} in the record of {self.run.id} and {facts.get(key)!r} here: "
                    "it cannot be continued to the same numbers"
                )

    def refuse_another_place(self) -> None:
        """ValueError if the directory is not where a run of this record lives."""
        digest = identity(self.run.facts)
        if not self.run.id.endswith(f"-{digest}"):
            raise ValueError(f"{str(self.run.path)!r} was renamed: its name must end in -{digest} to be resumed")

"""A run found again, and what its record says of it."""

import dataclasses
from pathlib import Path
from typing import Any

from classicnets.cli.options import Field
from classicnets.models import create, from_facts, is_named
from classicnets.runs import find_run, modules
from classicnets.runs.identity import deciding, digest
from classicnets.training import Execution, Start, config_of
from classicnets.training.facts import require_same_program


class Record:
    """A run found again by its id or directory, and what its record says of it.

    model, fields: what `create` takes for a network of ours; None and {} for somebody's own module.
    """

    def __init__(self, runs: Path, word: str):
        self.run = find_run(runs, word)
        facts = self.run.config["model"]
        self.model, self.fields = from_facts(facts) if is_named(facts) else (None, {})
        self.config = config_of(self.run)
        # A resumed run is run as it was run last, unless options say otherwise.
        self.execution = (self.run.environment or [{}])[-1].get("execution", {})
        self.options = {**self.execution, **self.fields, "seed": self.config.seed}
        for part in (self.config.data, self.config.recipe):
            self.options |= dataclasses.asdict(part)

    def network(self, **execution) -> Any:
        """Return the network, built as it was but for `execution`, its execution options.

        Somebody's own module is imported, which a warning tells before, and traced. Raise ValueError if that cannot be,
        or if it computes something else now.
        """
        if self.model:
            return create(self.model, **self.fields | execution)
        model = modules.rebuilt(self.run.config["model"], self.run.id)
        require_same_program(self.run, model, self.config)
        return model

    @property
    def label(self) -> str:
        """The network's name: of somebody's own module that of its class."""
        return self.model or str(self.run.config["model"].get("module")).rpartition(":")[2].rpartition(".")[2]

    @property
    def named_by_source(self) -> bool:
        """Whether an earlier version named the run by its module's source text."""
        return "source_sha256" in self.run.config["model"]

    @property
    def layout(self) -> dict:
        """The execution options with which the network was run last."""
        known = {f.name for f in dataclasses.fields(Execution)}
        return {key: value for key, value in self.execution.items() if key not in known} if self.model else {}

    @property
    def start(self) -> Start | None:
        """How this run began, None for a start from its seed alone."""
        return Start.of_record(self.run)

    def refuse_other(self, name: str, options, decided: list[Field]) -> None:
        """ValueError naming the first option that differs from the record; execution options may."""
        pairs = [("model", self.label, name)]
        pairs += [(f, recorded, getattr(options, f)) for f, _, recorded in decided if f not in ("conv", "unroll")]
        for field, recorded, given in pairs:
            if given != recorded:
                raise ValueError(
                    f"{field} is {recorded!r} in the record of {self.run.id}, got {given!r}; "
                    "leave the option out, or start another run from its weights with --fork"
                )

    def refuse_other_numbers(self, facts: dict) -> None:
        """ValueError if this code, data or number of devices no longer give the run's numbers."""
        recorded, facts = deciding(self.run.facts), deciding(facts)
        for key in sorted({*recorded, *facts}):
            if recorded.get(key) != facts.get(key):
                raise ValueError(
                    f"{key} is {recorded.get(key)!r} in the record of {self.run.id} and {facts.get(key)!r} here: "
                    "it cannot be continued to the same numbers"
                )

    def refuse_another_place(self) -> None:
        """ValueError if the directory is not where a run of this record lives."""
        named = digest(self.run.facts)
        if not self.run.id.endswith(f"-{named}"):
            raise ValueError(f"{str(self.run.path)!r} was renamed: its name must end in -{named} to be resumed")

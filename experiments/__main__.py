"""`python -m experiments`: README.md, and the verdict and README of each record, from the records' raw rows."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import tyro

from classicnets.claims.record import Evidence
from classicnets.claims.scoreboard import COLUMNS, entries, index, overview
from classicnets.system.writing import replace

RECORDS = Path(__file__).with_name("records")


@dataclass(frozen=True)
class Options:
    """What is shown of all records."""

    page: Path | None = None
    """A file for one page of all claims: scoreboard, figures, and the curves of what was trained here."""
    runs: Path = Path("runs")
    """Where runs are kept, whose curves the page shows."""
    json: bool = False
    """Print the scoreboard as JSON, one object a record."""


def main(options: Options) -> None:
    """Make what follows from the raw rows, and show it."""
    for path in sorted(RECORDS.glob("*/*/runs.jsonl")):
        claim = import_module(f"experiments.{path.parts[-3]}").claim
        Evidence.read(path.parent).write(path.parent, claim.trial(path.parent.name))
    replace(RECORDS.with_name("README.md"), index(RECORDS))
    if options.page:
        replace(options.page, overview(RECORDS, options.runs.expanduser(), options.page.absolute().parent))
    if options.json:
        print(json.dumps([dict(zip(COLUMNS, entry.cells, strict=True)) for entry in entries(RECORDS)]))
    elif options.page:
        print(f"page: {options.page.absolute()}")


if __name__ == "__main__":
    main(tyro.cli(Options, prog="python -m experiments", description=__doc__))

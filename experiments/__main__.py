"""`python -m experiments`: README.md, and the verdict and README of each record, from the records' raw rows."""

import json
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import tyro

from classicnets.claims.record import Evidence
from classicnets.claims.scoreboard import COLUMNS, at_hand, entries, index, overview
from classicnets.report.progress import line
from classicnets.system.writing import WriteFailed, replace

RECORDS = Path(__file__).with_name("records")


@dataclass(frozen=True)
class Options:
    """What is shown of all records."""

    page: Path | None = None
    """A file for one page of all claims: scoreboard, figures, and the curves of what was trained here."""
    runs: Path | None = None
    """Where runs are kept, whose curves the page shows; none for ./runs."""
    json: bool = False
    """Print the scoreboard as JSON, one object a record."""


def main(options: Options) -> None:
    """Make what follows from the raw rows, and show it; raise ValueError or WriteFailed for paths that cannot be."""
    runs = (options.runs or Path("runs")).expanduser()
    if options.runs and not runs.is_dir():
        raise ValueError(f"runs must be a directory, got {str(runs)!r}")
    for path in sorted(RECORDS.glob("*/*/runs.jsonl")):
        claim = import_module(f"experiments.{path.parts[-3]}").claim
        Evidence.read(path.parent).write(path.parent, claim.trial(path.parent.name))
    replace(RECORDS.with_name("README.md"), index(RECORDS))
    if options.page:
        replace(options.page, overview(RECORDS, runs, options.page.absolute().parent))
    if options.json:
        print(json.dumps([dict(zip(COLUMNS, entry.cells, strict=True)) for entry in entries(RECORDS)]))
    elif options.page:
        recorded = [entry for entry in entries(RECORDS) if entry.verdict["numerics"] is not None]
        here = sum(len(at_hand(entry, runs)) for entry in recorded)
        print(f"page: {options.page.absolute()}, with the curves of {here} runs below {runs}")


if __name__ == "__main__":
    program = "python -m experiments"
    try:
        main(tyro.cli(Options, prog=program, description=__doc__))
    except (ValueError, WriteFailed) as error:
        print(f"{program}: {line(str(error))}", file=sys.stderr)
        sys.exit(5 if isinstance(error, WriteFailed) else 2)

"""`python -m experiments.NAME`: a claim's runs, its verdict, and how that compares with the committed record."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from classicnets.claims.claim import Claim, Trial
from classicnets.claims.record import Record, compared
from classicnets.system import signals


@dataclass(frozen=True)
class Options:
    """How a claim is put to the test."""

    preset: str
    """Which runs, from the list above."""
    runs: Path = Path("runs")
    """Where runs are kept, and the report, in .claims/NAME/PRESET."""
    record: bool = False
    """Renew the committed record."""
    page: Path | None = None
    """A file for a page with every curve."""
    engine: Literal["local", "ray", "slurm"] = "local"
    """What trains the runs, on a CPU one core each."""
    jobs: int | None = None
    """Runs at once; by default as many as this machine has cores or accelerators."""
    address: str | None = None
    """Of a Ray cluster; by default one that starts here and ends with the sweep."""
    slurm: dict[str, str] | None = None
    """Parameters of submitit, such as slurm_partition gpu."""
    json: bool = False
    """Print the verdict and the comparison as JSON."""


def main(claim: Claim, file: str, arguments: list[str] | None = None) -> None:
    """Run the claim of the module `file`, beside which its records lie, and exit with 0 for a verdict.

    Exit with 1 if runs are missing, 2 for bad input, 5 if something could not be written and 75 after a signal.
    """
    import tyro

    from classicnets.report.progress import line
    from classicnets.system.writing import WriteFailed

    program = f"python -m experiments.{claim.name}"
    presets = "\n\n".join(f"{name}: {preset.note}" for name, preset in claim.presets.items())
    description = f"Claim: {claim.sentence} ({claim.source}).\n\n{presets}"
    default = Options(next(iter(claim.presets)))
    options = tyro.cli(Options, prog=program, description=description, default=default, args=arguments)
    signals.install()
    try:
        sys.exit(_run(claim.trial(options.preset), options, Path(file).parent / "records"))
    except (ValueError, WriteFailed) as error:
        print(line(f"{program}: {error}"), file=sys.stderr)
        sys.exit(2 if isinstance(error, ValueError) else 5)


def _run(trial: Trial, options: Options, records: Path) -> int:
    from classicnets.claims.report import index, record_page
    from classicnets.claims.run import measured, recorded, swept
    from classicnets.runs import ENDED, Run
    from classicnets.system.writing import replace

    root, place = options.runs.expanduser().absolute(), Path(trial.claim.name, trial.name)
    committed = records / place
    folder = committed if options.record else root / ".claims" / place
    runs: list[Run] = []
    if trial.preset.measure:
        record = measured(trial.preset)
    else:
        given = {"jobs": options.jobs, "address": options.address, "slurm": tuple((options.slurm or {}).items())}
        placement = {name: value for name, value in given.items() if value}
        rows = swept(trial.preset, root, options.engine, **placement)
        missing = [row for row in rows if row["state"] not in ENDED]
        if missing:
            for row in missing:
                print(f"{row['run']}: {row.get('error', row['state'])}", file=sys.stderr)
            print(f"{len(missing)} of {len(rows)} runs are missing; start the same command again", file=sys.stderr)
            return 1
        runs = [Run(Path(row["directory"])) for row in rows]
        record = recorded(runs)
    verdict = record.verdict(trial)
    folder.mkdir(parents=True, exist_ok=True)
    if trial.figure:
        logged = [{**row, "log": run.metrics} for row, run in zip(record.rows, runs, strict=True)]
        trial.figure(folder / "figure.svg", logged, verdict["statistics"])
    if options.page:
        replace(options.page, record_page(record, trial, runs))
    against = _against(committed, record, verdict["outcome"])
    record.write(folder, trial)
    if options.record:
        replace(records.with_name("README.md"), index(records))
    _print(trial, options, verdict, against, folder)
    return 0


def _against(committed: Path, record: Record, outcome: str) -> dict | None:
    """Return {"outcome": the committed record's, "same": whether it is this one's, and the comparison of digests}."""
    if not (committed / "verdict.json").exists():
        return None
    before = json.loads((committed / "verdict.json").read_text(encoding="utf-8"))["outcome"]
    return {"outcome": before, "same": before == outcome, **compared(Record.read(committed), record)}


def _print(trial: Trial, options: Options, verdict: dict, against: dict | None, folder: Path) -> None:
    from classicnets.claims.report import statistics_text

    if options.json:
        print(json.dumps({**verdict, "record": against, "directory": str(folder)}))
        return
    n = f" (n = {verdict['n']})" if verdict["n"] else ""
    print(f"{verdict['outcome']}{n}: {verdict['sentence']}", *statistics_text(verdict), sep="\n")
    if against is None:
        print("there is no committed record to compare with")
    else:
        same = "the same" if against["same"] else f"{against['outcome']}, not {verdict['outcome']}"
        counts = f"{against['equal']} of {against['compared']} digests of parameters equal its own"
        why = f" ({', '.join(against['why'])})" if against["why"] else ""
        print(f"the committed record's outcome is {same}")
        if trial.preset.jobs:
            print((counts if against["compared"] else "digests of parameters are not compared with its own") + why)
    print(f"report: {folder / 'README.md'}")
    if options.page:
        print(f"page: {options.page.absolute()}")

"""`python -m experiments.NAME`: a claim's runs, its verdict, and how that compares with the committed record."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from classicnets.claims.claim import Claim, Trial
from classicnets.claims.criteria import Explored
from classicnets.claims.record import Evidence, compared
from classicnets.report.progress import line
from classicnets.system import signals


@dataclass(frozen=True)
class Options:
    """How a claim is put to the test."""

    preset: str
    """Which runs, from the list above."""
    seeds: tuple[int, ...] | None = None
    """Others than the preset's own, at least as many."""
    runs: Path = Path("runs")
    """Where runs are kept, and the report, in .claims/NAME/PRESET[-SEEDS]."""
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

    from classicnets.claims.run import RunsMissing
    from classicnets.system.writing import WriteFailed

    program = f"python -m experiments.{claim.name}"
    presets = "\n\n".join(f"{name}: {preset.note}" for name, preset in claim.presets.items())
    description = f"Claim: {claim.sentence} ({claim.source}).\n\n{presets}"
    default = Options(next(iter(claim.presets)))
    options = tyro.cli(Options, prog=program, description=description, default=default, args=arguments)
    signals.install()
    try:
        if options.record and options.seeds:
            raise ValueError("a record has the preset's own seeds: leave out --record or --seeds")
        trial = claim.trial(options.preset, options.seeds)
        if options.record and isinstance(trial.criterion, Explored):
            raise ValueError(f"preset {options.preset} explores and has no record: leave out --record")
        _run(trial, options, Path(file).parent / "records")
    except BrokenPipeError:  # the reader of the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (RunsMissing, ValueError, WriteFailed) as error:
        for sentence in str(error).splitlines():
            print(f"{program}: {line(sentence)}", file=sys.stderr)
        sys.exit({RunsMissing: 1, WriteFailed: 5}.get(type(error), 2))
    sys.exit(0)


def _run(trial: Trial, options: Options, records: Path) -> None:
    from classicnets.claims.report import record_page
    from classicnets.claims.run import measured, recorded, swept
    from classicnets.claims.scoreboard import index
    from classicnets.system.writing import replace

    root, place = options.runs.expanduser().absolute(), Path(trial.claim.name, trial.name)
    committed = records / place
    own = "-".join(map(str, (trial.name, *(options.seeds or ()))))
    folder = committed if options.record else root / ".claims" / trial.claim.name / own
    placement = {"jobs": options.jobs, "address": options.address, "slurm": tuple((options.slurm or {}).items())}
    given = {name: value for name, value in placement.items() if value}
    runs = swept(trial, root, options.engine, **given) if trial.preset.cases else []
    evidence = recorded(runs, trial.observe, trial.cases) if runs else measured(trial.preset)
    verdict = evidence.verdict(trial)
    against = _against(committed, evidence, verdict["outcome"])
    folder.mkdir(parents=True, exist_ok=True)
    if trial.figure:
        logs = [{"log": run.metrics} for run in runs] or [{}] * len(evidence.rows)
        rows = [{**row, **log} for row, log in zip(evidence.rows, logs, strict=True)]
        trial.figure(folder / "figure.svg", rows, verdict["statistics"])
    evidence.write(folder, trial)
    if options.record:
        replace(records.with_name("README.md"), index(records))
    if options.page:
        replace(options.page, record_page(evidence, trial, runs))
    if options.json:
        print(json.dumps({**verdict, "record": against, "directory": str(folder)}))
    else:
        print(*_lines(verdict, against), f"report: {folder / 'README.md'}", sep="\n")
        print(*([f"page: {options.page.absolute()}\n"] if options.page else []), end="")


def _against(committed: Path, evidence: Evidence, outcome: str) -> dict | None:
    """Return {"outcome": the committed record's, "same": whether it is this one's, and the comparison of digests}."""
    if not (committed / "verdict.json").exists():
        return None
    before = json.loads((committed / "verdict.json").read_text(encoding="utf-8"))["outcome"]
    return {"outcome": before, "same": before == outcome, **compared(Evidence.read(committed), evidence)}


def _lines(verdict: dict, against: dict | None) -> list[str]:
    """Return the verdict, what was judged, and how that compares with the committed record."""
    from classicnets.claims.report import statistics_text

    n = f" (n = {verdict['n']})" if verdict["n"] else ""
    lines = [f"{verdict['outcome']}{n}: {verdict['sentence']}", *statistics_text(verdict)]
    lines += [f"not met: {bound}" for bound in verdict["missed"]]
    if against is None:
        return [*lines, "there is no committed record to compare with"]
    same = "the same" if against["same"] else f"{against['outcome']}, not {verdict['outcome']}"
    lines.append(f"the committed record's outcome is {same}")
    if verdict["numerics"] is not None:
        equal = f"{against['equal']} of {against['compared']} digests of parameters equal its own"
        why = f" ({', '.join(against['why'])})" if against["why"] else ""
        lines.append((equal if against["compared"] else "digests of parameters are not compared with its own") + why)
    return lines

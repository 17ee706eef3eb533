"""What a preset names is run where it is not done, and becomes evidence."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classicnets.claims.claim import Observation, Preset, Trial
from classicnets.claims.record import RESULTS, Evidence
from classicnets.report.progress import Bar
from classicnets.runs import ENDED, Run
from classicnets.sweeps.engines import Placement
from classicnets.sweeps.plan import sweep
from classicnets.system.accelerators import at_once
from classicnets.system.environment import environment

# Of an environment, what differs between the runs of a sweep or is long, and has no part in a comparison.
LEFT_OUT = ("started", "uncommitted_diff")


class RunsMissing(Exception):
    """Not all runs of a sweep have ended, and there is nothing to judge."""


def swept(trial: Trial, root: Path, engine: str = "local", **placement: Any) -> list[Run]:
    """Return the runs of a claim's preset, trained on one core of a CPU each, as many at once as there are cores.

    Raise RunsMissing with a line for each that has failed.
    """
    placed = Placement(**{"jobs": at_once(1, engine), "cores": 1, **placement})
    ended: dict[tuple[str, int], Run] = {}
    while jobs := trial.jobs_after(ended):
        # Ray prints that a worker or a node was lost on standard output, where only the verdict belongs.
        with Bar() as bar, contextlib.redirect_stdout(sys.stderr):
            rows = sweep(list(jobs.values()), root, engine, placed, bar)
        missing = [f"{row['run']}: {row.get('error', row['state'])}" for row in rows if row["state"] not in ENDED]
        if missing:
            again = f"{len(missing)} of {len(rows)} runs are missing; start the same command again"
            raise RunsMissing("\n".join([*missing, again]))
        found = {row["run"]: Run(Path(row["directory"])) for row in rows}
        ended |= {key: found[job.run(root).id] for key, job in jobs.items()}
    return [ended[case.name, seed] for case in trial.preset.cases or () for seed in trial.preset.seeds]


def recorded(runs: Sequence[Run], observe: Observation | None = None, cases: Sequence[str] = ()) -> Evidence:
    """Return the evidence of runs that have ended; one that diverged counts as chance error.

    observe: from a run's log, what its row keeps beside its last errors. cases: that of each run, which its label does
    not tell where another preset began it.
    """
    raw = []
    for run, case in zip(runs, cases or [None] * len(runs), strict=True):
        status, chance = run.status, None
        if status["state"] == "diverged":
            chance = 100 * (1 - 1 / run.facts["model"]["num_classes"])
        errors = {name: status.get(name, chance) for name in RESULTS}
        row = {"run": run.id, **({"case": case} if cases else {}), "state": status["state"], **errors}
        row |= observe(run.metrics) if observe else {}
        row["seconds"] = sum(record.get("seconds") or 0.0 for record in run.metrics)
        row["parameters_sha256"] = status.get("parameters_sha256")
        raw.append({**row, "environment": _kept(run.environment[-1])})
    return Evidence(raw, [{"run": run.id, "facts": run.facts} for run in runs])


def measured(preset: Preset) -> Evidence:
    """Return the evidence of a measurement that is made now."""
    conditions = _kept(environment())
    rows = preset.measure() if preset.measure else []
    if preset.of_seed:
        rows = [{"seed": seed, **row} for seed in preset.seeds for row in preset.of_seed(seed)]
    return Evidence([{**row, "environment": conditions} for row in rows], [])


def _kept(conditions: dict) -> dict:
    return {key: value for key, value in conditions.items() if key not in LEFT_OUT}

"""A claim's runs, trained where they are not done, and the record of them."""

from collections.abc import Sequence
from pathlib import Path

from classicnets.claims.claim import Preset
from classicnets.claims.record import Record
from classicnets.report.progress import Bar
from classicnets.runs import Run
from classicnets.sweeps.engines import Placement, at_once
from classicnets.sweeps.plan import sweep
from classicnets.system.environment import environment

RESULTS = ("train_error", "validation_error", "test_error", "train_error_batch_statistics")
# Of an environment, what differs between the runs of a sweep or is long, and has no part in a comparison.
LEFT_OUT = ("started", "uncommitted_diff")


def swept(preset: Preset, root: Path, engine: str = "local", **placement) -> list[dict]:
    """Return the rows of `sweeps.sweep`, each run on one core of a CPU, as many at once as there are cores."""
    assert preset.jobs is not None
    placed = Placement(**{"jobs": at_once(1, engine), "cores": 1, **placement})
    with Bar() as bar:
        return sweep(preset.jobs(), root, engine, placed, bar)


def recorded(runs: Sequence[Run]) -> Record:
    """Return the record of runs that have ended; one that diverged counts as chance error."""
    raw = []
    for run in runs:
        status, chance = run.status, None
        if status["state"] == "diverged":
            chance = 100 * (1 - 1 / run.facts["model"]["num_classes"])
        errors = {name: status.get(name, chance) for name in RESULTS}
        row = {"run": run.id, "state": status["state"], **errors, "parameters_sha256": status.get("parameters_sha256")}
        raw.append({**row, "environment": _kept(run.environment[-1])})
    return Record(raw, [{"run": run.id, "facts": run.facts} for run in runs])


def measured(preset: Preset) -> Record:
    """Return the record of a measurement that is made now."""
    assert preset.measure is not None
    conditions = _kept(environment())
    return Record([{**row, "environment": conditions} for row in preset.measure()], [])


def _kept(conditions: dict) -> dict:
    return {key: value for key, value in conditions.items() if key not in LEFT_OUT}

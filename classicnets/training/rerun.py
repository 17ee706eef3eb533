"""A run repeated from its record."""

import dataclasses
import shutil
import warnings

from classicnets.runs import ENDED, TIMING, Run
from classicnets.runs.identity import deciding
from classicnets.system.environment import differences
from classicnets.training.config import Config, Execution
from classicnets.training.loop import Parent, facts, train
from classicnets.training.session import Progress


def rerun(
    run: Run,
    model,
    config: Config,
    execution: Execution,
    parent: Parent | None = None,
    progress: Progress | None = None,
) -> dict:
    """{"identical", "step", "field", "recorded", "repeated"}: whether every bit agrees, or where the two part first.

    The repetition is kept below the run's directory, in rerun/; one that was interrupted is resumed, and one that has
    ended is replaced. Raises ValueError for a run that has not ended, or whose record this code or data no longer
    computes. Warns of other versions, processors, cores or devices.
    """
    if run.status["state"] not in ENDED:
        raise ValueError(f"run {run.id} is {run.status['state']}: only one that has ended can be repeated")
    name = run.id.rpartition("-")[0]
    again = Run.of(run.path / "rerun", "rerun", name, facts(model, config, execution, parent))
    if again.id != run.id:
        here = deciding(facts(model, config, execution, parent))
        recorded = deciding(run.facts)
        parts = [key for key in sorted({*here, *recorded}) if here.get(key) != recorded.get(key)]
        raise ValueError(f"{run.id} would be {again.id} here, since {', '.join(parts) or 'its name'} differs")
    if again.status["state"] in ENDED:
        shutil.rmtree(again.path)
    how = dataclasses.replace(execution, tensorboard=False)
    options = {"runs": run.path / "rerun", "experiment": "rerun", "name": name, "execution": how}
    again = train(model, config, progress=progress, parent=parent, **options)
    differing = differences(run.environment[-1], again.environment[-1])
    if differing:
        warnings.warn(f"repeated under other conditions, bits can differ: {'; '.join(differing)}", stacklevel=2)
    return {"run": run.id, **_parting(run, again)}


def _parting(run: Run, again: Run) -> dict:
    """Where two records of one run part: the first step and field, or the final status."""
    for one, other in zip(run.metrics, again.metrics, strict=False):
        for field in one:
            if field not in TIMING and one[field] != other.get(field):
                return _differs(one["step"], field, one[field], other.get(field))
    if len(run.metrics) != len(again.metrics):
        return _differs(None, "length of the record", len(run.metrics), len(again.metrics))
    one, other = run.status, again.status
    for field in ("state", "step", "tensor", "train_error_batch_statistics", "parameters_sha256"):
        if one.get(field) != other.get(field):
            return _differs(one.get("step"), field, one.get(field), other.get(field))
    return {"identical": True}


def _differs(step, field: str, recorded, repeated) -> dict:
    return {"identical": False, "step": step, "field": field, "recorded": recorded, "repeated": repeated}

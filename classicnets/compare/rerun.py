"""A run repeated from its record."""

import dataclasses
import shutil
import warnings
from typing import Any

from classicnets.compare.parting import parting
from classicnets.runs import ENDED, Run
from classicnets.runs.identity import deciding
from classicnets.system.environment import differences
from classicnets.training.config import Config, Execution
from classicnets.training.facts import facts
from classicnets.training.session import Progress
from classicnets.training.start import Start
from classicnets.training.train import train


def rerun(
    run: Run,
    model: Any,
    config: Config,
    execution: Execution,
    start: Start | None = None,
    progress: Progress | None = None,
) -> dict:
    """Return {"run", "identical"} and, where two runs part, the first {"step", "field", "recorded", "repeated"}.

    The repetition is kept below the run's directory, in rerun/; one that was interrupted is resumed, and one that has
    ended is replaced. Raise ValueError for a run that has not ended, or whose record this code or data no longer
    computes; warn of other versions, processors, cores or devices.
    """
    if run.status["state"] not in ENDED:
        raise ValueError(f"run {run.id} is {run.status['state']}: only one that has ended can be repeated")
    name = run.id.rpartition("-")[0]
    again = Run.of(run.path / "rerun", "rerun", name, facts(model, config, execution, start))
    if again.id != run.id:
        here = deciding(facts(model, config, execution, start))
        recorded = deciding(run.facts)
        parts = [key for key in sorted({*here, *recorded}) if here.get(key) != recorded.get(key)]
        raise ValueError(f"{run.id} would be {again.id} here, since {', '.join(parts) or 'its name'} differs")
    if again.status["state"] in ENDED:
        shutil.rmtree(again.path)
    how = dataclasses.replace(execution, tensorboard=False)
    options = {"runs": run.path / "rerun", "experiment": "rerun", "name": name, "execution": how}
    again = train(model, config, progress=progress, start=start, **options)
    differing = differences(run.environment[-1], again.environment[-1])
    if differing:
        warnings.warn(f"repeated under other conditions, bits can differ: {'; '.join(differing)}", stacklevel=2)
    parts = parting(run.record, again.record)
    if parts["identical"] is False:
        recorded, repeated = parts["values"]
        parts = {"identical": False, "step": parts["step"], "field": parts["field"]}
        return {"run": run.id, **parts, "recorded": recorded, "repeated": repeated}
    # Two that diverged at one step, of one tensor, are not complete, and equal all the same.
    return {"run": run.id, "identical": run.status["step"] == again.status["step"]}

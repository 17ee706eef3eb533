"""A sweep: what is done of it, the rest trained by an engine, and what is missing in the end."""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from classicnets.data import sizes
from classicnets.exports import tensorboard
from classicnets.runs import ENDED, Run
from classicnets.sweeps.engines import ENGINES, Placement
from classicnets.sweeps.jobs import Job, packable, text
from classicnets.system import accelerators
from classicnets.system.cores import available
from classicnets.training.session import Progress


def unique(jobs: Sequence[Job], root: Path) -> list[tuple[Job, Run]]:
    """Each job once, with its run; ValueError, before anything is trained, for one that is no good configuration."""
    found: dict[tuple[str, str], tuple[Job, Run]] = {}
    for job in jobs:
        text([job])
        tensorboard.writer(job.execution.tensorboard)
        run = job.run(root)
        found.setdefault((job.experiment, run.id.rpartition("-")[2]), (job, run))
    return list(found.values())


def sweep(
    jobs: Sequence[Job],
    runs: Path | str,
    engine: str = "local",
    placement: Placement | None = None,
    view: Progress | None = None,
) -> list[dict]:
    """One {"run", "directory", "state", "error" if it failed, its results} a job, in their order.

    What is complete, or has diverged, is not trained again; what was interrupted is resumed; a job that fails does not
    stop the others. Raises ValueError for a bad configuration, engine or placement before anything is trained.
    """
    how = placement or Placement(jobs=accelerators.at_once(cores=1))
    require_place(engine, how)
    root = Path(runs).expanduser().absolute()
    plan = unique(jobs, root)
    todo = tasks(plan, how.pack)
    errors: dict[str, str] = {}
    if todo:
        with contextlib.closing(ENGINES[engine]([text([job for job, _ in task]) for task in todo], root, how)) as ends:
            for run, error in _watched(ends, todo, len(plan), view):
                if error:
                    errors[run.id] = error
    return [_row(run, errors) for _, run in plan]


def require_place(engine: str, how: Placement) -> None:
    """ValueError for an engine that there is not, or a placement for which this machine has no room."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if how.jobs < 1 or how.cores < 1 or how.retries < 0:
        raise ValueError(f"jobs and cores must be at least 1 and retries 0, got {how.jobs}, {how.cores}, {how.retries}")
    if engine == "local":
        accelerators.require()
    chips = sum("TPU_VISIBLE_CHIPS" in seen for seen in accelerators.visible()) if engine == "local" else 0
    if chips and how.jobs > chips:
        raise ValueError(f"jobs must be at most the {chips} TPU chips here, got {how.jobs}")
    if engine == "local" and how.jobs * how.cores > available():
        raise ValueError(f"jobs x cores must be at most the {available()} cores here, got {how.jobs} x {how.cores}")


def tasks(plan: Sequence[tuple[Job, Run]], pack: bool) -> list[list[tuple[Job, Run]]]:
    """What has not ended: each job alone, or with `pack` those that can be packed together."""
    found: dict[str, list[tuple[Job, Run]]] = {}
    for job, run in plan:
        if not run.has_ended:
            found.setdefault(packable(job) if pack else text([job]), []).append((job, run))
    return list(found.values())


def state_of(run: Run) -> str:
    """The run's state, "damaged" if its record cannot be read, "new" if it has not begun."""
    begun = any((run.path / name).exists() for name in ("config.json", "status.json"))
    return run.record.row["state"] if begun else "new"


def _row(run: Run, errors: dict[str, str]) -> dict:
    status: dict = {"state": state_of(run)}
    if status["state"] == "damaged":
        status["error"] = f"{run.record.row['reason']}; without {str(run.path)!r} it is trained again"
    elif status["state"] != "new":
        status = run.status
    if status["state"] not in (*ENDED, "damaged"):
        status = {**status, "state": "failed" if run.id in errors else status["state"]}
        status |= {"error": errors[run.id]} if run.id in errors else {}
    return {"run": run.id, "directory": str(run.path), **status}


def _watched(
    ends, planned: list[list[tuple[Job, Run]]], total: int, view: Progress | None
) -> Iterator[tuple[Run, str | None]]:
    """(run, why it failed) as tasks end, their progress shown from what they write, the same for every engine."""
    going = dict(enumerate(planned))
    done = total - sum(map(len, planned))
    looked = -math.inf
    for ended in ends:
        if ended is not None:
            index, found = ended
            task = going.pop(index)
            for (job, run), error in zip(task, found.get("errors", [found.get("error")] * len(task)), strict=True):
                done += 1
                if view:
                    view.note(f"{done}/{total} {run.id}: {error or _said(run)}")
                    view(run.id, steps(job), steps(job), {})
                yield run, error
        if view and time.monotonic() - looked > 1:
            view(f"all {total} runs", done, total, {})
            looked = time.monotonic()
            for job, run in itertools.chain(*going.values()):
                _show(view, job, run)


def _said(run: Run) -> str:
    found = run.record.row
    error = found.get("reason", found.get("test_error"))
    told = f"test error {error:.2f} %" if isinstance(error, int | float) else error
    return ", ".join(filter(None, (found["state"], told)))


def _show(view: Progress, job: Job, run: Run) -> None:
    with contextlib.suppress(ValueError, OSError):
        if run.path.exists() and run.status["state"] == "running" and (log := run.metrics):
            view(run.id, log[-1]["step"], steps(job), log[-1])


def steps(job: Job) -> int:
    """Of the whole run."""
    return job.config.recipe.total_steps(sizes(job.config.data)["train"] // job.config.recipe.batch_size)

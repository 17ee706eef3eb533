"""Everything that a run holds, checked."""

from classicnets.runs import checkpoints
from classicnets.runs.run import Run


def verify(run: Run) -> dict:
    """Return {"run", "checkpoints": good steps, "problems": one sentence each}; nothing is written.

    Checked are the form of the record, its name against its content, the order of the metrics, each file of each
    checkpoint against its SHA-256, and that a complete run has its final checkpoint.
    """
    problems, good = list(run.record.all_problems), []
    for step in checkpoints.steps(run.checkpoints):
        damaged = checkpoints.damage(run.checkpoints, step)
        if damaged:
            problems.append(f"{run.checkpoints / str(step) / damaged} is damaged")
        else:
            good.append(step)
    problems += [f"{path} was set aside, damaged" for path in sorted(run.checkpoints.glob("damaged-*"))]
    return {"run": run.id, "checkpoints": good, "problems": problems}

"""Everything that a run holds, checked."""

from classicnets.runs import checkpoints
from classicnets.runs.identity import belongs
from classicnets.runs.run import Run


def verify(run: Run) -> dict:
    """{"run", "checkpoints": good steps, "problems": one sentence each}; nothing is written.

    Checked are the form of the record, its name against its content, the order of the metrics, each file of each
    checkpoint against its SHA-256, and that a complete run has its final checkpoint.
    """
    problems, good, facts, status = [], [], {}, {}

    def reading(what: str):
        try:
            return getattr(run, what)
        except ValueError as error:
            problems.append(str(error))
            return None

    facts, status, metrics = reading("facts"), reading("status"), reading("metrics")
    reading("environment")
    if facts and not belongs(facts, run.id):
        problems.append(f"{run.path / 'config.json'} does not belong to a run of this name")
    steps = [record["step"] if isinstance(record, dict) and "step" in record else -1 for record in metrics or []]
    if -1 in steps or sorted(set(steps)) != steps:
        problems.append(f"{run.path / 'metrics.jsonl'} does not hold rising steps")
    for step in checkpoints.steps(run.checkpoints):
        bad = checkpoints.damage(run.checkpoints, step)
        if bad:
            problems.append(f"{run.checkpoints / str(step) / bad} is damaged")
        else:
            good.append(step)
    for path in sorted(run.checkpoints.glob("damaged-*")):
        problems.append(f"{path} was set aside, damaged")
    if status and status["state"] == "complete" and status.get("step") not in good:
        problems.append(f"{run.checkpoints} lacks a good checkpoint of the final step {status.get('step')}")
    return {"run": run.id, "checkpoints": good, "problems": problems}

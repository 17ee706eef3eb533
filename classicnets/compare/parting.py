"""Where two runs part, as their records tell."""

import numpy as np

from classicnets.runs import TIMING
from classicnets.runs.record import Recorded


def parting(one: Recorded, other: Recorded) -> dict:
    """Whether two runs are bit-identical, or at which recorded step they differ first, and in what.

    {"identical": True, "step": last} of two complete runs with equal logs and parameters. {"identical": False, "after":
    last step that is equal in both logs, 0 if there is none, "step": first recorded step that is not, "field",
    "values"}. {"identical": None, "after", "step": None} where nothing that both have recorded differs, and one or both
    are not complete, or one goes on longer.
    """
    after, lines = 0, [{line["step"]: line for line in r.log} for r in (one, other)]
    for step in sorted(lines[0].keys() & lines[1].keys()):
        a, b = lines[0][step], lines[1][step]
        field = next((f for f in a if f not in TIMING and f in b and not _equal(f, a[f], b[f])), None)
        if field:
            return {"identical": False, "after": after, "step": step, "field": field, "values": [a[field], b[field]]}
        after = step
    found = {"identical": False, "after": after}
    ends = [_divergence(r) for r in (one, other)]
    step = min((end["step"] for end in ends if end), default=None)
    if step is not None and min(one.last_step, other.last_step) >= step and ends[0] != ends[1]:
        told = [f"{end['tensor']} not finite at step {end['step']}" if end else "finite" for end in ends]
        return {**found, "step": step, "field": "divergence", "values": told}
    if one.complete and other.complete and one.last_step == other.last_step:
        sums = [r.status.get("parameters_sha256") for r in (one, other)]
        if sums[0] != sums[1]:
            return {**found, "step": one.last_step, "field": "parameters_sha256", "values": sums}
        if sums[0] is not None:
            return {"identical": True, "step": one.last_step}
    return {"identical": None, "after": after, "step": None}


def _divergence(recorded: Recorded) -> dict | None:
    """{"step", "tensor"} of the first value that was not finite, None if there was none."""
    status = recorded.status
    return {"step": status.get("step", 0), "tensor": status.get("tensor")} if status["state"] == "diverged" else None


def _equal(field: str, a, b) -> bool:
    """A rate is used in float32; some schedules are logged as they are written, as 0.1, others as they are used."""
    return a == b or (field == "learning_rate" and None not in (a, b) and np.float32(a) == np.float32(b))

"""Where two runs part, as their records tell."""

from typing import Any

import numpy as np

from classicnets.runs import TIMING, Record


def parting(one: Record, other: Record) -> dict:
    """Return whether two runs are bit-identical, or at which recorded step they differ first, and in what.

    {"identical": True, "step": last} of two complete runs with equal logs and parameters. {"identical": False, "after":
    last step that is equal in both logs, 0 if there is none, "step": first recorded step that is not, "field",
    "values"}. {"identical": None, "after", "step": None} where nothing that both have recorded differs, and one or both
    are not complete, or one goes on longer.
    """
    after, lines = 0, [{line["step"]: line for line in record.log} for record in (one, other)]
    for step in sorted(lines[0].keys() & lines[1].keys()):
        a, b = lines[0][step], lines[1][step]
        field = next((f for f in a if f not in TIMING and f in b and not _equal(f, a[f], b[f])), None)
        if field:
            return {"identical": False, "after": after, "step": step, "field": field, "values": [a[field], b[field]]}
        after = step
    step, ends = min(one.last_step, other.last_step), [_divergence(record) for record in (one, other)]
    first = min((end["step"] for end in ends if end), default=None)
    if first is not None and step >= first and ends[0] != ends[1]:
        values = [f"{end['tensor']} not finite at step {end['step']}" if end else "finite" for end in ends]
        return {"identical": False, "after": after, "step": first, "field": "divergence", "values": values}
    if one.complete and other.complete and one.last_step == other.last_step:
        field, values = "parameters_sha256", [record.status.get("parameters_sha256") for record in (one, other)]
        if values[0] != values[1]:
            return {"identical": False, "after": after, "step": step, "field": field, "values": values}
        if values[0] is not None:
            return {"identical": True, "step": step}
    return {"identical": None, "after": after, "step": None}


def _divergence(record: Record) -> dict | None:
    """Return {"step", "tensor"} of the first value that was not finite, None if there was none."""
    status = record.status
    return {"step": status.get("step", 0), "tensor": status.get("tensor")} if status["state"] == "diverged" else None


def _equal(field: str, a: Any, b: Any) -> bool:
    """Return whether two values are equal; a rate is used in float32, and schedules log 0.1 as written or as used."""
    return a == b or (field == "learning_rate" and None not in (a, b) and np.float32(a) == np.float32(b))

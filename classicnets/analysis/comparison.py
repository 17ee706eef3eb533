"""Runs side by side, from their records alone: what differs, by how much, and whether that is more than the seeds."""

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classicnets.analysis.verdict import holm
from classicnets.runs import Run
from classicnets.runs.environment import differences
from classicnets.runs.table import flat

RESULTS = ("train_error", "validation_error", "test_error")
# What the log says of the time that something took, which no two runs share.
TIMING = ("seconds", "images_per_second")
LEVEL = 0.95


def compare(runs: Sequence[Run]) -> dict:
    """{"sentence", "runs", "configuration", "environment", "warnings", "groups", "pairs"} of readable runs.

    configuration, environment: {field: [value of each run]}, only where they differ. groups: the runs that differ in
    nothing but the seed, with n, mean and standard deviation of what they reached. pairs: each two groups with seeds in
    common, the mean difference over these (later minus earlier) with its 95 % interval of Student's t, and p, corrected
    over all pairs and metrics by Holm's method.
    """
    facts = [flat(run.facts) for run in runs]
    checksums = [run.facts["data"].get("sha256") for run in runs]
    groups = _groups(runs, facts)
    return {
        "sentence": _sentence(_differing(facts)),
        "runs": [run.id for run in runs],
        "states": [run.status["state"] for run in runs],
        "configuration": _differing(facts),
        "environment": _environments(runs),
        "warnings": _warnings(runs, facts, checksums),
        "groups": [group["facts"] for group in groups],
        "pairs": _pairs(groups),
    }


def parting(one: Run, other: Run) -> dict:
    """Whether two runs are bit-identical as their records tell, or the first logged step and field that differ.

    {"identical": True, "step": last}, or {"identical": False, "after": last step that is equal in both logs, 0 if there
    is none, "step": first logged step that is not, "field", "values"}; "step" is None if one log only goes on longer.
    """
    after = 0
    logs = [[line for line in run.metrics if "step" in line] for run in (one, other)]
    lines = [{line["step"]: line for line in log} for log in logs]
    for step in sorted(lines[0].keys() & lines[1].keys()):
        a, b = lines[0][step], lines[1][step]
        fields = [f for f in a if f not in TIMING and f in b and not _equal(f, a[f], b[f])]
        if fields:
            values = [a[fields[0]], b[fields[0]]]
            return {"identical": False, "after": after, "step": step, "field": fields[0], "values": values}
        after = step
    status = one.status, other.status
    for field in ("step", "state", "parameters_sha256"):
        values = [s.get(field) for s in status]
        if values[0] != values[1]:
            return {"identical": False, "after": after, "step": None, "field": field, "values": values}
    return {"identical": True, "step": status[0].get("step")}


def _equal(field: str, a, b) -> bool:
    """A rate is used in float32; some schedules are logged as they are written, as 0.1, others as they are used."""
    return a == b or (field == "learning_rate" and None not in (a, b) and np.float32(a) == np.float32(b))


def _sentence(differing: Mapping[str, list]) -> str:
    """In what the configurations differ: no more and no less."""
    if not differing:
        return "the configurations do not differ"
    told = [f"{field} ({', '.join(dict.fromkeys(map(str, values)))})" for field, values in differing.items()]
    return f"the configurations differ only in {' and '.join(told)}"


def _differing(facts: Sequence[Mapping]) -> dict[str, list]:
    fields = dict.fromkeys(field for one in facts for field in one)
    found = {field: [one.get(field) for one in facts] for field in fields}
    return {field: values for field, values in found.items() if any(v != values[0] for v in values)}


def _environments(runs: Sequence[Run]) -> dict[str, list]:
    """The last segment of each run, where one differs; the versions of packages each by its name."""
    segments = [run.environment[-1] if run.environment else {} for run in runs]
    plain = [{**s, **s.get("versions", {}), "versions": None, "started": None} for s in segments]
    texts = [{k: v for k, v in p.items() if k != "uncommitted_diff"} for p in plain]
    return _differing(texts)


def _warnings(runs: Sequence[Run], facts: Sequence[Mapping], checksums: Sequence) -> list[str]:
    """What makes a comparison unfair, or bits differ without a cause in the configuration."""
    found = []
    first = runs[0].environment[-1] if runs[0].environment else {}
    for run in runs[1:]:
        there = run.environment[-1] if run.environment else {}
        if first and there:
            found += [f"{runs[0].id} and {run.id} differ in {what}" for what in differences(first, there)]
    if len({one.get("batch_norm") for one in facts}) > 1:
        found.append("batch norm is synchronised in some and per replica in others")
    by_name: dict[str, set] = {}
    for one, checksum in zip(facts, checksums, strict=True):
        by_name.setdefault(json.dumps([one.get("dataset"), one.get("train_size")]), set()).add(checksum)
    if any(len(sums) > 1 for sums in by_name.values()):
        found.append("the data have different checksums under one name")
    for run in runs:
        if run.status["state"] != "complete":
            found.append(f"{run.id} is {run.status['state']}: its last logged step stands for its end")
    return found


def _groups(runs: Sequence[Run], facts: Sequence[Mapping]) -> list[dict]:
    """[{"facts": what is told of the group, "values": {metric: {seed: value}}, "logs": {seed: log}}]."""
    keyed: dict[str, dict[int, Run]] = {}
    for run, one in zip(runs, facts, strict=True):
        key = json.dumps({k: v for k, v in one.items() if k != "seed"}, sort_keys=True, default=str)
        keyed.setdefault(key, {})[one["seed"]] = run
    varied = [field for field in _differing([json.loads(key) for key in keyed]) if field != "seed"]
    groups = []
    for key, members in keyed.items():
        described = json.loads(key)
        logs = {seed: [line for line in run.metrics if "step" in line] for seed, run in members.items()}
        values = {
            name: _per_seed(name, logs) for name in (*RESULTS, *(f"best_{r}" for r in RESULTS), "mean_test_error")
        }
        told = {name: summary(list(v.values())) for name, v in values.items() if v}
        label = ", ".join(f"{field} {described.get(field)}" for field in varied) or described.get("model", "")
        ids = [run.id for run in members.values()]
        groups.append(
            {"facts": {"label": label, "runs": ids, "seeds": list(members), **told}, "values": values, "logs": logs}
        )
    return groups


def _per_seed(name: str, logs: Mapping[int, list[dict]]) -> dict[int, float]:
    """A metric of each seed: at the end, at the step of the least validation error, or the mean of its curve."""
    found = {}
    for seed, log in logs.items():
        kind, _, metric = name.partition("_") if name.startswith(("best_", "mean_")) else ("", "", name)
        lines = [line for line in log if line.get(metric) is not None]
        if kind == "best":
            lines = [line for line in lines if line.get("validation_error") is not None]
            value = min(lines, key=lambda line: (line["validation_error"], line["step"]))[metric] if lines else None
        elif kind == "mean":
            value = statistics.fmean(line[metric] for line in lines) if lines else None
        else:
            value = lines[-1][metric] if lines else None
        if value is not None:
            found[seed] = value
    return found


def summary(values: Sequence[float]) -> dict[str, Any]:
    """{"mean", "std" (of the sample, None for one value), "n"}."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "n": len(values)}


def _pairs(groups: Sequence[dict]) -> list[dict]:
    found = []
    for one, other in itertools.combinations(groups, 2):
        shared = [seed for seed in one["logs"] if seed in other["logs"]]
        step = _last_common_step([*(one["logs"][s] for s in shared), *(other["logs"][s] for s in shared)])
        if step is None:
            continue
        at = [{seed: _at(group["logs"][seed], step) for seed in shared} for group in (one, other)]
        for metric in RESULTS:
            differences_ = [
                b[metric] - a[metric]
                for a, b in ((at[0][seed], at[1][seed]) for seed in shared)
                if a.get(metric) is not None and b.get(metric) is not None
            ]
            if differences_:
                labels = {"from": one["facts"]["label"], "to": other["facts"]["label"]}
                found.append({**labels, "metric": metric, "step": step, **paired(differences_)})
    corrected = holm({str(i): pair["p"] for i, pair in enumerate(found) if pair["p"] is not None})
    return [{**pair, "p_holm": corrected.get(str(i))} for i, pair in enumerate(found)]


def paired(differences_: Sequence[float]) -> dict:
    """{"mean", "low", "high", "p", "n"}: two-sided t-test of paired differences against 0; None where n is 1."""
    n, mean = len(differences_), statistics.fmean(differences_)
    if n == 1:
        return {"mean": mean, "low": None, "high": None, "p": None, "n": n}
    from scipy import stats

    error = statistics.stdev(differences_) / math.sqrt(n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    # Without spread the statistic is infinite, or 0 / 0 where there is no difference either.
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error else (1.0 if mean == 0 else 0.0)
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "p": p, "n": n}


def _last_common_step(logs: Sequence[list[dict]]) -> int | None:
    """The last step that all logs have with an evaluation."""
    steps = [{line["step"] for line in log if line.get("test_error") is not None} for log in logs]
    return max(set.intersection(*steps), default=None) if steps else None


def _at(log: list[dict], step: int) -> dict:
    return next(line for line in log if line["step"] == step)


def readable(rows: Sequence[dict]) -> tuple[list[Run], list[dict]]:
    """(runs that can be compared, rows of those that are damaged or have logged nothing, each with its reason)."""
    good, bad = [], []
    for row in rows:
        run = Run(Path(row["directory"]))
        if row["state"] == "damaged":
            bad.append(row)
            continue
        try:
            empty = not run.metrics
        except ValueError as error:
            bad.append({**row, "state": "damaged", "reason": str(error)})
            continue
        if empty:
            bad.append({**row, "reason": "it has logged nothing yet"})
        else:
            good.append(run)
    return good, bad

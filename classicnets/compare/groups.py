"""Runs side by side, from their records alone: what differs, by how much, and whether that is more than the seeds."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from numbers import Real
from typing import Any

from classicnets.compare.statistics import holm
from classicnets.runs.record import RESULTS, Recorded, configurations, differing, lineages, names, of_some_models
from classicnets.system.environment import differences

METRICS = (*RESULTS, *(f"best_{r}" for r in RESULTS), "mean_test_error")
LEVEL = 0.95
# Differences that spread less, in points of percent, are equal but for their rounding.
ROUNDING = 1e-9
# Values of a field, and names of runs, that a sentence lists.
LISTED, NAMED = 6, 3
# Groups among which differences of a single seed are told: they say nothing of chance, and grow with the square.
SINGLE = 20


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, by name; fields: in what the group differs from others."""

    label: str
    fields: dict[str, Any]
    runs: dict[str, Recorded]

    @cached_property
    def counted(self) -> dict[int, dict[int, dict]]:
        """{seed: {step: evaluated line}} of the complete runs, or of all if none is; of one seed the first."""
        evaluated: dict[bool, dict[int, dict[int, dict]]] = {True: {}, False: {}}
        for run in self.runs.values():
            lines = {line["step"]: line for line in run.log if line.get("test_error") is not None}
            if lines:
                evaluated[run.complete].setdefault(run.facts["seed"], lines)
        return evaluated[True] or evaluated[False]

    @cached_property
    def steps(self) -> list[int]:
        """Those at which every run that counts was evaluated."""
        return sorted(set.intersection(*(set(lines) for lines in self.counted.values()))) if self.counted else []

    def values(self, metric: str) -> dict[int, float]:
        """By seed: at the last of the steps, at that of the least validation error, or the mean over all of them."""
        found = {}
        for seed, at in self.counted.items():
            lines = [at[step] for step in self.steps]
            if metric.startswith("best_"):
                judged = [line for line in lines if line.get("validation_error") is not None]
                lines = [min(judged, key=lambda line: line["validation_error"])] if judged else []
            mean = metric.startswith("mean_")
            name = metric.removeprefix("best_").removeprefix("mean_")
            values = [line[name] for line in (lines if mean else lines[-1:]) if line.get(name) is not None]
            if values:
                found[seed] = statistics.fmean(values)
        return found

    @property
    def told(self) -> dict:
        summaries = {metric: summary(list(values.values())) for metric in METRICS if (values := self.values(metric))}
        return {
            "label": self.label,
            "fields": self.fields,
            "runs": list(self.runs),
            "seeds": [run.facts["seed"] for run in self.runs.values()],
            "counted": list(self.counted),
            "step": self.steps[-1] if self.steps else None,
            **summaries,
        }


def compare(runs: Sequence[Recorded]) -> dict:
    """{"sentence", "runs", "configuration", "environment", "warnings", "groups", "pairs", ...} of readable runs.

    configuration, environment: {field: [value of each run]}, only where they differ. groups: the runs that differ in
    nothing but the seed, with n, mean and standard deviation of what they reached: of the complete ones, or if none is,
    of all at the last step that all have. pairs: each two groups with seeds and steps in common, the mean difference
    over these (second minus first) at the last such step, with its 95 % interval of Student's t, and p, corrected over
    all pairs and metrics ("tests") by Holm's method. unpaired: how many have none in common, or among more than 20
    groups only one seed.
    """
    facts, called = configurations(runs), names(runs)
    groups = _groups(runs, facts, called)
    pairs, unpaired = _pairs(groups)
    warnings = _warnings(runs, facts, called, groups)
    if unpaired:
        warnings.append(
            f"pairs of groups with no seed and step in common, or only one seed, not compared: {unpaired:,}"
        )
    shorter = sum(pair["metric"] == "test_error" and max(pair["ends"]) > pair["step"] for pair in pairs)
    if shorter:
        warnings.append(f"pairs of groups compared before the end of one, at the last step of both: {shorter:,}")
    configuration = differing(facts)
    segments = [_segment(run) for run in runs]
    return {
        "sentence": _sentence(configuration, facts)
        if len(runs) > 1
        else f"there is nothing to compare {called[0]} with",
        "runs": called,
        "directories": [str(run.run.path) for run in runs],
        "states": [run.status["state"] for run in runs],
        "configuration": configuration,
        "environment": differing(segments),
        "warnings": warnings,
        "groups": [group.told for group in groups],
        "pairs": pairs,
        "tests": sum(pair["p"] is not None for pair in pairs),
        "unpaired": unpaired,
    }


def _sentence(configuration: dict[str, list], facts: Sequence[dict]) -> str:
    """In what the configurations differ: no more and no less."""
    if not configuration:
        return "the configurations do not differ"
    own = [field for field in configuration if of_some_models(field, facts)]
    told = [f"{field} ({_values(values)})" for field, values in configuration.items() if field not in own]
    told += [f"what only some of the models have ({', '.join(own)})"] if own else []
    return f"the configurations differ only in {' and '.join(filter(None, (', '.join(told[:-1]), told[-1])))}"


def _values(values: Sequence) -> str:
    """Each once, or their number and range where they are many."""
    distinct = list(dict.fromkeys(map(str, values)))
    if len(distinct) <= LISTED:
        return ", ".join(distinct)
    numbers = [v for v in values if isinstance(v, Real)]
    reach = f", {min(numbers)} to {max(numbers)}" if len(numbers) == len(values) else ""
    return f"{len(distinct)} values{reach}"


def _segment(run: Recorded) -> dict:
    """Under what the run was computed last: versions by their packages, other parts by part and name."""
    found = {}
    for key, value in (run.environment[-1] if run.environment else {}).items():
        if isinstance(value, dict):
            found |= {name if key == "versions" else f"{key}.{name}": one for name, one in value.items()}
        elif key not in ("started", "uncommitted_diff"):
            found[key] = value
    return found


def _warnings(runs: Sequence[Recorded], facts: Sequence[dict], called: list[str], groups: list[Group]) -> list[str]:
    """What makes a comparison unfair, or bits differ without a cause in the configuration; equal ones gathered."""
    found = []
    if any("data_sha256" in one for one in facts):
        found.append("the data have different checksums under one name")
    if len({one.get("batch_norm") for one in facts}) > 1:
        found.append("batch norm is synchronised in some and per replica in others")
    found += _unfinished(groups)
    for group in groups:
        seeds = [run.facts["seed"] for run in group.runs.values()]
        if len(set(seeds)) < len(seeds):
            again = [name for i, name in enumerate(group.runs) if seeds[i] in seeds[:i]]
            found.append(f"of one configuration and seed, which counts once, there is also {_listed(again)}")
    resumed: dict[str, list[str]] = {}
    for name, run in zip(called, runs, strict=True):
        for before, after in itertools.pairwise(run.environment):
            for what in differences(before, after):
                resumed.setdefault(what, []).append(name)
    found += [f"resumed under other conditions ({what}): {_listed(who)}" for what, who in _most(resumed)]
    there = [(name, run.environment[-1]) for name, run in zip(called, runs, strict=True) if run.environment]
    others: dict[str, list[str]] = {}
    for name, segment in there[1:]:
        for what in differences(there[0][1], segment):
            others.setdefault(what, []).append(name)
    for what, who in _most(others):
        if len(runs) == 2:
            found.append(f"{called[0]} and {called[1]} differ in {what}")
        else:
            which = f" ({', '.join(who)})" if len(who) <= NAMED else ""
            found.append(f"{len(who)} of {len(runs)} runs{which} differ from {there[0][0]} in {what}")
    return found


def _unfinished(groups: list[Group]) -> list[str]:
    gathered: dict[tuple[str, bool], list[str]] = {}
    for group in groups:
        none = not any(run.complete for run in group.runs.values())
        for name, run in group.runs.items():
            if not run.complete:
                gathered.setdefault((run.status["state"], none), []).append(name)
    found = []
    for (state, none), who in gathered.items():
        means = "no run of the group is complete, the means are of an earlier step" if none else "not in the means"
        found.append(f"{f'{len(who)} runs are' if len(who) > 1 else '1 run is'} {state} ({means}): {_listed(who)}")
    return found


def _most(gathered: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    return sorted(gathered.items(), key=lambda item: -len(item[1]))


def _listed(who: Sequence[str]) -> str:
    more = f" and {len(who) - NAMED} more" if len(who) > NAMED else ""
    return ", ".join(who[:NAMED]) + more


def _groups(runs: Sequence[Recorded], facts: Sequence[dict], called: list[str]) -> list[Group]:
    keyed: dict[str, dict[str, int]] = {}
    for i, (key, name) in enumerate(zip(lineages(runs), called, strict=True)):
        keyed.setdefault(key, {})[name] = i
    shared = []
    for members in keyed.values():
        every = [facts[i] for i in members.values()]
        shared.append({k: v for k, v in every[0].items() if k != "seed" and all(one.get(k) == v for one in every)})
    varied = [
        field
        for field in differing(shared)
        if not of_some_models(field, shared) or differing([one for one in shared if field in one]).get(field)
    ]
    groups = []
    for members, one in zip(keyed.values(), shared, strict=True):
        fields = {field: one[field] for field in varied if field in one}
        label = ", ".join(f"{field} {value}" for field, value in fields.items()) or one["model"]
        groups.append(Group(label, fields, {name: runs[i] for name, i in members.items()}))
    return groups


def summary(values: Sequence[float]) -> dict[str, Any]:
    """{"mean", "std" (of the sample, None for one value), "n"}."""
    return {"mean": statistics.fmean(values), "std": _std(values) if len(values) > 1 else None, "n": len(values)}


def _std(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _pairs(groups: Sequence[Group]) -> tuple[list[dict], int]:
    """(pairs, how many groups have nothing in common)."""
    found, unpaired = [], 0
    for one, other in itertools.combinations(groups, 2):
        seeds = [seed for seed in one.counted if seed in other.counted]
        step = max(set(one.steps).intersection(other.steps), default=None)
        if step is None or not seeds or (len(seeds) == 1 and len(groups) > SINGLE):
            unpaired += 1
            continue
        lines = [(one.counted[seed][step], other.counted[seed][step]) for seed in seeds]
        told = {
            "from": one.label,
            "to": other.label,
            "fields": list(differing([one.fields, other.fields])),
            "step": step,
            "ends": [one.steps[-1], other.steps[-1]],
        }
        for metric in RESULTS:
            both = [(a[metric], b[metric]) for a, b in lines if None not in (a.get(metric), b.get(metric))]
            if both:
                found.append({**told, "metric": metric, **paired([b - a for a, b in both])})
    corrected = holm({str(i): pair["p"] for i, pair in enumerate(found) if pair["p"] is not None})
    return [{**pair, "p_holm": corrected.get(str(i))} for i, pair in enumerate(found)], unpaired


def paired(differences_: Sequence[float]) -> dict:
    """{"mean", "low", "high", "p", "n"}: two-sided t-test of paired differences against 0.

    None but for mean and n where their spread, by which the test goes, is not known: for one, or for equal ones.
    """
    n, mean = len(differences_), statistics.fmean(differences_)
    error = _std(differences_) / math.sqrt(n) if n > 1 else 0.0
    if error < ROUNDING:
        return {"mean": mean, "low": None, "high": None, "p": None, "n": n}
    from scipy.special import stdtr

    reach = _quantile(n - 1) * error
    return {
        "mean": mean,
        "low": mean - reach,
        "high": mean + reach,
        "p": 2 * float(stdtr(n - 1, -abs(mean) / error)),
        "n": n,
    }


@cache
def _quantile(freedom: int) -> float:
    """Within which, up or down, LEVEL of Student's t lies."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))

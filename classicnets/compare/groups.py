"""Runs side by side, from their records alone: what differs, by how much, and whether that is more than the seeds."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

from classicnets.compare.configurations import configurations, differing, lineages, of_some_models
from classicnets.compare.statistics import holm, paired
from classicnets.runs import ENDED, Record
from classicnets.runs.index import names
from classicnets.system.environment import differences

RESULTS = ("train_error", "validation_error", "test_error")
METRICS = (*RESULTS, *(f"best_{r}" for r in RESULTS), "mean_test_error")
# Values of a field, and names of runs, that a sentence lists.
LISTED, NAMED = 6, 3
# Groups among which differences of a single seed are told: they say nothing of chance, and grow with the square.
SINGLE = 20


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, by name; fields: in what the group differs from others."""

    label: str
    fields: dict[str, Any]
    runs: dict[str, Record]

    @cached_property
    def counted(self) -> dict[int, dict[int, dict]]:
        """Return {seed: {step: evaluated line}} of the complete runs, or of all if none is; of one seed the first."""
        evaluated: dict[bool, dict[int, dict[int, dict]]] = {True: {}, False: {}}
        for record in self.runs.values():
            lines = {line["step"]: line for line in record.log if line.get("test_error") is not None}
            if lines:
                evaluated[record.complete].setdefault(record.facts["seed"], lines)
        return evaluated[True] or evaluated[False]

    @cached_property
    def steps(self) -> list[int]:
        """Return the steps at which every run that counts was evaluated."""
        return sorted(set.intersection(*(set(lines) for lines in self.counted.values()))) if self.counted else []

    @property
    def seeds(self) -> list[int]:
        """Return the seed of each run."""
        return [record.facts["seed"] for record in self.runs.values()]

    def values(self, metric: str) -> list[float]:
        """Return a metric of each run that counts and has it.

        It is that of the last of the steps, "best_" of the step of the least validation error, "mean_" over all steps.
        """
        values = []
        for evaluated in self.counted.values():
            lines = [evaluated[step] for step in self.steps]
            if metric.startswith("best_"):
                judged = [line for line in lines if line.get("validation_error") is not None]
                lines = [min(judged, key=lambda line: line["validation_error"])] if judged else []
            name = metric.removeprefix("best_").removeprefix("mean_")
            lines = lines if metric.startswith("mean_") else lines[-1:]
            run_values = [line[name] for line in lines if line.get(name) is not None]
            values += [statistics.fmean(run_values)] if run_values else []
        return values

    @property
    def summary(self) -> dict:
        """Return the group as JSON, with {"mean", "std" (of the sample, None for one value), "n"} of each metric."""
        metrics = {metric: values for metric in METRICS if (values := self.values(metric))}
        return {
            "label": self.label,
            "fields": self.fields,
            "runs": list(self.runs),
            "seeds": self.seeds,
            "counted": list(self.counted),
            "step": self.steps[-1] if self.steps else None,
            **{
                metric: {
                    "mean": statistics.fmean(values),
                    "std": statistics.stdev(values) if len(values) > 1 else None,
                    "n": len(values),
                }
                for metric, values in metrics.items()
            },
        }


def comparable(records: Sequence[Record]) -> tuple[list[Record], list[dict]]:
    """Return the records that can be compared, and {"run", "reason"} of each that is damaged or has logged nothing."""
    good, left_out = [], []
    for record in records:
        problems = record.all_problems
        if not problems and not record.log and record.status["state"] not in ENDED:
            problems = ("it has logged nothing yet",)
        if problems:
            left_out.append({"run": record.row["run"], "reason": problems[0]})
        else:
            good.append(record)
    return good, left_out


def compare(records: Sequence[Record]) -> dict:
    """Return {"sentence", "runs", "configuration", "environment", "warnings", "groups", "pairs", ...} of whole records.

    configuration, environment: {field: [value of each run]}, only where they differ. groups: the runs that differ in
    nothing but the seed, with n, mean and standard deviation of what they reached: of the complete ones, or if none is,
    of all at the last step that all have. pairs: each two groups with seeds and steps in common, the mean difference
    over these (second minus first) at the last such step, with p of the exact sign-flip test, corrected over all pairs
    and metrics ("tests") by Holm's method, and the 95 % interval of Student's t. unpaired: how many have none in
    common, or among more than 20 groups only one seed.
    """
    fields, ids = configurations(records), names(records)
    groups = _grouped(records, fields, ids)
    pairs, unpaired = _paired(groups)
    configuration = differing(fields)
    alone = f"there is nothing to compare {ids[0]} with"
    return {
        "sentence": _sentence(configuration, fields) if len(records) > 1 else alone,
        "runs": ids,
        "directories": [str(record.path) for record in records],
        "states": [record.status["state"] for record in records],
        "configuration": configuration,
        "environment": differing([_last_segment(record) for record in records]),
        "warnings": [*_warnings(fields, groups), *_conditions(records, ids), *_pairing(pairs, unpaired)],
        "groups": [group.summary for group in groups],
        "pairs": pairs,
        "tests": sum(pair["p"] is not None for pair in pairs),
        "unpaired": unpaired,
    }


def _sentence(configuration: dict[str, list], fields: Sequence[dict]) -> str:
    """Return in what the configurations differ: no more and no less."""
    if not configuration:
        return "the configurations do not differ"
    own = [field for field in configuration if of_some_models(field, fields)]
    parts = [f"{field} ({_values(values)})" for field, values in configuration.items() if field not in own]
    parts += [f"what only some of the models have ({', '.join(own)})"] if own else []
    return f"the configurations differ only in {' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))}"


def _values(values: Sequence) -> str:
    """Return each value once, or their number and range where they are many."""
    distinct = list(dict.fromkeys(map(str, values)))
    if len(distinct) <= LISTED:
        return ", ".join(distinct)
    numbers = [value for value in values if isinstance(value, Real)]
    reach = f", {min(numbers)} to {max(numbers)}" if len(numbers) == len(values) else ""
    return f"{len(distinct)} values{reach}"


def _last_segment(record: Record) -> dict:
    """Return under what the run was computed last: versions by their packages, other parts by part and name."""
    flat = {}
    for key, value in (record.environment[-1] if record.environment else {}).items():
        if isinstance(value, dict):
            flat |= {name if key == "versions" else f"{key}.{name}": part for name, part in value.items()}
        elif key not in ("started", "uncommitted_diff"):
            flat[key] = value
    return flat


def _warnings(fields: Sequence[dict], groups: Sequence[Group]) -> list[str]:
    """Return what in the configurations and the groups makes a comparison unfair."""
    warnings = []
    numerics = sorted({run["numerics"] for run in fields if isinstance(run.get("numerics"), int)})
    if len(numerics) > 1:
        versions = " and ".join(map(str, numerics))
        warnings.append(f"of NUMERICS {versions}, between which an unchanged configuration can give other bits")
    if any("data_sha256" in run for run in fields):
        warnings.append("the data have different checksums under one name")
    if len({run.get("batch_norm") for run in fields}) > 1:
        warnings.append("batch norm is synchronised in some and per replica in others")
    unfinished = [
        ((record.status["state"], any(other.complete for other in group.runs.values())), name)
        for group in groups
        for name, record in group.runs.items()
        if not record.complete
    ]
    for (state, some), ids in _gathered(unfinished):
        means = "not in the means" if some else "no run of the group is complete, the means are of an earlier step"
        runs = f"{len(ids)} runs are" if len(ids) > 1 else "1 run is"
        warnings.append(f"{runs} {state} ({means}): {_listed(ids)}")
    for group in groups:
        again = [name for i, name in enumerate(group.runs) if group.seeds[i] in group.seeds[:i]]
        if again:
            warnings.append(f"of one configuration and seed, which counts once, there is also {_listed(again)}")
    return warnings


def _conditions(records: Sequence[Record], ids: Sequence[str]) -> list[str]:
    """Return what lets bits differ without a cause in the configuration: versions, processors and their like."""
    named = list(zip(ids, records, strict=True))
    resumed = _gathered(
        (difference, name)
        for name, record in named
        for before, after in itertools.pairwise(record.environment)
        for difference in differences(before, after)
    )
    warnings = [f"resumed under other conditions ({difference}): {_listed(who)}" for difference, who in resumed]
    (first, usual), *others = [(name, r.environment[-1]) for name, r in named if r.environment] or [("", {})]
    for difference, who in _gathered((d, name) for name, segment in others for d in differences(usual, segment)):
        if len(records) == 2:
            warnings.append(f"{ids[0]} and {ids[1]} differ in {difference}")
        else:
            which = f" ({', '.join(who)})" if len(who) <= NAMED else ""
            warnings.append(f"{len(who)} of {len(records)} runs{which} differ from {first} in {difference}")
    return warnings


def _pairing(pairs: Sequence[dict], unpaired: int) -> list[str]:
    """Return which pairs of groups are not compared, or not at the end of both."""
    shorter = sum(pair["metric"] == "test_error" and max(pair["ends"]) > pair["step"] for pair in pairs)
    counts = {
        "pairs of groups with no seed and step in common, or only one seed, not compared": unpaired,
        "pairs of groups compared before the end of one, at the last step of both": shorter,
    }
    return [f"{what}: {count:,}" for what, count in counts.items() if count]


def _gathered(pairs: Iterable[tuple[Any, str]]) -> list[tuple[Any, list[str]]]:
    """Return [(key, [its names])] of (key, name), the commonest key first."""
    gathered: dict[Any, list[str]] = {}
    for key, name in pairs:
        gathered.setdefault(key, []).append(name)
    return sorted(gathered.items(), key=lambda item: -len(item[1]))


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more


def _grouped(records: Sequence[Record], fields: Sequence[dict], ids: Sequence[str]) -> list[Group]:
    members: dict[str, list[int]] = {}
    for i, lineage in enumerate(lineages(records)):
        members.setdefault(lineage, []).append(i)
    shared = []
    for first, *others in members.values():
        same = {k: v for k, v in fields[first].items() if all(fields[i].get(k) == v for i in others)}
        shared.append({field: value for field, value in same.items() if field != "seed"})
    varied = [
        field
        for field in differing(shared)
        if not of_some_models(field, shared) or differing([own for own in shared if field in own]).get(field)
    ]
    groups = []
    for indices, own in zip(members.values(), shared, strict=True):
        which = {field: own[field] for field in varied if field in own}
        label = ", ".join(f"{field} {value}" for field, value in which.items()) or own["model"]
        groups.append(Group(label, which, {ids[i]: records[i] for i in indices}))
    return groups


def _paired(groups: Sequence[Group]) -> tuple[list[dict], int]:
    """Return (the differences of each two groups, how many groups have nothing in common)."""
    pairs, unpaired = [], 0
    for first, second in itertools.combinations(groups, 2):
        seeds = [seed for seed in first.counted if seed in second.counted]
        step = max(set(first.steps).intersection(second.steps), default=None)
        if step is None or not seeds or (len(seeds) == 1 and len(groups) > SINGLE):
            unpaired += 1
            continue
        lines = [(first.counted[seed][step], second.counted[seed][step]) for seed in seeds]
        pair = {
            "from": first.label,
            "to": second.label,
            "fields": list(differing([first.fields, second.fields])),
            "step": step,
            "ends": [first.steps[-1], second.steps[-1]],
        }
        for metric in RESULTS:
            both = [(a[metric], b[metric]) for a, b in lines if None not in (a.get(metric), b.get(metric))]
            if both:
                pairs.append({**pair, "metric": metric, **paired([b - a for a, b in both], alternative="two-sided")})
    corrected = holm({str(i): pair["p"] for i, pair in enumerate(pairs) if pair["p"] is not None})
    return [{**pair, "p_holm": corrected.get(str(i))} for i, pair in enumerate(pairs)], unpaired

"""Records as they are compared: each file read once, and checked for what a comparison takes from it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classicnets.runs import ENDED, Run
from classicnets.runs.identity import deciding
from classicnets.runs.table import flat, is_number

RESULTS = ("train_error", "validation_error", "test_error")
# What follows from another field of the configuration, unless one value of that comes with several.
IMPLIED = {"data_sha256": "dataset", "source_sha256": "model", "program_sha256": "model", "module": "model"}


@dataclass(frozen=True)
class Recorded:
    """A run's record; fields: all that decides its numbers, flat. The log's steps rise."""

    run: Run
    facts: dict
    fields: dict
    status: dict
    environment: list[dict]
    log: list[dict]

    @classmethod
    def of(cls, run: Run) -> "Recorded":
        """Raises ValueError naming the file that is damaged."""
        facts, status = run.facts, run.status
        if type(status.get("step", 0)) is not int:
            raise ValueError(f"{run.path / 'status.json'} is damaged: step is {status['step']!r}")
        return cls(run, facts, _fields(facts), status, _environment(run), _log(run))

    @property
    def complete(self) -> bool:
        return self.status["state"] == "complete"

    @property
    def last_step(self) -> int:
        """The last that is saved or logged."""
        return max(self.status.get("step", 0), self.log[-1]["step"] if self.log else 0)


def readable(rows: Sequence[dict]) -> tuple[list[Recorded], list[dict]]:
    """(runs that can be compared, rows of those that are damaged or have logged nothing yet, each with its reason)."""
    good, bad = [], []
    for row in rows:
        if row["state"] == "damaged":
            bad.append(row)
            continue
        try:
            recorded = Recorded.of(Run(Path(row["directory"])))
        except ValueError as error:
            bad.append({**row, "state": "damaged", "reason": str(error)})
            continue
        if recorded.log or recorded.status["state"] in ENDED:
            good.append(recorded)
        else:
            bad.append({**row, "reason": "it has logged nothing yet"})
    return good, bad


def names(runs: Sequence[Recorded]) -> list[str]:
    """The id of each run, led by its experiment where several have that id, or by its root where that is not enough."""
    ids, led = ([str(Path(*r.run.path.parts[-count:])) for r in runs] for count in (1, 2))
    times, again = Counter(ids), Counter(led)
    return [
        one if times[one] == 1 else two if again[two] == 1 else str(r.run.path)
        for one, two, r in zip(ids, led, runs, strict=True)
    ]


def configurations(runs: Sequence[Recorded]) -> list[dict]:
    """The fields of each run, but for those that say no more than another does."""
    implied = {
        name
        for name, of in IMPLIED.items()
        if len({(r.fields.get(of), r.fields.get(name)) for r in runs}) == len({r.fields.get(of) for r in runs})
    }
    return [{k: v for k, v in r.fields.items() if k not in implied} for r in runs]


def differing(facts: Sequence[dict]) -> dict[str, list]:
    """{field: [value in each of `facts`, None where it lacks the field]}, only where they differ."""
    fields = dict.fromkeys(field for one in facts for field in one)
    found = {field: [one.get(field) for one in facts] for field in fields}
    return {field: values for field, values in found.items() if any(v != values[0] for v in values)}


def of_some_models(field: str, facts: Sequence[dict]) -> bool:
    """Whether some of `facts` lack a field because their network has none of that name."""
    having = {one["model"] for one in facts if field in one}
    lacking = {one["model"] for one in facts if field not in one}
    return bool(lacking) and having.isdisjoint(lacking)


def lineages(runs: Sequence[Recorded]) -> list[str]:
    """What each run has in common with those that differ from it in nothing but the seed, as text.

    Forks of one parent are alike. Another fork of a run of its own seed is told by that run's lineage, so that forks of
    several seeds are as alike as what they come from.
    """
    plain = [json.dumps(_lineage(r.facts, None), sort_keys=True) for r in runs]
    times = Counter(plain)
    return [
        one if times[one] > 1 else json.dumps(_lineage(r.facts, r.run.path.parent), sort_keys=True)
        for r, one in zip(runs, plain, strict=True)
    ]


def _lineage(facts: dict, folder: Path | None) -> dict:
    """`facts` without the seed; with `folder`, where its parent is, that one's lineage if it is of the same seed."""
    rest = {key: value for key, value in deciding(facts).items() if key != "seed"}
    if folder and "parent" in facts:
        try:
            origin = Run(folder / facts["parent"]["run"]).facts
        except ValueError:
            return rest
        if origin["seed"] == facts["seed"]:
            rest["parent"] = {"step": facts["parent"]["step"], **_lineage(origin, folder)}
    return rest


def _fields(facts: dict) -> dict[str, Any]:
    found = flat(facts)
    found |= {key: facts[key] for key in ("numerics", "devices") if key in facts}
    found |= {"data_sha256": facts["data"].get("sha256"), "module": facts["model"].get("module")}
    found |= {key: facts["model"][key] for key in ("source_sha256", "program_sha256") if key in facts["model"]}
    found |= {name: str(value) for name, value in facts.get("settings", {}).items()}
    if "parent" in facts:
        run, step, digest = (facts["parent"].get(key) for key in ("run", "step", "manifest_sha256"))
        found["parent"] = f"{run} at step {step} ({str(digest)[:12]})"
    return found


def _environment(run: Run) -> list[dict]:
    segments = run.environment
    if not all(isinstance(s, dict) and isinstance(s.get("versions", {}), dict) for s in segments):
        raise ValueError(f"{run.path / 'environment.json'} is damaged: a segment is of another kind")
    return segments


def _log(run: Run) -> list[dict]:
    log, before = run.metrics, 0
    for number, line in enumerate(log, 1):
        where = f"{run.path / 'metrics.jsonl'} is damaged: line {number}"
        if not isinstance(line, dict) or type(line.get("step")) is not int or line["step"] <= before:
            raise ValueError(f"{where} is not of a later step than what is before it")
        for name, value in line.items():
            if not (value is None or isinstance(value, bool) or is_number(value)):
                raise ValueError(f"{where}: {name} is {value!r}")
        before = line["step"]
    return log

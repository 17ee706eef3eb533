"""In what the configurations of runs differ, and which differ in nothing but the seed."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classicnets.runs import Record
from classicnets.runs.identity import deciding

# What follows from another field of the configuration, unless one value of that comes with several.
IMPLIED = {"data_sha256": "dataset", "source_sha256": "model", "program_sha256": "model", "module": "model"}


def configurations(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return all that decides the numbers of each run, flat, but for fields that say no more than another does."""
    every = [_deciding_fields(record) for record in records]
    implied = {
        name
        for name, of in IMPLIED.items()
        if len({repr([fields.get(of), fields.get(name)]) for fields in every})
        == len({repr(fields.get(of)) for fields in every})
    }
    return [{field: value for field, value in fields.items() if field not in implied} for fields in every]


def differing(configurations: Sequence[dict]) -> dict[str, list]:
    """Return {field: [its value in each, None where it is lacking]}, only where they differ."""
    fields = dict.fromkeys(field for configuration in configurations for field in configuration)
    values = {field: [configuration.get(field) for configuration in configurations] for field in fields}
    return {field: column for field, column in values.items() if any(value != column[0] for value in column)}


def of_some_models(field: str, configurations: Sequence[dict]) -> bool:
    """Return whether some lack `field` because their network has none of that name."""
    having = {configuration["model"] for configuration in configurations if field in configuration}
    lacking = {configuration["model"] for configuration in configurations if field not in configuration}
    return bool(lacking) and having.isdisjoint(lacking)


def lineages(records: Sequence[Record]) -> list[str]:
    """Return what each run has in common with those that differ from it in nothing but the seed, as text.

    Forks of one parent are alike. Another fork of a run of its own seed is told by that run's lineage, so that forks of
    several seeds are as alike as what they come from.
    """
    own = [json.dumps(_lineage(record.facts, None), sort_keys=True) for record in records]
    times = Counter(own)
    return [
        text if times[text] > 1 else json.dumps(_lineage(record.facts, record.path.parent), sort_keys=True)
        for record, text in zip(records, own, strict=True)
    ]


def _lineage(facts: dict, folder: Path | None) -> dict:
    """Return `facts` without the seed; with `folder`, where its parent is, that one's lineage if it is of its seed."""
    rest = {key: value for key, value in deciding(facts).items() if key != "seed"}
    if folder and "parent" in facts:
        try:
            origin = Record(folder / facts["parent"]["run"]).facts
        except ValueError:
            return rest
        if origin["seed"] == facts["seed"]:
            how = {key: facts["parent"][key] for key in ("step", "made_by") if key in facts["parent"]}
            rest["parent"] = {**how, **_lineage(origin, folder)}
    return rest


def _deciding_fields(record: Record) -> dict[str, Any]:
    facts, model = record.facts, record.facts["model"]
    fields = record.fields | {key: facts[key] for key in ("numerics", "devices") if key in facts}
    fields |= {"data_sha256": facts["data"].get("sha256"), "module": model.get("module")}
    fields |= {key: model[key] for key in ("source_sha256", "program_sha256") if key in model}
    fields |= {name: str(value) for name, value in facts.get("settings", {}).items()}
    if "parent" in facts:
        run, step = facts["parent"].get("run"), facts["parent"].get("step")
        digest = facts["parent"].get("manifest_sha256") or facts["parent"].get("parameters_sha256")
        made = f", changed by {facts['parent']['made_by']}" if "made_by" in facts["parent"] else ""
        fields["parent"] = f"{run} at step {step} ({str(digest)[:12]}){made}"
    return fields

"""The record of a claim below records/<claim>/<preset>/: raw rows, and all that is made from them.

runs.jsonl holds one row a run or measurement, facts.jsonl what decides each run's numbers: both stay as they were made.
verdict.json and README.md follow from them and the claim at any time; figure.svg is drawn from the runs' logs.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classicnets.claims.claim import Trial, seeds
from classicnets.system.environment import differences
from classicnets.system.writing import replace

OWN = ("sha256", "program_sha256", "constructor", "jax")
# The errors that every run's row holds, in percent.
RESULTS = ("train_error", "validation_error", "test_error", "train_error_batch_statistics")
# What no bit follows from on the same processor, and what explains a difference of bits but does not forbid to look.
BESIDE_THE_BITS = ("platform", "sources_sha256")


@dataclass(frozen=True)
class Evidence:
    """What a verdict follows from. raw: the rows of runs.jsonl; facts: {"run", "facts"} of each run."""

    raw: list[dict]
    facts: list[dict]

    @classmethod
    def read(cls, folder: Path) -> "Evidence":
        """Return that of the record in `folder`; raise FileNotFoundError if there is none."""
        facts = folder / "facts.jsonl"
        return cls(_lines(folder / "runs.jsonl"), _lines(facts) if facts.exists() else [])

    @property
    def configurations(self) -> list[dict]:
        """The fields of each run in one dict, none of measurements."""
        return [_fields(row["facts"]) for row in self.facts]

    @property
    def rows(self) -> list[dict]:
        """What is judged: the raw rows, each run's with its configuration and its case (its label's in old rows)."""
        if not self.facts:
            return list(self.raw)
        return [
            {"case": row["run"].rpartition(f"-{fields['dataset']}-s{fields['seed']}-")[0], **fields, **row}
            for fields, row in zip(self.configurations, self.raw, strict=True)
        ]

    @property
    def numerics(self) -> int | None:
        """The NUMERICS of the runs, None of measurements."""
        return self.facts[0]["facts"]["numerics"] if self.facts else None

    def verdict(self, trial: Trial) -> dict:
        """Return what verdict.json holds: the outcome, the statistics that were judged, and the criterion."""
        rows = self.rows
        statistics = json.loads(json.dumps(trial.statistic(rows), allow_nan=False, default=np.ndarray.tolist))
        return {
            "outcome": trial.criterion.judge(statistics),
            "missed": trial.criterion.missed(statistics),
            "sentence": trial.sentence,
            "source": trial.claim.source,
            "stated": trial.claim.stated,
            "n": len(seeds(rows)) or None,
            "statistics": statistics,
            "criterion": trial.criterion.facts,
            "criterion_sha256": trial.criterion.sha256,
            "diverged": [row["run"] for row in rows if row.get("state") == "diverged"],
            "numerics": self.numerics,
            "commit": self.raw[0]["environment"]["commit"],
        }

    def write(self, folder: Path, trial: Trial) -> None:
        """Write the raw rows, and what follows from them."""
        from classicnets.claims.report import readme

        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / "runs.jsonl", "".join(json.dumps(row) + "\n" for row in self.raw))
        if self.facts:
            replace(folder / "facts.jsonl", "".join(json.dumps(row) + "\n" for row in self.facts))
        replace(folder / "verdict.json", json.dumps(self.verdict(trial), indent=1) + "\n")
        replace(folder / "README.md", readme(self, trial, drawn=(folder / "figure.svg").exists()))


def compared(committed: Evidence, here: Evidence) -> dict:
    """Return {"compared", "equal", "why"}: of how many runs the parameters' digests can be compared, and are equal.

    why: the reasons that some cannot be, or are not. Bits are promised with equal cores, processor, devices, settings
    and versions, so that digests are compared under these alone.
    """
    if committed.numerics != here.numerics:
        return {"compared": 0, "equal": 0, "why": [f"NUMERICS {committed.numerics} -> {here.numerics}"]}
    theirs = {row["run"]: row for row in committed.raw if "run" in row}
    pairs = [(theirs[row["run"]], row) for row in here.raw if row.get("run") in theirs]
    new = len(here.raw) - len(pairs)
    why: dict[str, None] = {f"{new} runs are not in the record": None} if new else {}
    comparable = equal = 0
    for before, after in pairs:
        conditions = [
            {key: value for key, value in row["environment"].items() if key not in BESIDE_THE_BITS}
            for row in (before, after)
        ]
        if reasons := differences(*conditions):
            why |= dict.fromkeys(reasons)
            continue
        comparable += 1
        if before["parameters_sha256"] == after["parameters_sha256"]:
            equal += 1
        else:
            why |= dict.fromkeys(differences(before["environment"], after["environment"]) or ["nothing recorded"])
    return {"compared": comparable, "equal": equal, "why": list(why)}


def _fields(facts: dict) -> dict:
    """Return a run's configuration in one dict, without what builds a network of one's own and names its program."""
    parts = {**facts["model"], **facts["recipe"], **facts["data"], "seed": facts["seed"]}
    return {"network" if field == "module" else field: value for field, value in parts.items() if field not in OWN}


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

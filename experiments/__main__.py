"""`python -m experiments` makes README.md, and the verdict and README of each record, from the records' raw rows."""

from importlib import import_module
from pathlib import Path

from classicnets.claims.record import Evidence
from classicnets.claims.report import index

RECORDS = Path(__file__).with_name("records")

if __name__ == "__main__":
    for path in sorted(RECORDS.glob("*/*/runs.jsonl")):
        claim = import_module(f"experiments.{path.parts[-3]}").claim
        Evidence.read(path.parent).write(path.parent, claim.trial(path.parent.name))
    RECORDS.with_name("README.md").write_text(index(RECORDS), encoding="utf-8")

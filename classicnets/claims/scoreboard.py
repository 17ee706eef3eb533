"""All records of claims at a glance: the README that lists them, and one page with their figures and curves."""

import json
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from classicnets.claims.criteria import EverySeed
from classicnets.claims.power import power
from classicnets.claims.record import Evidence
from classicnets.claims.report import curves, markdown, shown
from classicnets.report.page import Cell, Figure, Table, Verdict, page
from classicnets.runs import Run

COLUMNS = ("record", "claim", "source", "outcome", "stated", "ours", "seeds", "minutes", "NUMERICS", "command")
# The record whose figure the list of records opens with: the claim, and the preset on the paper's own data.
LEAD = ("degradation", "cifar10")
LEGEND = (
    "Ours: the criterion's first statistic, its median over seeds and their range, in which the population's median "
    "lies with 94 % for 5 seeds. Minutes: of training, on one core."
)
POWERS = ("reproduced, no effect", "refuted, no effect", "reproduced, as seen", "refuted, swapped")
POWER = (
    "How often a criterion decides, in percent of 10,000 draws of as many seeds, of statistics with the covariance "
    "that the record's have: around zero, around what was seen, and around what was seen with the sides swapped. The "
    "last two only describe."
)


@dataclass(frozen=True)
class Entry:
    """One record: where it lies, and what its verdict.json holds."""

    folder: Path
    verdict: dict

    @property
    def place(self) -> tuple[str, str]:
        """(claim, preset)."""
        return self.folder.parts[-2], self.folder.parts[-1]

    @property
    def label(self) -> str:
        """CLAIM, PRESET"""
        return ", ".join(self.place)

    @property
    def readme(self) -> str:
        """Where its README lies, from the folder that holds all records' own."""
        return "/".join((*self.folder.parts[-3:], "README.md"))

    @property
    def cells(self) -> list[Cell]:
        """Its row below COLUMNS."""
        claim, preset = self.place
        told = [self.verdict[key] for key in ("sentence", "source", "outcome", "stated")]
        counts = [self.verdict["n"], self._minutes, self.verdict["numerics"]]
        return [self.label, *told, self._ours, *counts, f"python -m experiments.{claim} --preset {preset}"]

    @property
    def year(self) -> str:
        """The first year in the source, so that papers come in their order, and what has none at the end."""
        found = re.search(r"\b(19|20)\d\d\b", self.verdict["source"])
        return found[0] if found else "9999"

    @property
    def _ours(self) -> str:
        """The first bound's statistic: "name: median (least to most)" of seeds, or its one number."""
        first = next(iter(self.verdict["criterion"]["bounds"]))
        values = self.verdict["statistics"].get(first)
        if values is None:
            return ""
        if not isinstance(values, list):
            return f"{first}: {shown(values)}"
        low, high = shown(float(min(values))), shown(float(max(values)))
        return f"{first}: {shown(float(statistics.median(values)))} ({low} to {high})"

    @property
    def _minutes(self) -> int | None:
        """Of training on one core, where the rows tell it."""
        seconds = sum(row.get("seconds", 0.0) for row in Evidence.read(self.folder).raw if "run" in row)
        return round(seconds / 60) if seconds else None


def entries(records: Path) -> list[Entry]:
    """Return every record below `records`, by the year of its source."""
    found = [
        Entry(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in records.glob("*/*/verdict.json")
    ]
    return sorted(found, key=lambda entry: (entry.year, entry.place))


def index(records: Path) -> str:
    """Return the README.md that lists every record below `records`, which lies beside it."""
    found = entries(records)
    rows = [[f"[{e.label}]({e.readme})", *e.cells[1:-1], f"`{e.cells[-1]}`"] for e in found]
    lines = [
        "# Experiments",
        "",
        *_opening(found),
        "One file a claim; each ends in a verdict under a criterion that was committed before the runs. Those of "
        "degradation were, in version 1, refuted only if every statistic was reversed; in version 2 the first decides "
        "that, and their outcomes are the same.",
        "",
        *markdown(Table("", COLUMNS, rows)),
        "",
        LEGEND,
        "",
        POWER,
        "",
        *markdown(
            Table("", ["record", *POWERS], [[name, *(f"{v:.1f}" for v in row)] for name, *row in _powers(found)])
        ),
        "",
        "`python -m experiments` makes this table, and each record's verdict and README, from the record's raw rows; "
        "`--page FILE` one page of all of them.",
    ]
    return "\n".join(lines) + "\n"


def overview(records: Path, runs: Path, folder: Path) -> str:
    """Return one self-contained page: verdicts, the scoreboard, every figure, and the curves of runs below `runs`.

    folder: where the page will lie, from which its links lead to the records.
    """
    found = entries(records)
    links = {entry.label: os.path.relpath(entry.folder / "README.md", folder) for entry in found}
    return page(
        "Claims of the classic convolutional networks",
        verdicts=[
            Verdict(e.verdict["outcome"], e.verdict["sentence"], f"{e.label}. {e.verdict['source']}.") for e in found
        ],
        curves=[
            curve
            for entry in found
            for curve in curves(Evidence.read(entry.folder), at_hand(entry, runs), f"{entry.label}: ")
        ],
        figures=[
            Figure(f"{entry.label}: {entry.verdict['sentence']}", path.read_bytes())
            for entry in found
            if (path := entry.folder / "figure.svg").exists()
        ],
        tables=[
            Table("Scoreboard", COLUMNS, [entry.cells for entry in found], LEGEND, links),
            Table("How often a criterion decides", ["record", *POWERS], _powers(found), POWER, links),
        ],
        written="python -m experiments --page FILE",
    )


def at_hand(entry: Entry, runs: Path) -> list[Run]:
    """Return the runs of a record that are below `runs`."""
    names = [row["run"] for row in Evidence.read(entry.folder).raw if "run" in row]
    return [
        Run(runs / entry.place[0] / name) for name in names if (runs / entry.place[0] / name / "config.json").exists()
    ]


def _powers(found: Sequence[Entry]) -> list[list[Cell]]:
    """Return [record, percent of POWERS] of the records that are judged by `EverySeed`."""
    rows: list[list[Cell]] = []
    for entry in sorted(found, key=lambda entry: entry.place):
        if entry.verdict["criterion"]["form"] == EverySeed.__name__:
            decided = power(EverySeed(entry.verdict["criterion"]["bounds"]), entry.verdict["statistics"])
            rows.append([entry.label, *(round(decided[name], 1) for name in POWERS)])
    return rows


def _opening(found: Sequence[Entry]) -> list[str]:
    """Return the figure of the record LEAD with its sentence and verdict, nothing where there is no such record."""
    lead = next((entry for entry in found if entry.place == LEAD and (entry.folder / "figure.svg").exists()), None)
    if not lead:
        return []
    sentence = lead.verdict["sentence"]
    return [
        f"![{lead.label}: error against iteration]({lead.readme.removesuffix('README.md')}figure.svg)",
        "",
        f"[{sentence[0].upper()}{sentence[1:]}]({lead.readme}): {lead.verdict['outcome']}, n = {lead.verdict['n']}.",
        "",
    ]

"""What people read of a claim's record: its README, the page with every curve, and the table of all records."""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classicnets.claims.claim import Trial, seeds
from classicnets.claims.criteria import EverySeed
from classicnets.claims.power import power
from classicnets.claims.record import Evidence
from classicnets.report.comparison import series
from classicnets.report.page import Cell, Curve, Table, Verdict, page
from classicnets.runs import Run

COLUMNS = ("claim", "source", "record", "outcome", "stated", "ours", "seeds", "minutes", "NUMERICS", "command")
# The record whose figure the list of records opens with: the claim, and the preset on the paper's own data.
LEAD = ("degradation", "cifar10")
ERRORS = {"train_error": "train", "test_error": "test", "train_error_batch_statistics": "batch"}


def readme(evidence: Evidence, trial: Trial, drawn: bool) -> str:
    """Return the record's README.md, with its figure if one was `drawn`."""
    verdict = evidence.verdict(trial)
    lines = [
        f"# {trial.title}: {verdict['outcome']}",
        "",
        f"Claim: {verdict['sentence']}{_seeds(evidence)}.",
        f"Source: {trial.claim.source}.",
        *(["", trial.preset.note] if trial.preset.note else []),
        *(["", f"![{trial.claim.sentence}](figure.svg)"] if drawn else []),
        "",
        f"    {trial.command}",
        "",
        f"- {_origin(evidence)}",
        f"- {_rule(trial)}",
        *(f"- Not met: {bound}." for bound in verdict["missed"]),
        *_common(evidence),
    ]
    for table in _tables(evidence, trial):
        lines += ["", f"{table.title}:", *([table.note] if table.note else []), "", *_markdown(table)]
    return "\n".join(lines) + "\n"


def record_page(evidence: Evidence, trial: Trial, runs: Sequence[Run]) -> str:
    """Return one self-contained page with the verdict, the curves of `runs`, and the tables."""
    verdict, varying = evidence.verdict(trial), _varying(evidence.configurations)
    labels = [
        ", ".join(f"{field} {fields[field]}" for field in varying if field != "seed")
        for fields in evidence.configurations
    ]
    return page(
        trial.title,
        verdicts=[Verdict(verdict["outcome"], verdict["sentence"] + _seeds(evidence), _rule(trial))],
        warnings=[f"{run} diverged and counts as chance error" for run in verdict["diverged"]],
        curves=[Curve(run.id, label, None, series(run.record)) for run, label in zip(runs, labels, strict=True)],
        tables=_tables(evidence, trial),
        written=f"{trial.command}. {_origin(evidence)}",
    )


def index(records: Path) -> str:
    """Return the README.md that lists every record below `records`, which lies beside it."""
    found = [(json.loads(path.read_text(encoding="utf-8")), path.parent) for path in records.glob("*/*/verdict.json")]
    rows = []
    for verdict, folder in sorted(found, key=lambda one: (_year(one[0]["source"]), one[1].parts[-2:])):
        claim, name = folder.parts[-2:]
        link = f"[{claim}, {name}]({records.name}/{claim}/{name}/README.md)"
        command = f"`python -m experiments.{claim} --preset {name}`"
        shown = (verdict["sentence"], verdict["source"], link, verdict["outcome"], verdict["stated"], _ours(verdict))
        rows.append([*shown, verdict["n"], _minutes(folder), verdict["numerics"], command])
    lines = [
        "# Experiments",
        "",
        *_opening(records),
        "One file a claim; each ends in a verdict under a criterion that was committed before the runs. Those of "
        "degradation were, in version 1, refuted only if every statistic was reversed; in version 2 the first decides "
        "that, and their outcomes are the same.",
        "",
        *_markdown(Table("", COLUMNS, rows)),
        "",
        "Ours: the criterion's first statistic, its median over seeds and their range, in which the population's "
        "median lies with 94 % for 5 seeds. Minutes: of training, on one core.",
        "",
        "How often a criterion decides, in percent of 10,000 draws of as many seeds, of statistics with the covariance "
        "that the record's have: around zero, around what was seen, and around what was seen with the sides swapped. "
        "The last two only describe.",
        "",
        *_markdown(_powers([(verdict, folder.parts[-2:]) for verdict, folder in found])),
        "",
        "`python -m experiments` makes this table, and each record's verdict and README, from the record's raw rows.",
    ]
    return "\n".join(lines) + "\n"


def _powers(verdicts: Sequence[tuple[dict, tuple[str, ...]]]) -> Table:
    names = ("reproduced, no effect", "refuted, no effect", "reproduced, as seen", "refuted, swapped")
    rows = []
    for verdict, place in sorted(verdicts, key=lambda one: one[1]):
        if verdict["criterion"]["form"] == EverySeed.__name__:
            decided = power(EverySeed(verdict["criterion"]["bounds"]), verdict["statistics"])
            rows.append([", ".join(place), *(f"{decided[name]:.1f}" for name in names)])
    return Table("", ["record", *names], rows)


def _year(source: str) -> str:
    """The first year in a source, so that papers come in their order and what is this project's own at the end."""
    found = re.search(r"\b(19|20)\d\d\b", source)
    return found[0] if found else "9999"


def _ours(verdict: dict) -> str:
    """The first bound's statistic: "name: median (least to most)" of seeds, or its one number."""
    first = next(iter(verdict["criterion"]["bounds"]))
    values = verdict["statistics"].get(first)
    if values is None:
        return ""
    if not isinstance(values, list):
        return f"{first}: {_cell(values)}"
    low, high = _cell(float(min(values))), _cell(float(max(values)))
    return f"{first}: {_cell(float(statistics.median(values)))} ({low} to {high})"


def _minutes(folder: Path) -> int | None:
    """Of training on one core, where the rows tell it."""
    rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = sum(row.get("seconds", 0.0) for row in rows if "run" in row)
    return round(seconds / 60) if seconds else None


def _opening(records: Path) -> list[str]:
    """Return the figure of the record LEAD with its sentence and verdict, nothing where there is no such record."""
    place = records.joinpath(*LEAD)
    if not (place / "figure.svg").exists():
        return []
    verdict = json.loads((place / "verdict.json").read_text(encoding="utf-8"))
    folder = "/".join((records.name, *LEAD))
    return [
        f"![{', '.join(LEAD)}: error against iteration]({folder}/figure.svg)",
        "",
        f"[{verdict['sentence'][0].upper()}{verdict['sentence'][1:]}]({folder}/README.md): {verdict['outcome']}, "
        f"n = {verdict['n']}.",
        "",
    ]


def statistics_text(verdict: dict) -> list[str]:
    """Return one line a condition, or one for all, with the numbers that were judged."""
    return [
        f"{condition}{': ' if condition else ''}"
        + "; ".join(f"{name} {', '.join(map(_cell, _listed(values)))}" for name, values in statistics.items())
        for _, groups in _groups(verdict["statistics"])
        for condition, statistics in groups.items()
    ]


def _tables(evidence: Evidence, trial: Trial) -> list[Table]:
    """Those of the statistics, the first under the statistic's docstring, then that of every run or measurement."""
    of_seeds = seeds(evidence.rows)

    def bounded(name: str) -> str:
        return f"{name} {trial.criterion.bounds.get(name, '')}".strip()

    tables = []
    for title, groups in _groups(evidence.verdict(trial)["statistics"]):
        names = list(next(iter(groups.values())))
        by_seed = isinstance(next(iter(groups.values()))[names[0]], list)
        rows = []
        for condition, values in groups.items():
            columns = [_listed(values[name]) for name in names]
            led = [bounded(condition)] if title else []
            rows += [[*led, *line] for line in zip(*([of_seeds] if by_seed else []), *columns, strict=True)]
        heads = [*([title] if title else []), *(["seed"] if by_seed else []), *map(bounded, names)]
        note = "" if tables else " ".join((trial.statistic.__doc__ or "").split())
        tables.append(Table(title.capitalize() or "Statistics", heads, rows, note))
    return [*tables, _every_row(evidence, trial)]


def _groups(statistics: Mapping[str, Any]) -> list[tuple[str, dict[str, dict]]]:
    """Return (title, {condition: {statistic: values}}): values a seed, then single numbers, then those by condition."""
    by_seed = {name: values for name, values in statistics.items() if isinstance(values, list)}
    numbers = {name: {"figure": value} for name, value in statistics.items() if isinstance(value, int | float)}
    groups = [(title, values) for title, values in statistics.items() if isinstance(values, dict) and values]
    return [*([("", {"": by_seed})] if by_seed else []), *([("statistic", numbers)] if numbers else []), *groups]


def _every_row(evidence: Evidence, trial: Trial) -> Table:
    if not evidence.facts:
        names = [name for name in evidence.raw[0] if name != "environment"]
        return Table("Every measurement", names, [[row[name] for name in names] for row in evidence.raw])
    varying = _varying(evidence.configurations)
    observed = trial.observe([]) if trial.observe else {}
    shown = (*varying, *ERRORS, *observed, "state")
    rows = [[row["run"], *(row[field] for field in shown)] for row in evidence.rows]
    note = "Errors in percent after the last step; batch: when batch norm uses each batch's own statistics."
    return Table("Every run", ["run", *varying, *ERRORS.values(), *observed, "state"], rows, note)


def _varying(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the fields whose values differ between runs."""
    names = dict.fromkeys(field for fields in configurations for field in fields)
    return [field for field in names if len({str(fields.get(field)) for fields in configurations}) > 1]


def _common(evidence: Evidence) -> list[str]:
    if not evidence.facts:
        return []
    varying, first = _varying(evidence.configurations), evidence.configurations[0]
    fields = [f"{field} {value}" for field, value in first.items() if field not in varying and value is not None]
    return [f"- All runs: {', '.join(fields)}."]


def _seeds(evidence: Evidence) -> str:
    of_seeds = seeds(evidence.rows)
    return f" (n = {len(of_seeds)} seeds: {', '.join(map(str, of_seeds))})" if of_seeds else ""


def _rule(trial: Trial) -> str:
    criterion = trial.criterion
    bounds = "; ".join(f"{statistic} {bound}" for statistic, bound in criterion.bounds.items())
    return f"Criterion: {bounds}. {' '.join((criterion.__doc__ or '').split())}"


def _origin(evidence: Evidence) -> str:
    """The commits of the rows, and the machine and the versions of the first."""
    environment = evidence.raw[0]["environment"]
    commits = sorted({str(row["environment"]["commit"])[:12] for row in evidence.raw})
    numerics = f" NUMERICS {evidence.numerics}," if evidence.facts else ""
    return (
        f"Commit {', '.join(commits)};{numerics} {environment['cores']} cores, {len(environment['devices'])} device"
        f" ({environment['devices'][0]}), Python {environment['python']}, jax {environment['versions']['jax']}."
    )


def _listed(values: Any) -> list:
    return values if isinstance(values, list) else [values]


def _markdown(table: Table) -> list[str]:
    rows = (table.columns, ["---"] * len(table.columns), *(map(_cell, row) for row in table.rows))
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(value: Cell) -> str:
    """Floats with two decimals, or two digits where they are smaller than 0.1."""
    if isinstance(value, float):
        return f"{value:.2f}" if not value or abs(value) >= 0.1 else f"{value:.2g}"
    return "" if value is None else str(value)

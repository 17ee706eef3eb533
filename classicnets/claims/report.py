"""What people read of a claim's record: its README, and the page with every curve."""

from collections.abc import Mapping, Sequence
from typing import Any

from classicnets.claims.claim import Trial, seeds
from classicnets.claims.record import Evidence
from classicnets.report.comparison import series
from classicnets.report.page import Cell, Curve, Table, Verdict, page
from classicnets.runs import Run

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
        lines += ["", f"{table.title}:", *([table.note] if table.note else []), "", *markdown(table)]
    return "\n".join(lines) + "\n"


def record_page(evidence: Evidence, trial: Trial, runs: Sequence[Run]) -> str:
    """Return one self-contained page with the verdict, the curves of `runs`, and the tables."""
    verdict = evidence.verdict(trial)
    return page(
        trial.title,
        verdicts=[Verdict(verdict["outcome"], verdict["sentence"] + _seeds(evidence), _rule(trial))],
        warnings=[f"{run} diverged and counts as chance error" for run in verdict["diverged"]],
        curves=curves(evidence, runs),
        tables=_tables(evidence, trial),
        written=f"{trial.command}. {_origin(evidence)}",
    )


def curves(evidence: Evidence, runs: Sequence[Run], title: str = "") -> list[Curve]:
    """Return the logs of a record's runs that are among `runs`, labelled by the fields in which configurations differ.

    title: what each label begins with.
    """
    if not runs:  # of a measurement there are none
        return []
    varying = [field for field in _varying(evidence.configurations) if field != "seed"]
    labels = {
        row["run"]: title + ", ".join(f"{field} {fields[field]}" for field in varying)
        for row, fields in zip(evidence.raw, evidence.configurations, strict=True)
    }
    return [Curve(run.id, labels[run.id], None, series(run.record)) for run in runs if run.id in labels]


def statistics_text(verdict: dict) -> list[str]:
    """Return one line a condition, or one for all, with the numbers that were judged."""
    return [
        f"{condition}{': ' if condition else ''}"
        + "; ".join(f"{name} {', '.join(map(shown, _listed(values)))}" for name, values in statistics.items())
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
    fields = (*varying, *ERRORS, *observed, "state")
    rows = [[row["run"], *(row[field] for field in fields)] for row in evidence.rows]
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


def markdown(table: Table) -> list[str]:
    """Return the lines of a table in Markdown."""
    rows = (table.columns, ["---"] * len(table.columns), *(map(shown, row) for row in table.rows))
    return [f"| {' | '.join(row)} |" for row in rows]


def shown(value: Cell) -> str:
    """Return a cell's text: floats with two decimals, or two digits where they are smaller than 0.1."""
    if isinstance(value, float):
        return f"{value:.2f}" if not value or abs(value) >= 0.1 else f"{value:.2g}"
    return "" if value is None else str(value)

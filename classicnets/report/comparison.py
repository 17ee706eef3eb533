"""A comparison as text and as a page."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from classicnets.report.page import Curve, Heat, Table, Verdict, page
from classicnets.report.text import line
from classicnets.report.text import table as text_table
from classicnets.runs import Record
from classicnets.runs.record import is_number

METRICS = {"train_error": "train", "validation_error": "validation", "test_error": "test"}
# What a curve can show.
CURVES = (*METRICS, "train_loss", "validation_loss", "test_loss", "gradient_norm")
# Runs that stand side by side, a column each; more are told by their groups.
COLUMNS = 4
# What a text tells, where --json has all: warnings, paired differences (a page has more), values of a part of the
# environment with the names of so few runs, layers, and characters of a cell.
WARNINGS, PAIRS, PAGE_PAIRS, VALUES, NAMED, LAYERS, WIDTH = 12, 20, 500, 5, 3, 30, 40
CKA_NOTE = "Of up to 256 test images; where features are more than images, unrelated layers are above 0 too."


def comparison_text(comparison: dict) -> str:
    """Return what `classicnets compare` prints of `compare.groups.compare`'s result, with "left_out"."""
    lines = [comparison["sentence"], *_in_depth(comparison)]
    lines += [f"warning: {warning}" for warning in comparison["warnings"][:WARNINGS]]
    lines += list(filter(None, [_more(len(comparison["warnings"]), WARNINGS)]))
    lines += [f"left out: {row['run']}: {row['reason']}" for row in comparison["left_out"]]
    lines = [line(text) for text in lines]
    for table in _tables(comparison, PAIRS):
        rows = text_table(table.columns, [[_cell(cell) for cell in row] for row in table.rows])
        lines += ["", table.title, *rows, *textwrap.wrap(table.note, 120)]
    return "\n".join(lines)


def comparison_page(comparison: dict, records: Sequence[Record], folder: Path) -> str:
    """Return the same as a self-contained page for `folder`, with the curves of `records`, and links to their runs."""
    left_out = [f"{row['run']} is left out: {row['reason']}" for row in comparison["left_out"]]
    labels = {name: group["label"] for group in comparison["groups"] for name in group["runs"]}
    configuration = comparison["configuration"]
    if len(records) <= COLUMNS and configuration:
        labels = {
            name: ", ".join(f"{field} {values[i]}" for field, values in configuration.items())
            for i, name in enumerate(comparison["runs"])
        }
    return page(
        f"Comparison of {len(records)} runs",
        verdicts=[Verdict("compared", comparison["sentence"], " ".join(_in_depth(comparison)))],
        warnings=[*comparison["warnings"], *left_out],
        curves=[
            Curve(name, labels[name], _link(record.path, folder), series(record))
            for name, record in zip(comparison["runs"], records, strict=True)
        ],
        heat=heats(comparison["groups"]),
        tables=_tables(comparison, PAGE_PAIRS),
    )


def _link(path: Path, folder: Path) -> str:
    """Return the link from a page in `folder` to a run's directory, which move together."""
    return quote(b"./" + os.fsencode(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))) + b"/")


def heats(groups: Sequence[dict]) -> list[Heat]:
    """Return the mean test error by depth and width, where both vary: a map for each choice of what else varies."""
    cells: dict[str, dict[tuple[float, float], dict]] = {}
    for group in groups:
        fields = group["fields"]
        if is_number(fields.get("depth")) and is_number(fields.get("width")) and "test_error" in group:
            kind = ", ".join(f"{f} {v}" for f, v in fields.items() if f not in ("depth", "width"))
            cells.setdefault(kind, {})[fields["depth"], fields["width"]] = group["test_error"]
    maps = []
    for kind, places in cells.items():
        if len({depth for depth, _ in places}) > 1 and len({width for _, width in places}) > 1:
            rows = [(depth, width, error["mean"], error["n"]) for (depth, width), error in sorted(places.items())]
            maps.append(Heat(", ".join(filter(None, ("Test error in percent", kind))), "depth", "width", rows))
    return maps


def series(record: Record) -> dict[str, list[tuple[float, float]]]:
    """Return what a curve of the run can show: metric -> (step, value), where the run has logged it."""
    curves = {m: [(line["step"], line[m]) for line in record.log if line.get(m) is not None] for m in CURVES}
    return {metric: points for metric, points in curves.items() if points}


def _in_depth(comparison: dict) -> list[str]:
    """Return what is said of two runs beside their configurations."""
    if "parting" not in comparison:
        return []
    sentence = _parting_sentence(comparison["parting"])
    if "not_built" in comparison:
        return [sentence, f"tensors and predictions are not compared: {comparison['not_built']}"]
    at = comparison["at"]
    if at is None:
        return [sentence, "predictions are not compared: one of the two holds no good checkpoint"]
    if comparison["disagreement"] is None:
        return [sentence, "predictions are not compared: the test images are not the same"]
    where = "" if at[0] == at[1] else f", at steps {at[0]} and {at[1]},"
    return [sentence, f"their predictions{where} disagree on {comparison['disagreement']:.2f} % of the test images"]


def _parting_sentence(parting: dict) -> str:
    if parting["identical"]:
        return f"the two are bit-identical, up to step {parting['step']}"
    after, step = parting["after"], parting["step"]
    again = f"; --exact {parting['again']} trains as many steps again to find it" if "again" in parting else ""
    if parting["identical"] is None:
        alike = f"do not part in their logs, up to step {after}" if after else "log no step in common"
        checkpoint = parting.get("checkpoint")
        equal = f", and their checkpoints at step {checkpoint} are equal" if checkpoint else ""
        return f"the two {alike}{equal}{again}"
    tensor = f": {parting['tensor']}" if parting.get("tensor") else ""
    if parting.get("exact"):
        return f"trained again, the two part at step {step}{tensor}"
    seen = f" ({parting['field']} {' and '.join(map(_cell, parting['values']))})" if "field" in parting else ""
    if after >= step:
        return f"the two part at or before step {step}, which their logs do not show{tensor}{seen}{again}"
    return f"the two part after step {after} and at or before step {step}{tensor}{seen}{again}"


def _tables(comparison: dict, most: int) -> list[Table]:
    """Return the tables of a comparison, with `most` of its paired differences."""
    tables, runs = [], comparison["runs"]
    many = len(runs) > COLUMNS
    for title in () if many else ("configuration", "environment"):
        rows = [[field, *map(_short, values)] for field, values in comparison[title].items()]
        tables.append(Table(f"{title.capitalize()}, where it differs", ["field", *runs], rows))
    if many:
        rows = [row for field, values in comparison["environment"].items() for row in _shares(field, values, runs)]
        tables.append(Table("Environment, where it differs", ["field", "value", "runs", "which"], rows))
    tables.append(_errors(comparison["groups"], many))
    tables.append(_differences(comparison["pairs"], comparison["tests"], most))
    for key, title, head, note in (
        ("cka", "Similarity of representations", ["layer", "linear CKA"], CKA_NOTE),
        ("weights", "Distance of weights", ["tensor", "|a - b| / sqrt(|a| |b|)"], ""),
    ):
        rows = list(comparison.get(key, {}).items())
        tables.append(Table(title, head, rows[:LAYERS], f"{_more(len(rows), LAYERS)} {note}".strip()))
    return [table for table in tables if table.rows]


def _shares(field: str, values: Sequence, runs: Sequence[str]) -> list[list]:
    """Return the commonest values of a field, each with how many runs have it, and which if they are few."""
    who: dict[str, list[str]] = {}
    for value, run in zip(values, runs, strict=True):
        who.setdefault(str(value), []).append(run)
    shares = sorted(who.items(), key=lambda item: -len(item[1]))
    rows = [[field, _short(v), len(w), ", ".join(w) if len(w) <= NAMED else ""] for v, w in shares[:VALUES]]
    rest = shares[VALUES:]
    return [*rows, *([[field, f"{len(rest)} others", sum(len(w) for _, w in rest), ""]] if rest else [])]


def _errors(groups: Sequence[dict], many: bool) -> Table:
    """Return a row a group; of many runs with a column for each field in which the groups differ."""
    columns = {**METRICS, **{f"best_{m}": f"{n} at best" for m, n in METRICS.items()}, "mean_test_error": "curve"}
    columns = {m: name for m, name in columns.items() if any(m in group for group in groups)}
    fields = list(dict.fromkeys(field for group in groups for field in group["fields"])) if many else []
    rows = []
    for group in groups:
        values = [group["fields"].get(field) for field in fields]
        which = [value if isinstance(value, int | float) else _short(value) for value in values] or [group["label"]]
        counted, runs = len(group["counted"]), len(group["runs"])
        n = str(counted) if counted == runs else f"{counted} of {runs}"
        rows.append([*which, _ranges(group["seeds"]), n, group["step"], *(_spread(group.get(m)) for m in columns)])
    note = "Mean and standard deviation over seeds, in percent, at the step that stands beside them. "
    note += "At best: at the least validation error. Curve: the mean of the test error over all evaluations."
    return Table("Errors", [*(fields or ["runs"]), "seeds", "n", "step", *columns.values()], rows, note)


def _differences(pairs: Sequence[dict], tests: int, most: int) -> Table:
    """Return `most` paired differences: of the test error first, of groups that differ in one field, of the least p."""

    def strongest(pair: dict) -> tuple:
        p = [2.0 if pair[key] is None else pair[key] for key in ("p_holm", "p")]
        return (pair["metric"] != "test_error", len(pair["fields"]), *p, -abs(pair["mean"]))

    rows = []
    for pair in sorted(pairs, key=strongest)[:most]:
        points = [None if pair[key] is None else round(pair[key], 3) for key in ("mean", "low", "high")]
        groups = [pair["from"], pair["to"], METRICS[pair["metric"]], pair["step"]]
        rows.append([*groups, *points, pair["p"], pair["p_holm"], pair["n"]])
    head = ["from", "to", "error", "step", "difference", "95 % low", "high", "p", "p, Holm", "n"]
    note = f"""The second minus the first, in points of percent, over the seeds that both have, at the last step of both
    with an evaluation. p: of the exact sign-flip test, of one difference none; Holm's over all {tests:,} tests. The
    intervals are Student's, one by one, and decide nothing."""
    return Table("Paired differences", head, rows, " ".join([_more(len(pairs), most), *note.split()]).strip())


def _more(count: int, shown: int) -> str:
    return f"... and {count - shown:,} more (--json has all)" if count > shown else ""


def _ranges(seeds: Sequence[int]) -> str:
    """Return "0-4, 7" for 0, 1, 2, 3, 4, 7."""
    ranges: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if ranges and seed == ranges[-1][-1] + 1:
            ranges[-1][1:] = [seed]
        else:
            ranges.append([seed])
    return ", ".join("-".join(map(str, ends)) for ends in ranges)


def _spread(summary: dict | None) -> str | None:
    if summary is None:
        return None
    return f"{summary['mean']:.2f}" + (f" ± {summary['std']:.2f}" if summary["std"] is not None else "")


def _short(value: object) -> str:
    """Return a cell that is not too wide; of a digest its beginning."""
    text = _cell(value)
    if len(text) in (40, 64) and not text.strip("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

"""A comparison as text and as a page."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from classicnets.report.page import Curve, Heat, Table, Verdict, page
from classicnets.report.text import line
from classicnets.report.text import table as text_table
from classicnets.runs import Run
from classicnets.runs.record import Recorded
from classicnets.runs.table import is_number

METRICS = {"train_error": "train", "validation_error": "validation", "test_error": "test"}
# What a curve can show.
CURVES = (
    "train_error",
    "validation_error",
    "test_error",
    "train_loss",
    "validation_loss",
    "test_loss",
    "gradient_norm",
)
# Runs that stand side by side, a column each; more are told by their groups.
COLUMNS = 4
# What a text tells, where --json has all: warnings, paired differences (a page has more), values of a part of the
# environment with the names of so few runs, layers, and characters of a cell.
WARNINGS, PAIRS, PAGE_PAIRS, VALUES, NAMED, LAYERS, WIDTH = 12, 20, 500, 5, 3, 30, 40


def comparison_text(found: dict) -> str:
    """What `classicnets compare` prints."""
    lines = [found["sentence"], *_in_depth(found)]
    lines += [f"warning: {warning}" for warning in found["warnings"][:WARNINGS]]
    lines += [_more(len(found["warnings"]), WARNINGS)] * (len(found["warnings"]) > WARNINGS)
    lines += [f"left out: {row['run']}: {row['reason']}" for row in found["left_out"]]
    lines = [line(text) for text in lines]
    for table in _tables(found, PAIRS):
        rows = text_table(table.columns, [[_cell(cell) for cell in row] for row in table.rows])
        lines += ["", table.title, *rows, *textwrap.wrap(table.note, 120)]
    return "\n".join(lines)


def comparison_page(found: dict, runs: Sequence[Recorded], folder: Path) -> str:
    """The same as one self-contained page for `folder`, with the curves of `runs`, and links to their directories."""
    verdicts = [Verdict("compared", found["sentence"], " ".join(_in_depth(found)))]
    left_out = [f"{row['run']} is left out: {row['reason']}" for row in found["left_out"]]
    labels = {name: group["label"] for group in found["groups"] for name in group["runs"]}
    if len(runs) <= COLUMNS and found["configuration"]:
        told = zip(*found["configuration"].values(), strict=True)
        labels = {
            name: ", ".join(f"{f} {v}" for f, v in zip(found["configuration"], values, strict=True))
            for name, values in zip(found["runs"], told, strict=True)
        }
    curves = [
        Curve(name, labels[name], _link(recorded.run.path, folder), series(recorded.run))
        for name, recorded in zip(found["runs"], runs, strict=True)
    ]
    return page(
        f"Comparison of {len(runs)} runs",
        verdicts=verdicts,
        warnings=[*found["warnings"], *left_out],
        curves=curves,
        heat=heats(found["groups"]),
        tables=_tables(found, PAGE_PAIRS),
    )


def _link(path: Path, folder: Path) -> str:
    """From a page in `folder` to a run's directory, which move together."""
    return quote(b"./" + os.fsencode(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))) + b"/")


def heats(groups: Sequence[dict]) -> list[Heat]:
    """Mean test error by depth and width, where both vary; one map for each choice of what else varies."""
    cells: dict[str, dict[tuple[float, float], dict]] = {}
    for group in groups:
        fields = group["fields"]
        if is_number(fields.get("depth")) and is_number(fields.get("width")) and "test_error" in group:
            kind = ", ".join(f"{f} {v}" for f, v in fields.items() if f not in ("depth", "width"))
            cells.setdefault(kind, {})[fields["depth"], fields["width"]] = group["test_error"]
    found = []
    for kind, places in cells.items():
        if len({depth for depth, _ in places}) > 1 and len({width for _, width in places}) > 1:
            rows = [(depth, width, one["mean"], one["n"]) for (depth, width), one in sorted(places.items())]
            found.append(Heat(", ".join(filter(None, ("Test error in percent", kind))), "depth", "width", rows))
    return found


def series(run: Run) -> dict[str, list[tuple[float, float]]]:
    """What a curve of the run can show: metric -> (step, value), where the run has logged it."""
    log = [line for line in run.metrics if "step" in line]
    found = {m: [(line["step"], line[m]) for line in log if line.get(m) is not None] for m in CURVES}
    return {metric: points for metric, points in found.items() if points}


def _in_depth(found: dict) -> list[str]:
    """What is said of two runs."""
    if "parting" not in found:
        return []
    said = [_parting(found["parting"])]
    if "not_built" in found:
        return [*said, f"tensors and predictions are not compared: {found['not_built']}"]
    at = found["at"]
    if at is None:
        said.append("predictions are not compared: one of the two holds no good checkpoint")
    elif found["disagreement"] is None:
        said.append("predictions are not compared: the test images are not the same")
    else:
        where = "" if at[0] == at[1] else f", at steps {at[0]} and {at[1]},"
        said.append(f"their predictions{where} disagree on {found['disagreement']:.2f} % of the test images")
    return said


def _parting(part: dict) -> str:
    if part["identical"]:
        return f"the two are bit-identical, up to step {part['step']}"
    again = f"; --exact {part['again']} trains as many steps again to find it" if "again" in part else ""
    if part["identical"] is None:
        alike = f"do not part in their logs, up to step {part['after']}" if part["after"] else "log no step in common"
        proven = f", and their checkpoints at step {part['checkpoint']} are equal" if part.get("checkpoint") else ""
        return f"the two {alike}{proven}{again}"
    tensor = f": {part['tensor']}" if part.get("tensor") else ""
    if part.get("exact"):
        return f"trained again, the two part at step {part['step']}{tensor}"
    seen = f" ({part['field']} {_cell(part['values'][0])} and {_cell(part['values'][1])})" if "field" in part else ""
    if part["after"] >= part["step"]:
        return f"the two part at or before step {part['step']}, which their logs do not show{tensor}{seen}{again}"
    return f"the two part after step {part['after']} and at or before step {part['step']}{tensor}{seen}{again}"


def _tables(found: dict, most: int) -> list[Table]:
    """Those of a comparison, with `most` of its paired differences."""
    tables, many = [], len(found["runs"]) > COLUMNS
    for title in ("configuration", "environment"):
        if found[title] and not many:
            rows = [[field, *map(_short, values)] for field, values in found[title].items()]
            tables.append(Table(f"{title.capitalize()}, where it differs", ["field", *found["runs"]], rows))
    if found["environment"] and many:
        rows = [row for field, values in found["environment"].items() for row in _shares(field, values, found["runs"])]
        tables.append(Table("Environment, where it differs", ["field", "value", "runs", "which"], rows))
    tables.append(_errors(found["groups"], many))
    if found["pairs"]:
        tables.append(_pairs(found, most))
    note = "Of up to 256 test images; where features are more than images, unrelated layers are above 0 too."
    for key, title, head, said in (
        ("cka", "Similarity of representations", ["layer", "linear CKA"], note),
        ("weights", "Distance of weights", ["tensor", "|a - b| / sqrt(|a| |b|)"], ""),
    ):
        rows = list(found.get(key, {}).items())
        if rows:
            tables.append(Table(title, head, rows[:LAYERS], f"{_more(len(rows), LAYERS)} {said}".strip()))
    return tables


def _shares(field: str, values: Sequence, runs: Sequence[str]) -> list[list]:
    """The commonest values of a field, each with how many runs have it, and which if they are few."""
    who: dict[str, list[str]] = {}
    for value, run in zip(values, runs, strict=True):
        who.setdefault(str(value), []).append(run)
    shares = sorted(who.items(), key=lambda item: -len(item[1]))
    rows = [[field, _short(v), len(w), ", ".join(w) if len(w) <= NAMED else ""] for v, w in shares[:VALUES]]
    rest = shares[VALUES:]
    return [*rows, *([[field, f"{len(rest)} others", sum(len(w) for _, w in rest), ""]] if rest else [])]


def _errors(groups: Sequence[dict], many: bool) -> Table:
    """A row a group; of many runs with a column for each field in which the groups differ."""
    columns = {**METRICS, **{f"best_{m}": f"{n} at best" for m, n in METRICS.items()}, "mean_test_error": "curve"}
    columns = {m: name for m, name in columns.items() if any(m in group for group in groups)}
    fields = list(dict.fromkeys(field for group in groups for field in group["fields"])) if many else []
    rows = []
    for group in groups:
        told = [group["fields"].get(field) for field in fields]
        led = [value if isinstance(value, int | float) else _short(value) for value in told] or [group["label"]]
        counted, there = len(group["counted"]), len(group["runs"])
        n = str(counted) if counted == there else f"{counted} of {there}"
        rows.append([*led, _ranges(group["seeds"]), n, group["step"], *(_spread(group.get(m)) for m in columns)])
    note = "Mean and standard deviation over seeds, in percent, at the step that stands beside them. "
    note += "At best: at the least validation error. Curve: the mean of the test error over all evaluations."
    return Table("Errors", [*(fields or ["runs"]), "seeds", "n", "step", *columns.values()], rows, note)


def _pairs(found: dict, most: int) -> Table:
    """Those of the test error first, of these the ones of groups that differ in one field, and of these the least p."""

    def strongest(pair: dict) -> tuple:
        p = [2.0 if pair[key] is None else pair[key] for key in ("p_holm", "p")]
        return (pair["metric"] != "test_error", len(pair["fields"]), *p, -abs(pair["mean"]))

    rows = []
    for pair in sorted(found["pairs"], key=strongest)[:most]:
        points = [None if pair[key] is None else round(pair[key], 3) for key in ("mean", "low", "high")]
        told = [pair["from"], pair["to"], METRICS[pair["metric"]], pair["step"]]
        rows.append([*told, *points, pair["p"], pair["p_holm"], pair["n"]])
    head = ["from", "to", "error", "step", "difference", "95 % low", "high", "p", "p, Holm", "n"]
    note = f"""The second minus the first, in points of percent, over the seeds that both have, at the last step of both
    with an evaluation. Intervals hold one by one, Holm's p over all {found["tests"]:,} tests; one difference, or
    differences that are all equal, cannot be tested."""
    return Table("Paired differences", head, rows, " ".join([_more(len(found["pairs"]), most), *note.split()]).strip())


def _more(there: int, told: int) -> str:
    return f"... and {there - told:,} more (--json has all)" if there > told else ""


def _ranges(seeds: Sequence[int]) -> str:
    """Such as "0-4, 7" for 0, 1, 2, 3, 4, 7."""
    found: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if found and seed == found[-1][-1] + 1:
            found[-1][1:] = [seed]
        else:
            found.append([seed])
    return ", ".join("-".join(map(str, ends)) for ends in found)


def _spread(summary: dict | None) -> str | None:
    if summary is None:
        return None
    return f"{summary['mean']:.2f}" + (f" ± {summary['std']:.2f}" if summary["std"] is not None else "")


def _short(value) -> str:
    """A cell that is not too wide; of a digest its beginning."""
    text = _cell(value)
    if len(text) in (40, 64) and not text.strip("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def _cell(value) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

"""A comparison as text and as a page."""

from collections.abc import Sequence

from classicnets.report.page import Curve, Heat, Table, Verdict, page
from classicnets.report.progress import aligned
from classicnets.runs import Run
from classicnets.runs.table import flat

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
# Layers of which a text tells the similarity.
LAYERS = 30


def comparison_text(found: dict) -> str:
    """What `classicnets compare` prints."""
    lines = [found["sentence"], *_in_depth(found)]
    lines += [f"warning: {warning}" for warning in found["warnings"]]
    lines += [f"left out: {row['run']}: {row['reason']}" for row in found["left_out"]]
    for table in _tables(found):
        head, rows = list(table.columns), [[_cell(cell) for cell in row] for row in table.rows]
        lines += ["", table.title, *aligned(head, rows, left=1)]
    return "\n".join(lines)


def comparison_page(found: dict, runs: Sequence[Run]) -> str:
    """The same as one self-contained page, with the curves of `runs`."""
    verdicts = [Verdict("compared", found["sentence"], " ".join(_in_depth(found)))]
    left_out = [f"{row['run']} is left out: {row['reason']}" for row in found["left_out"]]
    facts = [flat(run.facts) for run in runs]
    varied = list(found["configuration"])
    curves = [
        Curve(run.id, ", ".join(f"{f} {one.get(f)}" for f in varied) or run.id, run.path.as_uri(), series(run))
        for run, one in zip(runs, facts, strict=True)
    ]
    return page(
        f"Comparison of {len(runs)} runs",
        verdicts=verdicts,
        warnings=[*found["warnings"], *left_out],
        curves=curves,
        heat=heats(runs),
        tables=_tables(found),
    )


def heats(runs: Sequence[Run]) -> list[Heat]:
    """Mean test error by depth and width, where both vary; one map for each choice of shortcut."""
    cells: dict[str, dict[tuple[float, float], list[float]]] = {}
    for run in runs:
        one, error = flat(run.facts), run.status.get("test_error")
        if error is not None and one.get("depth") is not None and one.get("width") is not None:
            kind = f"shortcut {one['shortcut']}" if one.get("shortcut") is not None else str(one["model"])
            cells.setdefault(kind, {}).setdefault((one["depth"], one["width"]), []).append(error)
    found = []
    for kind, places in cells.items():
        if len({depth for depth, _ in places}) > 1 and len({width for _, width in places}) > 1:
            rows = [(depth, width, sum(v) / len(v), len(v)) for (depth, width), v in sorted(places.items())]
            found.append(Heat(f"Test error in percent, {kind}", "depth", "width", rows))
    return found


def series(run: Run) -> dict[str, list[tuple[float, float]]]:
    """What a curve of the run can show: metric -> (step, value), where the run has logged it."""
    log = [line for line in run.metrics if "step" in line]
    found = {m: [(line["step"], line[m]) for line in log if line.get(m) is not None] for m in CURVES}
    return {metric: points for metric, points in found.items() if points}


def _in_depth(found: dict) -> list[str]:
    """What is said of two runs."""
    if "not_built" in found:
        return [f"the networks were not built: {found['not_built']}"]
    if "parting" not in found:
        return []
    part = found["parting"]
    if part["identical"]:
        said = [f"the two are bit-identical, up to step {part['step']}"]
    else:
        tensor = f": {part['tensor']}" if part["tensor"] else ""
        field = f" ({part['field']} {_cell(part['values'][0])} and {_cell(part['values'][1])})"
        if part["exact"]:
            said = [f"the two part at step {part['step']}{tensor}"]
        else:
            until = f"at or before step {part['step']}" if part["step"] else "by their ends"
            said = [f"the two part after step {part['after']} and {until}{tensor}{field}"]
    if found["disagreement"] is not None:
        said.append(f"their predictions disagree on {found['disagreement']:.2f} % of the test images")
    return said


def _tables(found: dict) -> list[Table]:
    runs = found["runs"]
    tables = []
    for title in ("configuration", "environment"):
        if found[title]:
            rows = [[field, *map(_cell, values)] for field, values in found[title].items()]
            tables.append(Table(f"{title.capitalize()}, where it differs", ["field", *runs], rows))
    columns = {**METRICS, **{f"best_{m}": f"{n} at best" for m, n in METRICS.items()}, "mean_test_error": "curve"}
    columns = {m: name for m, name in columns.items() if any(m in group for group in found["groups"])}
    rows = [[g["label"], len(g["seeds"]), *(_spread(g.get(m)) for m in columns)] for g in found["groups"]]
    note = "Mean and standard deviation over seeds, in percent. At best: at the least validation error. "
    note += "Curve: the mean of the test error over all evaluations."
    tables.append(Table("Errors", ["runs", "n", *columns.values()], rows, note))
    if found["pairs"]:
        head = ["from", "to", "metric", "step", "difference", "95 % low", "high", "p", "p, Holm", "n"]
        keys = ("from", "to", "metric", "step", "mean", "low", "high", "p", "p_holm", "n")
        note = "Later minus earlier, in points of percent, over the seeds that both have, at their last common step."
        tables.append(Table("Paired differences", head, [[pair[key] for key in keys] for pair in found["pairs"]], note))
    if found.get("cka"):
        rows = [[layer, value] for layer, value in list(found["cka"].items())[:LAYERS]]
        tables.append(Table("Similarity of representations", ["layer", "linear CKA"], rows))
    if found.get("weights"):
        rows = [[tensor, value] for tensor, value in list(found["weights"].items())[:LAYERS]]
        tables.append(Table("Distance of weights", ["tensor", "|a - b| / sqrt(|a| |b|)"], rows))
    return tables


def _spread(summary: dict | None) -> str | None:
    if summary is None:
        return None
    return f"{summary['mean']:.2f}" + (f" ± {summary['std']:.2f}" if summary["std"] is not None else "")


def _cell(value) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

"""Figures of a claim's rows, as SVG that is the same bytes for the same numbers.

Rows hold a run's configuration, and its log as "log".
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
SETTINGS: dict = {"svg.hashsalt": "classicnets", "svg.fonttype": "none", "font.size": 10}


def training_curves(
    path: Path, rows: Sequence[Row], statistics: Mapping, *, panel: str, line: str, titles: Mapping[Any, str]
) -> None:
    """Draw error in percent against iteration, as Figure 6 of He et al. 2016: train dashed, test solid.

    A panel for each value of the field `panel`, named by `titles`, a colour for each of the field `line`, named by
    `titles` too or by its panel's and its own; a line is the mean over seeds, the band their range. Seeds that ended
    early, as diverged ones do, count as far as they went.
    """
    with _panels(path, [titles[value] for value in _values(rows, panel)], "iteration", "error (%)") as axes:
        for axis, value in zip(axes, _values(rows, panel), strict=True):
            for i, of_line in enumerate(_values([row for row in rows if row[panel] == value], line)):
                logs = [row["log"] for row in rows if (row[panel], row[line]) == (value, of_line)]
                name = titles.get(of_line, f"{titles[value]}-{of_line}")
                for key, style in (("train_error", "--"), ("test_error", "-")):
                    errors: dict[int, list[float]] = {}
                    for record in (record for log in logs for record in log if key in record):
                        errors.setdefault(record["step"], []).append(record[key])
                    steps = sorted(errors)
                    mean = [sum(errors[step]) / len(errors[step]) for step in steps]
                    label = f"{name} {key.removesuffix('_error')}"
                    point = "o" if len(steps) == 1 else None
                    axis.plot(steps, mean, style, marker=point, color=f"C{i}", label=label)
                    low, high = ([end(errors[step]) for step in steps] for end in (min, max))
                    axis.fill_between(steps, low, high, color=f"C{i}", alpha=0.12)
            axis.set_ylim(0, 100)


def ranges(path: Path, rows: Sequence[Row], statistics: Mapping, *, x: str, line: str, ylabel: str) -> None:
    """Draw mean and range over seeds of statistics["conditions"], which `claims.by_condition` makes of (x, line).

    A panel for each statistic, against the field `x`, a line for each value of the field `line`.
    """
    conditions = dict.fromkeys((row[x], row[line]) for row in rows)
    of_condition = dict(zip(conditions, statistics["conditions"].values(), strict=True))
    names = list(next(iter(of_condition.values())))
    with _panels(path, names, x, ylabel) as axes:
        for axis, name in zip(axes, names, strict=True):
            for value in _values(rows, line):
                points = {at: of_condition[at, of_line][name] for at, of_line in conditions if of_line == value}
                means = {at: sum(values) / len(values) for at, values in points.items()}
                below = [means[at] - min(values) for at, values in points.items()]
                above = [max(values) - means[at] for at, values in points.items()]
                label = f"{line.replace('_', ' ')} {value}"
                axis.errorbar(list(means), list(means.values()), [below, above], marker="o", capsize=3, label=label)
            axis.axhline(0, color="0.5", linewidth=0.8)


def lines(path: Path, rows: Sequence[Row], statistics: Mapping, *, x: str, y: str, line: str) -> None:
    """Draw mean and range over seeds of the field `y` against the field `x`, a line for each value of `line`."""
    with _panels(path, [""], x, y) as (axis,):
        for value in _values(rows, line):
            points: dict[Any, list[float]] = {}
            for row in rows:
                if row[line] == value:
                    points.setdefault(row[x], []).append(row[y])
            means = [sum(values) / len(values) for values in points.values()]
            axis.plot(list(points), means, marker="o", label=str(value))
            low, high = ([end(values) for values in points.values()] for end in (min, max))
            axis.fill_between(list(points), low, high, alpha=0.12)


@contextmanager
def _panels(path: Path, titles: Sequence[str], xlabel: str, ylabel: str) -> Iterator[Any]:
    """Yield the axes of panels side by side, and write them to `path` at the end."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    with matplotlib.rc_context(SETTINGS):
        size = {"figsize": (9, 3.6), "sharey": True, "layout": "constrained", "squeeze": False}
        figure, axes = plt.subplots(1, len(titles), **size)
        yield axes[0]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set(title=title, xlabel=xlabel)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
        axes[0][0].set_ylabel(ylabel)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)


def _values(rows: Sequence[Row], field: str) -> list:
    return list(dict.fromkeys(row[field] for row in rows))

"""Figures as SVG that is the same bytes for the same numbers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def _plotting() -> Iterator[Any]:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    settings: dict = {"svg.hashsalt": "classicnets", "svg.fonttype": "none", "font.size": 10}
    with matplotlib.rc_context(settings):
        yield plt


def _save(plt, figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def training_curves(path: Path, panels: Mapping[str, Mapping[str, Sequence[Sequence[dict]]]]) -> None:
    """Error in percent against iteration, as Figure 6 of He et al. 2016: train dashed, test solid.

    panels: title -> label -> one metric log a seed; a line is the mean over seeds, the band their range.
    """
    with _plotting() as plt:
        figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.6), sharey=True, layout="constrained", squeeze=False)
        for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
            for i, (label, logs) in enumerate(lines.items()):
                colour = f"C{i}"
                for key, style in (("train_error", "--"), ("test_error", "-")):
                    # Seeds that ended early, as diverged ones do, stay in the mean as far as they went.
                    at: dict[int, list[float]] = {}
                    for record in (record for log in logs for record in log if key in record):
                        at.setdefault(record["step"], []).append(record[key])
                    steps, rows = sorted(at), [at[step] for step in sorted(at)]
                    mean = [sum(row) / len(row) for row in rows]
                    axis.plot(steps, mean, style, color=colour, label=f"{label} {key.removesuffix('_error')}")
                    axis.fill_between(steps, [min(r) for r in rows], [max(r) for r in rows], color=colour, alpha=0.12)
            axis.set(title=title, xlabel="iteration", ylim=(0, 100))
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
        axes[0][0].set_ylabel("error (%)")
        _save(plt, figure, path)


def ranges(
    path: Path, panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], xlabel: str, ylabel: str
) -> None:
    """Mean and range over seeds against one quantity: title -> label -> x -> one value a seed."""
    with _plotting() as plt:
        figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.6), sharey=True, layout="constrained", squeeze=False)
        for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
            for label, points in lines.items():
                means = [sum(values) / len(values) for values in points.values()]
                spread = [
                    [mean - min(values) for mean, values in zip(means, points.values(), strict=True)],
                    [max(values) - mean for mean, values in zip(means, points.values(), strict=True)],
                ]
                axis.errorbar(list(points), means, spread, marker="o", capsize=3, label=label)
            axis.axhline(0, color="0.5", linewidth=0.8)
            axis.set(title=title, xlabel=xlabel)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
        axes[0][0].set_ylabel(ylabel)
        _save(plt, figure, path)

"""The commands that look at runs: runs, verify, compare."""

import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from classicnets.cli.main import EXIT_DAMAGED
from classicnets.cli.options import OneRun, parse, runs_root
from classicnets.report.text import line, table
from classicnets.runs import Record
from classicnets.system import signals

ROW = ("state", "run", "result")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which runs, by words and a condition."""

    words: Positional[tuple[str, ...]] = ()
    """Ids of runs, globs of them, names of experiments, or directories."""
    where: str | None = None
    """Condition on the columns, such as "depth>=32 and shortcut=='none'"; none for no condition."""
    runs: tuple[str, ...] = ("runs",)
    """Directories below which runs are kept."""
    json: bool = False
    """Print the answer as JSON."""


@dataclass(frozen=True, kw_only=True)
class Runs(Selection):
    """List runs, those of --runs by default all, and write their table to a file or to another tool."""

    sort: str | None = None
    """Column by which runs are sorted; none for their names."""
    reverse: bool = False
    """Sort from the greatest."""
    columns: tuple[str, ...] = ()
    """Columns to show, in place of state and test error."""
    csv: Path | None = None
    """File to which the table is written as CSV; none for no such file."""
    parquet: Path | None = None
    """File to which the table is written as Parquet; none for no such file."""
    mlflow: str | None = None
    """URI of the MLflow store to which the runs are exported; none for no export."""
    tensorboard: bool = False
    """Write TensorBoard events of runs that have ended, into their directories."""


@dataclass(frozen=True, kw_only=True)
class Compare(Selection):
    """Say what differs between runs, and by how much; of two also where they part, and how their networks differ."""

    exact: int = 1000
    """Most training steps that are done again to find where two runs part."""
    html: Path | None = None
    """File to which the comparison is written as a page; none for no page."""


def runs(arguments: list[str]) -> int:
    """List runs."""
    from classicnets.exports.tables import columns_of, csv_bytes, parquet_bytes
    from classicnets.runs.index import list_records, select
    from classicnets.system.writing import replace

    options = parse(Runs, arguments, "classicnets runs")
    files = {name: getattr(options, name) for name in ("csv", "parquet")}
    files = {name: _file(name, path) for name, path in files.items() if path is not None}
    records = list_records([*map(runs_root, options.runs)], options.words)
    records = select(records, options.words, options.where, options.sort, options.reverse, options.columns)
    rows = [record.row for record in records]
    columns = list(options.columns) or columns_of(rows)
    if options.tensorboard:
        _write_events(records)
    if options.mlflow is not None:
        _export_to_mlflow(records, options.mlflow)
    for name, path in files.items():
        replace(path, {"csv": csv_bytes, "parquet": parquet_bytes}[name](rows, columns))
    if options.columns:
        rows = [{column: row.get(column) for column in columns} for row in rows]
    if options.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"classicnets: there are no such runs below {' or '.join(map(repr, options.runs))}", file=sys.stderr)
    elif options.columns:
        print("\n".join(table(columns, [[_cell(row[column]) for column in columns] for row in rows])))
    else:
        print(listed(rows))
    return 0


def listed(rows: list[dict]) -> str:
    """Return a table of runs: state, id (the directory where several have one id), test error or what is wrong."""
    times = Counter(row["run"] for row in rows)
    cells = []
    for row in rows:
        error = "" if row.get("test_error") is None else f"test error {row['test_error']:.2f} %"
        name = row["run"] if times[row["run"]] == 1 else row["directory"]
        cells.append((row["state"], name, row.get("reason", row.get("error", error))))
    return "\n".join(table(ROW, cells))


def verify(arguments: list[str]) -> int:
    """Check a run's files."""
    from classicnets.runs import find_run
    from classicnets.runs.verify import verify

    options = parse(OneRun, arguments, "classicnets verify")
    checked = verify(find_run(runs_root(options.runs), options.run))
    if options.json:
        print(json.dumps(checked))
    else:
        print(f"{checked['run']}: good checkpoints {', '.join(map(str, checked['checkpoints'])) or 'none'}")
        print("\n".join(map(line, checked["problems"])) or "no problems")
    return EXIT_DAMAGED if checked["problems"] else 0


def compare(arguments: list[str]) -> int:
    """Compare runs."""
    from classicnets.compare.groups import comparable, compare
    from classicnets.report.comparison import comparison_page, comparison_text
    from classicnets.runs.index import list_records, select
    from classicnets.system.writing import replace

    options = parse(Compare, arguments, "classicnets compare")
    if not options.words and options.where is None:
        raise ValueError("name runs, globs or experiments to compare; 'classicnets runs' lists them")
    if options.exact < 0:
        raise ValueError(f"exact is the most steps that are trained again, at least 0, got {options.exact}")
    file = None if options.html is None else _file("html", options.html)
    records = select(list_records([*map(runs_root, options.runs)], options.words), options.words, options.where)
    if len(records) < 2:
        raise ValueError(f"compare needs two runs at least, and got {records[0].id if records else 'none'}")
    good, left_out = comparable(records)
    if not good:
        raise ValueError(f"none of {len(records)} runs can be compared; {left_out[0]['run']}: {left_out[0]['reason']}")
    comparison = {**compare(good), "left_out": left_out}
    if len(good) == 2:
        comparison |= _in_depth(good, options.exact)
    if file:
        replace(file, comparison_page(comparison, good, file.parent))
    print(json.dumps(comparison) if options.json else comparison_text(comparison))
    return 0


def _in_depth(records: list[Record], exact: int) -> dict:
    """Return what is to be said of two runs: from their records, and from the networks if they can be built."""
    from classicnets.cli.recorded import Rebuilt
    from classicnets.compare.parting import parting
    from classicnets.compare.retrained import Side, in_depth
    from classicnets.report.progress import Bar
    from classicnets.system import caches
    from classicnets.training.session import sentence

    caches.use_cache()
    one, other = records
    parted = parting(one, other)
    try:
        built = [Rebuilt(record.path.parent.parent, str(record.path)) for record in records]
        sides = [Side(r, b.network(**b.layout), b.config, b.start) for r, b in zip(records, built, strict=True)]
        with Bar() as bar:
            last = parted["step"] or min(one.last_step, other.last_step)
            return in_depth(sides[0], sides[1], parted, exact, lambda step: bar("trained again", step, last, {}))
    except signals.Interrupted:
        raise
    except Exception as error:  # a record may hold any value
        reason = str(error).partition("\n")[0] if type(error) is ValueError else sentence(error)
        return {"parting": parted, "not_built": reason}


def _file(option: str, path: Path) -> Path:
    """Return where a file is to be written, behind links; raise ValueError if that cannot be."""
    target = Path(os.path.realpath(path))
    try:
        possible = target.is_file() if target.exists() else target.parent.is_dir()
    except OSError:
        possible = False
    if not possible or not os.access(target.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{option} must be a file in a folder that can be written, got {str(path)!r}")
    return target


def _write_events(records: list[Record]) -> None:
    """Write TensorBoard events of the runs that have ended into their directories."""
    from classicnets.exports import tensorboard as events
    from classicnets.runs import ENDED

    events.require()
    ended = [record for record in records if record.row["state"] in ENDED]
    for record in ended:
        events.write(record)
    print(f"classicnets: TensorBoard events of {len(ended)} of {len(records)} runs, which have ended", file=sys.stderr)


def _export_to_mlflow(records: list[Record], uri: str) -> None:
    """Export runs, and say on standard error what became of them."""
    from classicnets.exports.mlflow import export

    counts = export(records, uri)
    exported, present = counts.pop("exported", 0), counts.pop("present", 0)
    skipped = f"; skipped: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}" if counts else ""
    print(f"classicnets: {exported} runs exported to MLflow, {present} there already{skipped}", file=sys.stderr)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

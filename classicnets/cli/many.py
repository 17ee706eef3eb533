"""The commands over many runs: they read options, call the library and print."""

import contextlib
import itertools
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from classicnets.cli.options import (
    JSON,
    ROOTS,
    RUNS,
    Field,
    dataclass_fields,
    model_fields,
    parse,
    picked,
    runs_root,
    several,
    values,
)
from classicnets.system import signals


def sweep(arguments: list[str]) -> int:
    from classicnets.report.progress import Bar
    from classicnets.runs import ENDED
    from classicnets.sweeps import plan
    from classicnets.sweeps.engines import Placement
    from classicnets.system.accelerators import at_once

    names, rest = _words(arguments)
    options, parts = _grid(names, rest)
    if options.jobs is None:
        options.jobs = at_once(options.cores, options.engine)
    pairs = [pair.partition("=") for pair in options.slurm]
    for pair, (key, _, value) in zip(options.slurm, pairs, strict=True):
        if not (key and value):
            raise ValueError(f"slurm takes NAME=VALUE, got {pair!r}")
    slurm = tuple((key, value) for key, _, value in pairs)
    how = Placement(options.jobs, options.cores, options.retries, options.pack, options.address, slurm)
    plan.require_place(options.engine, how)
    jobs, root = list(_jobs(names, options, parts)), runs_root(options.runs)
    if options.dry_run:
        return _dry_run(plan.unique(jobs, root), options)
    # Ray prints that a worker or a node was lost on standard output, where only the result belongs.
    with Bar() as bar, contextlib.redirect_stdout(sys.stderr):
        rows = plan.sweep(jobs, root, options.engine, how, bar)
    if options.json:
        print(json.dumps(rows))
    else:
        _print_lines(rows)
    missing = sum(row["state"] not in ENDED for row in rows)
    if missing:
        again = shlex.join(["classicnets", "sweep", *arguments])
        print(f"classicnets: {missing} of {len(rows)} runs are missing; to complete them: {again}", file=sys.stderr)
    return 1 if missing else 0


# Options of `train` that a sweep does not take, and why.
ALONE = {
    "resume": "which goes on with all that was interrupted when it is started again",
    "fork": "whose runs start from their seeds",
    **dict.fromkeys(("coordinator", "processes", "process"), "each of whose runs is one process"),
}


def _options(arguments: list[str]) -> list[str]:
    return [word for word in arguments if word.startswith("--")]


def _grid(names: list[str], arguments: list[str]) -> tuple[Any, list[dict[str, tuple]]]:
    """(options, values of each field of network, data and recipe).

    Of a network only what is given is set, since several networks have several defaults.
    """
    from classicnets.data import DataConfig
    from classicnets.models import MODELS, fields_of
    from classicnets.training import Execution, Recipe

    if not names:
        raise ValueError(f"name a model first; choose from {', '.join(MODELS)}")
    of_each = [{field[0]: field for field in model_fields(fields_of(name))} for name in names]
    network = [field for name, field in of_each[0].items() if all(name in fields for fields in of_each)]
    parts = [[f for f in network if f[0] != "num_classes"], dataclass_fields(DataConfig), dataclass_fields(Recipe)]
    execution = [(name, kind, 1 if name == "devices" else value) for name, kind, value in dataclass_fields(Execution)]
    own: list[Field] = [
        ("seed", tuple[int, ...], (0,)),
        ("seeds", int | None, None),
        ("experiment", str, "sweep"),
        ("engine", str, "local"),
        ("jobs", int | None, None),
        ("cores", int, 1),
        ("retries", int, 1),
        ("pack", bool, False),
        ("address", str | None, None),
        ("slurm", tuple[str, ...], ()),
        ("dry_run", bool, False),
    ]
    for word in _options(arguments):
        if (name := word.split("=")[0].lstrip("-").replace("-", "_")) in ALONE:
            raise ValueError(f"{name} is of one run, and not of a sweep, {ALONE[name]}")
    fields = [several(field) for part in parts for field in part]
    options = parse(f"classicnets sweep {' '.join(names)}", arguments, [*fields, *execution, *own, RUNS, JSON])
    given = {word.split("=")[0].lstrip("-").replace("-", "_").removeprefix("no_") for word in _options(arguments)}
    if options.seeds is not None:
        if options.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {options.seeds}")
        if "seed" in given:
            raise ValueError(f"seed must not be given beside seeds, got {', '.join(map(str, options.seed))}")
        options.seed = tuple(range(options.seeds))
    options.execution = Execution(**picked(options, execution))
    parts[0] = [field for field in parts[0] if field[0] in given]
    found = [{field[0]: values(field, getattr(options, field[0])) for field in part} for part in parts]
    for name, chosen in (*(item for part in found for item in part.items()), ("seed", options.seed)):
        if not chosen:
            raise ValueError(f"{name} needs at least one value")
    return options, found


def _jobs(names: list[str], options, parts: list[dict[str, tuple]]) -> Iterator[Any]:
    """One job a combination of values, the seeds of one network side by side."""
    from classicnets.data import DataConfig, load
    from classicnets.models import create
    from classicnets.sweeps import Job
    from classicnets.training import Config, Recipe

    every = {name: chosen for part in parts for name, chosen in part.items()}
    varied = [name for name, chosen in every.items() if len(chosen) > 1]
    for name, combination in itertools.product(names, itertools.product(*every.values())):
        chosen = dict(zip(every, combination, strict=True))
        network, data, recipe = ({field: chosen[field] for field in part} for part in parts)
        config = Config(DataConfig(**data), Recipe(**recipe))
        config.check()
        model = create(name, num_classes=load(config.data).classes, **network)
        label = "-".join([name, *(f"{field}{_label(chosen[field])}" for field in varied)])
        label = "".join(c for c in label if c.isascii() and (c.isalnum() or c in "-_.+"))[:90]
        for seed in options.seed:
            one = replace(config, seed=seed)
            yield Job(model, one, f"{label}-s{seed}", options.experiment, options.execution)


def _label(value) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _dry_run(planned: list, options) -> int:
    """What a sweep would train, how large it is, how long it would take once compiled, and what is done.

    A probe takes a worker's time on a worker's cores.
    """
    from classicnets.complexity.counts import describe
    from classicnets.data import load
    from classicnets.report.progress import Bar, aligned
    from classicnets.runs import ENDED
    from classicnets.sweeps import plan
    from classicnets.system import caches
    from classicnets.system.cores import claim
    from classicnets.training.benchmark import probe

    caches.use_cache()
    rows, counts, costs = [], {}, {}
    shared = "other workers hold the cores: the times are of cores shared with them"
    with Bar() as bar, contextlib.ExitStack() as held:
        for file in claim(options.cores, lambda: bar.note(shared), share=True):
            held.enter_context(file)
        for job, run in planned:
            state, data = plan.state_of(run), job.config.data
            net = (job.model, data, job.config.recipe.batch_size)
            if net not in counts:
                height, width, channels = load(data).images.shape[1:]
                shape = (data.image_size or height, data.image_size or width, channels)
                counts[net] = {k: v for k, v in describe(job.model, shape).items() if k in ("parameters", "macs")}
            seconds = 0.0
            if not run.has_ended:
                if net not in costs:
                    bar.note(f"probing {run.id}")
                    costs[net] = probe(job.model, job.config)
                seconds = costs[net].of(job.config, job.execution)
            rows.append({"run": run.id, "state": state, **counts[net], "seconds": seconds})
    of_run = {row["run"]: row["seconds"] for row in rows}
    of_task = [sum(of_run[run.id] for _, run in task) for task in plan.tasks(planned, options.pack)]
    total = max([sum(of_task) / options.jobs, *of_task])  # a task is one worker's
    if options.json:
        print(json.dumps({"runs": rows, "seconds": total, "jobs": options.jobs, "cores": options.cores}))
        return 0
    cells = [
        [r["run"], r["state"], f"{r['parameters']:,}", f"{r['macs'] / 1e6:,.2f} M", f"{r['seconds']:,.1f} s"]
        for r in rows
    ]
    print("\n".join(aligned(["run", "state", "parameters", "MACs", "time"], cells, left=2)))
    done = sum(row["state"] in ENDED for row in rows)
    print(f"{len(rows)} runs, {done} done; about {total:,.0f} s for the rest, beside compilation")
    return 0


def _words(arguments: list[str]) -> tuple[list[str], list[str]]:
    """(the words before the first option, the rest)."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    return words, arguments[len(words) :]


def _print_lines(rows: list[dict]) -> None:
    """A line a run: state, name, and its test error or what is wrong."""
    from classicnets.report.progress import line

    times = Counter(row["run"] for row in rows)
    for row in rows:
        name = row["run"] if times[row["run"]] == 1 else row["directory"]
        error = "" if row.get("test_error") is None else f"test error {row['test_error']:.2f} %"
        print(line(f"{row['state']:12} {name}  {row.get('reason', row.get('error', error))}".rstrip()))


def runs(arguments: list[str]) -> int:
    from classicnets.exports.tables import columns_of, csv_bytes, parquet_bytes
    from classicnets.report.progress import aligned
    from classicnets.runs.table import chosen, tables
    from classicnets.system.writing import replace

    own: list[Field] = [
        ("where", str | None, None),
        ("sort", str | None, None),
        ("reverse", bool, False),
        ("columns", tuple[str, ...], ()),
        ("csv", Path | None, None),
        ("parquet", Path | None, None),
        ("mlflow", str | None, None),
        ("tensorboard", bool, False),
    ]
    words, rest = _words(arguments)
    options = parse("classicnets runs", rest, [*own, ROOTS, JSON])
    targets = {name: _target(name, path) for name in ("csv", "parquet") if (path := getattr(options, name)) is not None}
    rows = chosen(
        tables([*map(runs_root, options.runs)], words),
        words,
        options.where,
        options.sort,
        options.reverse,
        options.columns,
    )
    columns = list(options.columns) or columns_of(rows)
    if options.tensorboard:
        _write_events(rows)
    if options.mlflow is not None:
        _export_to_mlflow(rows, options.mlflow)
    for name, path in targets.items():
        replace(path, {"csv": csv_bytes, "parquet": parquet_bytes}[name](rows, columns))
    if options.columns:
        rows = [{column: row.get(column) for column in columns} for row in rows]
    if options.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"classicnets: there are no such runs below {' or '.join(map(repr, options.runs))}", file=sys.stderr)
    elif options.columns:
        print("\n".join(aligned(columns, [[_shown(row[column]) for column in columns] for row in rows], left=1)))
    else:
        _print_lines(rows)
    return 0


def _target(option: str, path: Path) -> Path:
    """Where a file is to be written, behind links; ValueError if that cannot be."""
    found = Path(os.path.realpath(path))
    try:
        there = found.is_file() if found.exists() else found.parent.is_dir()
    except OSError:
        there = False
    if not there or not os.access(found.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{option} must be a file in a folder that can be written, got {str(path)!r}")
    return found


def _write_events(rows: list[dict]) -> None:
    """TensorBoard events of those that have ended, in their directories."""
    from classicnets.exports import tensorboard as events
    from classicnets.runs import ENDED, Run

    events.require()
    ended = [row for row in rows if row["state"] in ENDED]
    for row in ended:
        events.write(Run(Path(row["directory"])))
    print(f"classicnets: TensorBoard events of {len(ended)} of {len(rows)} runs, which have ended", file=sys.stderr)


def _export_to_mlflow(rows: list[dict], uri: str) -> None:
    """Also says on standard error what became of them."""
    from classicnets.exports.mlflow import export

    counts = export(rows, uri)
    exported, present = counts.pop("exported", 0), counts.pop("present", 0)
    skipped = f"; skipped: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))}" if counts else ""
    print(f"classicnets: {exported} runs exported to MLflow, {present} there already{skipped}", file=sys.stderr)


def _shown(value) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def compare(arguments: list[str]) -> int:
    from classicnets.compare.groups import compare
    from classicnets.report.comparison import comparison_page, comparison_text
    from classicnets.runs.record import readable
    from classicnets.runs.table import chosen, tables
    from classicnets.system.writing import replace as write

    own: list[Field] = [("where", str | None, None), ("exact", int, 1000), ("html", Path | None, None)]
    words, rest = _words(arguments)
    options = parse("classicnets compare RUN...", rest, [*own, ROOTS, JSON])
    if not words and options.where is None:
        raise ValueError("name runs, globs or experiments to compare; 'classicnets runs' lists them")
    if options.exact < 0:
        raise ValueError(f"exact is the most steps that are trained again, at least 0, got {options.exact}")
    target = None if options.html is None else _target("html", options.html)
    rows = chosen(tables([*map(runs_root, options.runs)], words), words, options.where)
    if len(rows) < 2:
        raise ValueError(f"compare needs two runs at least, and got {rows[0]['run'] if rows else 'none'}")
    good, bad = readable(rows)
    if not good:
        raise ValueError(f"none of {len(rows)} runs can be compared; {bad[0]['run']}: {bad[0]['reason']}")
    found = {**compare(good), "left_out": [{"run": row["run"], "reason": row["reason"]} for row in bad]}
    if len(good) == 2:
        found |= _in_depth(good, options)
    if target:
        write(target, comparison_page(found, good, target.parent))
    print(json.dumps(found) if options.json else comparison_text(found))
    return 0


def _in_depth(runs: list, options) -> dict:
    """What is said of two runs: from their records, and beside that what takes the networks, if they can be built."""
    from classicnets.cli.recorded import Record
    from classicnets.compare.parting import parting
    from classicnets.compare.retrained import in_depth
    from classicnets.report.progress import Bar
    from classicnets.system import caches
    from classicnets.training.session import sentence

    caches.use_cache()
    found = parting(*runs)
    try:
        one, other = (Record(recorded.run.path.parent.parent, str(recorded.run.path)) for recorded in runs)
        with Bar() as bar:
            last = found["step"] or min(recorded.last_step for recorded in runs)
            return in_depth(one, other, found, options.exact, lambda step: bar("trained again", step, last, {}))
    except signals.Interrupted:
        raise
    except Exception as error:  # a record may hold any value
        return {
            "parting": found,
            "not_built": str(error).partition("\n")[0] if type(error) is ValueError else sentence(error),
        }

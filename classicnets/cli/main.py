"""The command line: it reads options, calls the library and prints; heavy imports wait until they are needed."""

import dataclasses
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from classicnets import __version__
from classicnets.cli.options import (
    JSON,
    RUNS,
    Field,
    dataclass_fields,
    model_fields,
    parse,
    picked,
    positive,
    runs_root,
    taken,
)
from classicnets.report.progress import line
from classicnets.system import signals
from classicnets.system.words import nearest

HELP = """usage: classicnets COMMAND ...

  models                     the networks by name
  describe MODEL [options]   a network layer by layer, beside what its paper prints
  train MODEL [options]      one run: trained, resumed, or returned if it is complete
  train --resume RUN         the same from the run's record
  train --fork RUN [options] a new run that starts from the weights of RUN
  eval RUN                   errors of a run's newest good checkpoint
  sweep MODEL [options]      every combination of the options' values: --seeds N, --dry-run, --engine, --pack
  runs [RUN...] [options]    those below --runs: --where, --sort, --columns, --csv, --parquet, --mlflow, --tensorboard
  compare RUN RUN... [--html FILE]  what differs between runs, globs of runs or experiments, and by how much
  verify RUN                 every file that a run holds, checked
  rerun RUN                  the run once more, from its record, compared bit by bit
  data list                  the data sets, and which are here
  data prepare NAME          fetch one
  bench MODEL [options]      one training step, timed beside flax's own convolution
  --version                  classicnets and its number

torchvision's resnet50 is resnet50_v1_5 here, since resnet50 is the paper's; other libraries' names are told.
'classicnets COMMAND MODEL --help' lists the options. Every listing takes --json."""

EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_LOCKED, EXIT_NOT_WRITTEN, EXIT_DAMAGED = 2, 3, 4, 5, 6


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an encoding without a character must not end a program
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    if arguments[0] == "--version":
        print(f"classicnets {__version__}")
        return
    sys.exit(answer("classicnets", _command, arguments))


def answer(program: str, function: Callable[[list[str]], int], arguments: list[str]) -> int:
    """The exit status of `function`; what it refuses or warns of is one sentence on standard error."""

    def say(sentence) -> None:
        print(line(f"{program}: {sentence}"), file=sys.stderr)

    signals.install()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_: say(message)
        try:
            return function(arguments)
        except ValueError as error:
            say(error)
            return EXIT_BAD_INPUT
        except BrokenPipeError:  # the reader of the output, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except signals.Interrupted:
            say("interrupted; start the same command again to resume")
            return signals.EXIT_INTERRUPTED
        except Exception as error:
            from classicnets.runs.run import RunLocked
            from classicnets.system import accelerators
            from classicnets.system.writing import WriteFailed

            status = {RunLocked: EXIT_LOCKED, WriteFailed: EXIT_NOT_WRITTEN}.get(type(error))
            if isinstance(error, RuntimeError | AssertionError) and not accelerators.there_are():
                say(accelerators.MISSING.format(accelerators.platforms()))
                return EXIT_BAD_INPUT
            if status is None:
                raise
            say(error)
            return status


def _command(arguments: list[str]) -> int:
    commands = {
        "models": models,
        "describe": describe,
        "train": train,
        "sweep": lambda rest: _many("sweep", rest),
        "runs": lambda rest: _many("runs", rest),
        "compare": lambda rest: _many("compare", rest),
        "eval": evaluate,
        "verify": verify,
        "rerun": rerun,
        "data": data,
        "bench": bench,
    }
    command, *rest = arguments
    if command not in commands:
        raise ValueError(f"unknown command {command!r}{nearest(command, commands)}")
    if rest and rest[0] in ("-h", "--help"):
        print(HELP)
        return 0
    return commands[command](rest)


def _many(command: str, arguments: list[str]) -> int:
    from classicnets.cli import many as commands

    return getattr(commands, command)(arguments)


def models(arguments: list[str]) -> int:
    from classicnets.complexity.counts import listing
    from classicnets.complexity.printed import SOURCES
    from classicnets.models import MODELS, create, input_size

    options = parse("classicnets models", arguments, [("filter", str, ""), JSON])
    names = [name for name in MODELS if options.filter in name]
    if not names:
        raise ValueError(f"no model's name contains {options.filter!r}; choose from {', '.join(MODELS)}")
    shapes = {name: (input_size(name), input_size(name), 3) for name in names}
    counted = listing({name: (lambda name=name: create(name), shape) for name, shape in shapes.items()})
    rows = [{"name": name, **counted[name], "input_size": input_size(name), "source": SOURCES[name]} for name in names]
    _print(
        options.json,
        rows,
        lambda r: (
            f"{r['name']:22} {r['parameters']:>12,} {r['macs'] / 1e6:>10,.1f} M  {r['input_size']:>3}  {r['source']}"
        ),
    )
    return 0


def describe(arguments: list[str]) -> int:
    from classicnets.complexity.counts import describe
    from classicnets.complexity.printed import NOTES, SOURCES, compared
    from classicnets.models import create, fields_of, input_size
    from classicnets.report.description import description

    name, fields, rest = _model(arguments)
    own = [("image_size", int, input_size(name)), ("image_channels", int, 3)]
    options = parse(f"classicnets describe {name}", rest, [*fields, *own, JSON])
    positive(options, "image_size", "image_channels")
    model = create(name, **picked(options, fields))
    found = describe(model, (options.image_size, options.image_size, options.image_channels))
    found |= {"name": name, "source": SOURCES[name], "note": NOTES.get(name, ""), "printed": []}
    if (options.image_size, options.image_channels) == (input_size(name), 3):
        defaults = {field: default for field, _, default in fields_of(name)}
        # How it is run, or in what type, changes no count.
        given = {field: getattr(model, field) for field in defaults if field not in ("conv", "unroll", "dtype")}
        found["printed"] = list(compared(name, given, defaults, found))
    print(json.dumps(found) if options.json else description(found))
    return 0


def train(arguments: list[str]) -> int:
    from classicnets.runs.run import refuse_held

    root = taken(arguments, "--runs")[0] or "runs"
    refuse_held(runs_root(root), ["train", *arguments], taken(arguments, "--resume")[0])

    from classicnets.data import load
    from classicnets.exports import tensorboard
    from classicnets.models import create
    from classicnets.report.progress import Bar
    from classicnets.system import caches
    from classicnets.training import facts
    from classicnets.training import train as train_run
    from classicnets.training.processes import join

    asked = _asked(arguments)
    options, config = asked.options, asked.config
    config.check()
    writer = tensorboard.writer(asked.execution.tensorboard)
    model = asked.network or create(asked.name, num_classes=load(config.data).classes, **asked.fields)
    join(options.coordinator, options.processes, options.process)
    caches.use_cache()
    if asked.resumed and not asked.resumed.named_by_source:
        asked.resumed.refuse_other_numbers(facts(model, config, asked.execution, asked.start))
        asked.resumed.refuse_another_place()
    label = "-".join(str(getattr(options, f)) for f in ("depth", "shortcut", "dataset") if hasattr(options, f))
    with Bar(runs_root(options.runs) / options.experiment) as bar:
        run = train_run(
            model,
            config,
            runs=runs_root(options.runs),
            experiment=options.experiment,
            name=f"{asked.name}-{label}-s{options.seed}",
            execution=asked.execution,
            progress=bar,
            start=asked.start,
            resumed=asked.resumed.run if asked.resumed else None,
            writer=writer,
        )
    import jax

    status = run.status
    if jax.process_index() == 0:
        _print(options.json, {"run": run.id, "directory": str(run.path), **status})
    if status["state"] != "diverged":
        return 0
    last = f"the last finite checkpoint is step {status['checkpoint']}" if status["checkpoint"] else "none was saved"
    print(f"classicnets: step {status['step']}: {status['tensor']} is not finite; {last}", file=sys.stderr)
    return EXIT_DIVERGED


def _asked(arguments: list[str]) -> SimpleNamespace:
    """What `train` was asked for: the network's name and fields, configuration, execution, and the run it goes on from.

    Of a run that is resumed or forked, the record gives the defaults.
    """
    from classicnets.cli.recorded import Record
    from classicnets.data import DataConfig
    from classicnets.training import Config, Execution, Parent, Recipe, Start

    resumed, rest = taken(arguments, "--resume")
    forked, rest = taken(rest, "--fork")
    if resumed is not None and forked is not None:
        raise ValueError("resume continues a run and fork begins another: give one of them")
    word, record = resumed if forked is None else forked, None
    if word is not None:
        root, rest = taken(rest, "--runs")
        record = Record(runs_root("runs" if root is None else root), word)
        rest = [record.model or record.label, *rest] if not rest or rest[0].startswith("-") else rest
    network = record.network() if record and not record.model and rest[0] == record.label else None
    name, fields, rest = _model(rest) if network is None else (rest[0], [], rest[1:])
    fields = [field for field in fields if field[0] != "num_classes"]
    data, recipe, execution = (dataclass_fields(cls) for cls in (DataConfig, Recipe, Execution))
    decided = [*fields, *data, *recipe, ("seed", int, 0)]
    if record:
        decided, execution = (
            [(field, kind, record.options.get(field, default)) for field, kind, default in part]
            for part in (decided, execution)
        )
    own = [RUNS, ("experiment", str, "default"), JSON, *PROCESSES]
    options = parse(f"classicnets train {name}", rest, [*decided, *execution, *own])
    start = None
    if record:
        options.runs, options.experiment = str(record.run.path.parent.parent), record.run.path.parent.name
        start = record.start if forked is None else Start(Parent.newest(record.run))
        if forked is None:
            record.refuse_other(name, options, decided)
    return SimpleNamespace(
        name=name,
        options=options,
        network=network,
        fields=picked(options, fields),
        config=Config(DataConfig(**picked(options, data)), Recipe(**picked(options, recipe)), options.seed),
        execution=Execution(**picked(options, execution)),
        resumed=record if forked is None else None,
        start=start,
    )


def verify(arguments: list[str]) -> int:
    from classicnets.runs import find_run
    from classicnets.runs.verify import verify

    word, options = _run("verify", arguments)
    found = verify(find_run(runs_root(options.runs), word))
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{found['run']}: good checkpoints {', '.join(map(str, found['checkpoints'])) or 'none'}")
        print("\n".join(found["problems"]) or "no problems")
    return EXIT_DAMAGED if found["problems"] else 0


def rerun(arguments: list[str]) -> int:
    from classicnets.cli.recorded import Record
    from classicnets.compare.rerun import rerun
    from classicnets.report.progress import Bar
    from classicnets.system import caches
    from classicnets.training import Execution

    word, options = _run("rerun", arguments)
    record = Record(runs_root(options.runs), word)
    caches.use_cache()
    known = {f.name for f in dataclasses.fields(Execution)}
    how = Execution(**{key: value for key, value in record.execution.items() if key in known})
    with Bar() as bar:
        found = rerun(record.run, record.network(**record.layout), record.config, how, record.start, bar)
    if options.json:
        print(json.dumps(found))
    elif found["identical"]:
        print(f"{found['run']}: bit-identical")
    else:
        where = "" if found["step"] is None else f" at step {found['step']}"
        print(f"{found['run']}: parts{where}: {found['field']} {found['recorded']} -> {found['repeated']}")
    return 0 if found["identical"] else 1


def evaluate(arguments: list[str]) -> int:
    from classicnets.cli.recorded import Record
    from classicnets.system import caches
    from classicnets.training import evaluate

    word, options = _run("eval", arguments)
    record = Record(runs_root(options.runs), word)
    caches.use_cache()
    _print(options.json, {"run": record.run.id, **evaluate(record.run, record.network(), record.config)})
    return 0


def data(arguments: list[str]) -> int:
    from classicnets import data

    action, *rest = arguments or [""]
    if action == "list":
        options = parse("classicnets data list", rest, [JSON])

        def line(row: dict) -> str:
            shape, sizes = "x".join(map(str, row["shape"])), f"{row['train']}+{row['validation']}+{row['test']}"
            what = row["command"] or row["source"]
            return f"{row['name']:14} {row['state']:9} {shape:8} {sizes:18} {what}"

        _print(options.json, data.listing(), line)
    elif action == "prepare":
        if not rest or rest[0].startswith("-"):
            raise ValueError(f"name a data set first; choose from {', '.join(sorted(data.DATASETS))}")
        name, *rest = rest
        options = parse(f"classicnets data prepare {name}", rest, [("source", Path | None, None), JSON])
        _print(options.json, {"name": name, "directory": str(data.prepare(name, options.source))})
    else:
        raise ValueError(f"unknown action {action!r} of data; choose list or prepare")
    return 0


def bench(arguments: list[str]) -> int:
    from classicnets.models import create, input_size
    from classicnets.training.benchmark import bench

    name, fields, rest = _model(arguments)
    fields = [field for field in fields if field[0] not in ("conv", "unroll")]
    own = [("batch_size", int, 128), ("image_size", int, input_size(name)), ("repeats", int, 9), JSON]
    options = parse(f"classicnets bench {name}", rest, [*fields, *own])
    positive(options, "batch_size", "image_size", "repeats")
    model = create(name, **picked(options, fields))
    rows = bench(model, options.batch_size, options.image_size, options.repeats)

    def line(row: dict) -> str:
        return (
            f"{row['case']:34} {row['median_ms']:9.1f} ms a step ({row['min_ms']:.1f} to {row['max_ms']:.1f}, "
            f"n = {row['n']})  compiled in {row['compile_seconds']:.1f} s"
        )

    _print(options.json, rows, line)
    return 0


PROCESSES: list[Field] = [
    ("coordinator", str | None, None),
    ("processes", int | None, None),
    ("process", int | None, None),
]


def _model(arguments: list[str]) -> tuple[str, list[Field], list[str]]:
    """(name, fields, remaining arguments) of a command that names a model first."""
    from classicnets.models import MODELS, fields_of

    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"name a model first; choose from {', '.join(MODELS)}")
    name, *rest = arguments
    return name, model_fields(fields_of(name)), rest


def _run(command: str, arguments: list[str]) -> tuple[str, Any]:
    """(word for a run, options) of a command that names a run first."""
    if not arguments or arguments[0].startswith("-"):
        raise ValueError("name a run first; 'classicnets runs' lists them")
    word, *rest = arguments
    return word, parse(f"classicnets {command} RUN", rest, [RUNS, JSON])


def _print(as_json: bool, found: Any, line: Callable[[dict], str] | None = None) -> None:
    """One JSON value, or a line a row, or a line a fact."""
    if as_json:
        print(json.dumps(found))
    elif line:
        for row in found:
            print(line(row))
    else:
        for key, value in found.items():
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()

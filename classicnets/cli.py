"""The command line: it reads options, calls the library and prints; heavy imports wait until they are needed."""

import contextlib
import dataclasses
import difflib
import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_origin

HELP = """usage: classicnets COMMAND ...

  models                     the networks by name
  describe MODEL [options]   parameters of a network
  train MODEL [options]      one run: trained, resumed, or returned if it is complete
  train --resume RUN         the same from the run's record
  eval RUN                   errors of a run's newest good checkpoint
  runs                       the runs below --runs
  data list                  the data sets, and which are here
  data prepare NAME          fetch one
  bench MODEL [options]      one training step, timed beside flax's own convolution

'classicnets COMMAND MODEL --help' lists the options. Every listing takes --json."""

EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_LOCKED, EXIT_INTERRUPTED = 2, 3, 4, 75

Field = tuple[str, Any, Any]
RUNS: Field = ("runs", Path, Path("runs"))
JSON: Field = ("json", bool, False)


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return
    sys.exit(answer("classicnets", _command, arguments))


def answer(program: str, function: Callable[[list[str]], int], arguments: list[str]) -> int:
    """The exit status of `function`; what it refuses or warns of is one sentence on standard error."""

    def say(sentence) -> None:
        print(f"{program}: {sentence}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_: say(message)
        try:
            return function(arguments)
        except ValueError as error:
            say(error)
            return EXIT_BAD_INPUT
        except KeyboardInterrupt:
            say("interrupted; start the same command again to resume")
            return EXIT_INTERRUPTED
        except Exception as error:
            from classicnets.runs.store import RunLocked

            if not isinstance(error, RunLocked):
                raise
            say(error)
            return EXIT_LOCKED


def _command(arguments: list[str]) -> int:
    commands = {
        "models": models,
        "describe": describe,
        "train": train,
        "eval": evaluate,
        "runs": runs,
        "data": data,
        "bench": bench,
    }
    command, *rest = arguments
    if command not in commands:
        raise ValueError(f"unknown command {command!r}; choose from {', '.join(commands)}")
    return commands[command](rest)


def models(arguments: list[str]) -> int:
    from classicnets.models import MODELS, create, parameters

    options = parse("classicnets models", arguments, [JSON])
    rows = [{"name": name, "parameters": parameters(create(name)), "source": _source(name)} for name in MODELS]
    _print(options.json, rows, lambda r: f"{r['name']:20} {r['parameters']:>12,}  {r['source']}")
    return 0


def describe(arguments: list[str]) -> int:
    from classicnets.models import create, parameters

    name, fields, rest = _model(arguments)
    options = parse(f"classicnets describe {name}", rest, [*fields, JSON])
    model = create(name, **_picked(options, fields))
    _print(options.json, {"name": name, "parameters": parameters(model)})
    return 0


def train(arguments: list[str]) -> int:
    from classicnets.data import DataConfig, load
    from classicnets.models import create
    from classicnets.training import Config, Execution, Recipe, compilation, facts
    from classicnets.training import train as train_run

    record = None
    word, rest = _taken(arguments, "--resume")
    if word is not None:
        record = Record(_taken(rest, "--runs")[0] or "runs", word)
        rest = [record.model, *rest] if not rest or rest[0].startswith("-") else rest
    name, fields, rest = _model(rest)
    fields = [field for field in fields if field[0] != "num_classes"]
    data, recipe, execution = (_fields(cls) for cls in (DataConfig, Recipe, Execution))
    decided = [*fields, *data, *recipe, ("seed", int, 0)]
    if record:
        decided = [(field, kind, record.options.get(field, default)) for field, kind, default in decided]
    options = parse(
        f"classicnets train {name}",
        rest,
        [*decided, *execution, RUNS, ("experiment", str, "default"), JSON, *PROCESSES],
    )
    if record:
        record.refuse_other(name, options, decided)
        options.runs, options.experiment = record.run.path.parents[1], record.run.path.parent.name
    config = Config(DataConfig(**_picked(options, data)), Recipe(**_picked(options, recipe)), options.seed)
    config.check()
    model = create(name, num_classes=load(config.data).classes, **_picked(options, fields))
    _join(options)
    compilation.use_cache()
    how = Execution(**_picked(options, execution))
    if record:
        record.refuse_other_numbers(facts(model, config, how))
    label = "-".join(str(getattr(options, field)) for field in (*[f[0] for f in fields[:2]], "dataset"))
    with Bar() as bar:
        run = train_run(
            model,
            config,
            runs=options.runs,
            experiment=options.experiment,
            name=f"{name}-{label}-s{options.seed}",
            execution=how,
            progress=bar,
        )
    import jax

    if jax.process_index() == 0:
        _print(options.json, {"run": run.id, "directory": str(run.path), **run.status})
    return EXIT_DIVERGED if run.status["state"] == "diverged" else 0


def evaluate(arguments: list[str]) -> int:
    from classicnets.models import create
    from classicnets.training import compilation, evaluate

    if not arguments or arguments[0].startswith("-"):
        raise ValueError("name a run first; 'classicnets runs' lists them")
    word, *rest = arguments
    options = parse("classicnets eval RUN", rest, [RUNS, JSON])
    record = Record(options.runs, word)
    compilation.use_cache()
    model = create(record.model, **record.fields)
    _print(options.json, {"run": record.run.id, **evaluate(record.run, model, record.config)})
    return 0


def runs(arguments: list[str]) -> int:
    from classicnets.runs import list_runs

    options = parse("classicnets runs", arguments, [RUNS, JSON])
    rows = [{"run": run.id, "directory": str(run.path), **run.status} for run in list_runs(options.runs)]

    def line(row: dict) -> str:
        error = "" if row.get("test_error") is None else f"test error {row['test_error']:.2f} %"
        return f"{row['state']:12} {row['run']}  {error}".rstrip()

    _print(options.json, rows, line)
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
    from classicnets.analysis.bench import bench
    from classicnets.models import create

    name, fields, rest = _model(arguments)
    fields = [field for field in fields if field[0] not in ("conv", "unroll")]
    own = [("batch_size", int, 128), ("image_size", int, 32), ("repeats", int, 9), JSON]
    options = parse(f"classicnets bench {name}", rest, [*fields, *own])
    model = create(name, **_picked(options, fields))
    rows = bench(model, options.batch_size, options.image_size, options.repeats)

    def line(row: dict) -> str:
        return (
            f"{row['case']:34} {row['median_ms']:9.1f} ms a step ({row['min_ms']:.1f} to {row['max_ms']:.1f}, "
            f"n = {row['n']})  compiled in {row['compile_seconds']:.1f} s"
        )

    _print(options.json, rows, line)
    return 0


class Record:
    """A run found again by its id or directory, and what its record says of it."""

    def __init__(self, runs: str | Path, word: str):
        from classicnets.models import from_facts
        from classicnets.runs import find_run
        from classicnets.training import config_of

        self.run = find_run(Path(runs), word)
        self.model, self.fields = from_facts(self.run.config["model"])
        self.config = config_of(self.run)
        parts = (self.config.data, self.config.recipe)
        self.options = {**self.fields, "seed": self.config.seed}
        for part in parts:
            self.options |= dataclasses.asdict(part)

    def refuse_other(self, name: str, options, decided: list[Field]) -> None:
        """ValueError naming the first option that differs from the record."""
        pairs = [("model", self.model, name)]
        pairs += [(field, recorded, getattr(options, field)) for field, _, recorded in decided]
        for field, recorded, given in pairs:
            if given != recorded:
                raise ValueError(
                    f"{field} is {recorded!r} in the record of {self.run.id}, got {given!r}; "
                    "leave the option out, or leave --resume out to start another run"
                )

    def refuse_other_numbers(self, facts: dict) -> None:
        """ValueError if this code, data or number of devices no longer give the run's numbers."""
        recorded = {k: v for k, v in self.run.config.items() if k != "schema"}
        facts = json.loads(json.dumps(facts))
        for key in sorted({*recorded, *facts}):
            if recorded.get(key) != facts.get(key):
                raise ValueError(
                    f"{key} is {recorded.get(key)!r} in the record of {self.run.id} and {facts.get(key)!r} here: "
                    "it cannot be continued to the same numbers"
                )


class Bar:
    """Progress of runs on standard error; off a terminal only what `note` says."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.tasks: dict[str, Any] = {}
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, run: str, step: int, total: int, record: dict) -> None:
        error = record.get("train_error_running")
        text = run if error is None else f"{run}  train error {error:.1f} %"
        if run not in self.tasks:
            self.tasks[run] = self.progress.add_task(text, total=total)
        self.progress.update(self.tasks[run], completed=step, description=text, visible=step < total)

    def note(self, line: str) -> None:
        self.progress.console.print(line, soft_wrap=True)


def parse(program: str, arguments: list[str], fields: list[Field]) -> Any:
    """The options as attributes; ValueError, in one sentence, for an unknown or mistyped one."""
    import tyro

    known = [f"--{name.replace('_', '-')}" for name, _, _ in fields]
    for word in arguments:
        option = word.split("=")[0].replace("_", "-")
        if option.startswith("--") and option.replace("--no-", "--", 1) not in known and option != "--help":
            near = difflib.get_close_matches(option, known, n=1)
            raise ValueError(f"unknown option {option}; {f'the nearest is {near[0]}' if near else 'see --help'}")
    rows = [(name, kind, dataclasses.field(default=default)) for name, kind, default in fields]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(dataclasses.make_dataclass("Options", rows), prog=program, args=arguments)
    except SystemExit as end:
        if not end.code:
            raise
        # tyro frames its complaint: the text before the first rule says it all.
        lines = [line.strip("│ ") for line in complaint.getvalue().splitlines()[1:]]
        text = " ".join(lines[: next(i for i, line in enumerate(lines) if not line.strip("─╰╯"))])
        raise ValueError(f"{text.rstrip('.')}; see '{program} --help'") from None


PROCESSES: list[Field] = [
    ("coordinator", str | None, None),
    ("processes", int | None, None),
    ("process", int | None, None),
]


def _join(options) -> None:
    """Become one of several processes that train one run (`jax.distributed`)."""
    several = (options.coordinator, options.processes, options.process)
    if several == (None, None, None):
        return
    if None in several:
        raise ValueError("coordinator, processes and process are given together: HOST:PORT, how many, and which one")
    if not 0 <= options.process < options.processes:
        raise ValueError(f"process must be in [0, {options.processes - 1}], got {options.process}")
    import jax

    jax.distributed.initialize(options.coordinator, options.processes, options.process)


def _taken(arguments: list[str], option: str) -> tuple[str | None, list[str]]:
    """(value of `option`, the other arguments)."""
    for i, word in enumerate(arguments):
        if word == option:
            if i + 1 == len(arguments):
                raise ValueError(f"{option} needs a value")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
        if word.startswith(f"{option}="):
            return word.partition("=")[2], arguments[:i] + arguments[i + 1 :]
    return None, arguments


def _model(arguments: list[str]) -> tuple[str, list[Field], list[str]]:
    """(name, fields, remaining arguments) of a command that names a model first."""
    from classicnets.models import MODELS, nearest

    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"name a model first; choose from {', '.join(MODELS)}")
    name, *rest = arguments
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{nearest(name, MODELS)}")
    skip = ("parent", "name", "axis_name", "dtype")
    return name, [*(f for f in _fields(MODELS[name]) if f[0] not in skip), ("dtype", str, "float32")], rest


def _fields(cls) -> list[Field]:
    """(name, type, default) of a dataclass; choices are read as words, since the checks name them better."""
    return [
        (f.name, str if get_origin(f.type) is Literal else f.type, f.default) for f in dataclasses.fields(cls) if f.init
    ]


def _picked(options, fields: list[Field]) -> dict:
    return {name: getattr(options, name) for name, _, _ in fields}


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


def _source(name: str) -> str:
    import importlib

    from classicnets.models import MODELS

    return (importlib.import_module(MODELS[name].__module__).__doc__ or "").split("\n")[0]


if __name__ == "__main__":
    main()

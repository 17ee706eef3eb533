"""The command line: it reads options, calls the library and prints; heavy imports wait until they are needed."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal, get_origin

HELP = """usage: classicnets COMMAND ...

  models                     the networks by name
  describe MODEL [options]   parameters of a network
  train MODEL [options]      one run: trained, resumed, or returned if it is complete
  runs                       the runs below --runs

'classicnets COMMAND MODEL --help' lists the options. Every listing takes --json."""

EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_LOCKED, EXIT_INTERRUPTED = 2, 3, 4, 75


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return
    commands = {"models": models, "describe": describe, "train": train, "runs": runs}
    command, *rest = arguments
    try:
        if command not in commands:
            raise ValueError(f"unknown command {command!r}; choose from {', '.join(commands)}")
        sys.exit(commands[command](rest))
    except ValueError as error:
        print(f"classicnets: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print("classicnets: interrupted; start the same command again to resume", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def models(arguments: list[str]) -> int:
    from classicnets.models import MODELS, create, parameters

    options = _parse("models", arguments, [("json", bool, False)])
    rows = [{"name": name, "parameters": parameters(create(name)), "source": _source(name)} for name in MODELS]
    if options.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(f"{row['name']:20} {row['parameters']:>12,}  {row['source']}")
    return 0


def describe(arguments: list[str]) -> int:
    from classicnets.models import create, parameters

    name, fields, rest = _model(arguments)
    options = _parse(f"describe {name}", rest, [*fields, ("json", bool, False)])
    model = create(name, **{field: getattr(options, field) for field, _, _ in fields})
    facts = {"name": name, "parameters": parameters(model)}
    print(json.dumps(facts) if options.json else "\n".join(f"{key}: {value}" for key, value in facts.items()))
    return 0


def train(arguments: list[str]) -> int:
    from classicnets.data import DataConfig, load
    from classicnets.models import create
    from classicnets.runs.store import RunLocked
    from classicnets.training import Config, Execution, Recipe
    from classicnets.training import train as train_run

    name, fields, rest = _model(arguments)
    fields = [field for field in fields if field[0] != "num_classes"]
    data_fields, recipe_fields, execution_fields = (_fields(cls) for cls in (DataConfig, Recipe, Execution))
    own = [("seed", int, 0), ("runs", Path, Path("runs")), ("experiment", str, "default"), ("json", bool, False)]
    options = _parse(f"train {name}", rest, [*fields, *data_fields, *recipe_fields, *execution_fields, *own])

    def pick(names):
        return {field: getattr(options, field) for field, _, _ in names}

    data = DataConfig(**pick(data_fields))
    config = Config(data, Recipe(**pick(recipe_fields)), options.seed)
    config.check()
    model = create(name, num_classes=load(data).classes, **pick(fields))
    label = "-".join(str(v) for v in (name, *[getattr(options, f[0]) for f in fields[:2]], options.dataset))
    with Bar() as bar:
        try:
            run = train_run(
                model,
                config,
                runs=options.runs,
                experiment=options.experiment,
                name=f"{label}-s{options.seed}",
                execution=Execution(**pick(execution_fields)),
                progress=bar,
            )
        except RunLocked as error:
            print(f"classicnets: {error}", file=sys.stderr)
            return EXIT_LOCKED
    result = {"run": run.id, "directory": str(run.path), **run.status}
    print(json.dumps(result) if options.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    return EXIT_DIVERGED if run.status["state"] == "diverged" else 0


def runs(arguments: list[str]) -> int:
    from classicnets.runs import list_runs

    options = _parse("runs", arguments, [("runs", Path, Path("runs")), ("json", bool, False)])
    rows = [{"run": run.id, "directory": str(run.path), **run.status} for run in list_runs(options.runs)]
    if options.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            error = "" if row.get("test_error") is None else f"test error {row['test_error']:.2f} %"
            print(f"{row['state']:12} {row['run']}  {error}")
    return 0


class Bar:
    """Progress of runs on standard error, nothing off a terminal."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True)
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
        self.progress.update(self.tasks[run], completed=step, description=text)


def _model(arguments: list[str]):
    """(name, fields, remaining arguments) of a command that names a model first."""
    from classicnets.models import MODELS, nearest

    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"name a model first; choose from {', '.join(MODELS)}")
    name, *rest = arguments
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{nearest(name, MODELS)}")
    skip = ("parent", "name", "axis_name", "dtype")
    return name, [field for field in _fields(MODELS[name]) if field[0] not in skip], rest


def _fields(cls) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of a dataclass; choices are read as words, since the checks name them better."""
    return [
        (f.name, str if get_origin(f.type) is Literal else f.type, f.default) for f in dataclasses.fields(cls) if f.init
    ]


def _parse(name: str, arguments: list[str], fields) -> Any:
    import tyro

    rows = [(field, kind, dataclasses.field(default=default)) for field, kind, default in fields]
    return tyro.cli(dataclasses.make_dataclass("Options", rows), prog=f"classicnets {name}", args=arguments)


def _source(name: str) -> str:
    import importlib

    from classicnets.models import MODELS

    return (importlib.import_module(MODELS[name].__module__).__doc__ or "").split("\n")[0]


if __name__ == "__main__":
    main()

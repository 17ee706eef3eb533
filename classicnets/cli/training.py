"""The commands that train one run, or look at what it learned: train, resume, fork, eval, rerun."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from classicnets.cli.main import EXIT_DIVERGED
from classicnets.cli.options import (
    OneRun,
    Place,
    RecipeName,
    early,
    first_word,
    given,
    group,
    model_first,
    network,
    network_execution,
    parse,
    recipe_of,
    require_one_length,
    root_of,
    run_label,
    runs_root,
    with_groups,
)
from classicnets.cli.recorded import Rebuilt
from classicnets.data import DataConfig, load
from classicnets.exports import tensorboard
from classicnets.models import create
from classicnets.report.progress import Bar, Count
from classicnets.runs import Run
from classicnets.system import caches
from classicnets.training import Config, Execution, Parent, Recipe, Start, facts
from classicnets.training.processes import join

NAME_A_RUN = "run", "'classicnets runs' lists them"


@dataclass(frozen=True, kw_only=True)
class Processes(Place):
    """Train one run, in this process or in several that start the same command; what exists is not trained again."""

    coordinator: str | None = None
    """HOST:PORT at which process 0 listens, where several processes train one run; none for one process alone."""
    processes: int | None = None
    """Number of the processes that train the run; given with coordinator."""
    process: int | None = None
    """Number of this process, from 0; given with coordinator."""


@dataclass(frozen=True, kw_only=True)
class Train(Processes):
    """Train one run: it is returned if it is complete, resumed if it was interrupted, and begun else."""

    experiment: str = "default"
    """Name of the folder of the run, below the runs directory."""
    paper: RecipeName = None
    """A paper's recipe, whose numbers take the place of the defaults below (`classicnets recipes`); none for none."""


@dataclass(frozen=True, kw_only=True)
class Resume(Processes):
    """Go on with a run that was interrupted, from its record; options are how it is run, as it was last by default."""


@dataclass(frozen=True, kw_only=True)
class Fork(Processes):
    """Train a new run that starts from the weights of another, with that one's options but for those given here."""


@dataclass(frozen=True, kw_only=True)
class Eval(Processes):
    """Give the errors of a run's newest good checkpoint on whole splits, or with --weights FILE in place of the run
    those of anyone's weights on a --dataset; nothing is written."""

    run: Positional[str]
    """Id of the run below the runs directory, or its directory."""
    view: Literal["centre", "ten", "dense"] = "centre"
    """What is seen of an image: centre, as in training's own evaluation; ten, its corners and centre and their mirror
    images (Krizhevsky et al. 2012, section 4.1); dense, all of it by the fully convolutional network (Simonyan &
    Zisserman 2015, section 3.2), on the validation and test images."""
    scales: tuple[int, ...] = ()
    """Shorter sides of the images of views ten and dense, over which is averaged; none for the run's test_side."""


def train(arguments: list[str]) -> int:
    """Train one run of a network by name."""
    name, rest = model_first(arguments)
    paper = recipe_of(rest)
    groups = {
        "network": network(name, without=["num_classes"]),
        "data": group(DataConfig, paper.defaults("data") if paper else None),
        "recipe": group(Recipe, paper.defaults("recipe") if paper else None),
    }
    seed = group(Config, without=["data", "recipe"])
    options = parse(
        with_groups(Train, **groups, config=seed, execution=group(Execution)), rest, f"classicnets train {name}"
    )
    epochs = options.recipe.epochs
    require_one_length(paper, options.recipe.steps, None if epochs == Recipe.epochs else epochs)
    config = configured(options)
    config.check()
    model = create(name, num_classes=load(config.data).classes, **vars(options.network))
    label = labelled(f"{name}-{paper.name}" if paper else name, options)
    return trained(model, config, options, label, (runs_root(options.runs), options.experiment))


def resume(arguments: list[str]) -> int:
    """Go on with a run."""
    word, rest = first_word(arguments, *NAME_A_RUN)
    rebuilt = Rebuilt(root_of(rest), word)
    groups = {"execution": group(Execution, vars(rebuilt.execution))}
    if rebuilt.name:
        groups["network"] = network_execution(rebuilt.name, rebuilt.layout)
    options = parse(with_groups(Resume, **groups), rest, f"classicnets resume {word}")
    rebuilt.require_numerics("resume")
    model = rebuilt.network(**vars(options.network) if rebuilt.name else {})
    label = run_label(rebuilt.label, {})
    return trained(model, rebuilt.config, options, label, rebuilt.place, rebuilt.start, rebuilt)


def fork(arguments: list[str]) -> int:
    """Train a new run from the weights of another."""
    word, rest = first_word(arguments, *NAME_A_RUN)
    rebuilt = Rebuilt(root_of(rest), word)
    config = rebuilt.config
    groups = {
        "data": group(DataConfig, vars(config.data)),
        "recipe": group(Recipe, vars(config.recipe)),
        "config": group(Config, {"seed": config.seed}, without=["data", "recipe"]),
        "execution": group(Execution, vars(rebuilt.execution)),
    }
    if rebuilt.name:
        fields = {**rebuilt.layout, **rebuilt.fields}
        groups["network"] = network(rebuilt.name, fields, without=["num_classes"])
    options = parse(with_groups(Fork, **groups), rest, f"classicnets fork {word}")
    config = configured(options)
    config.check()
    start = Start(Parent.newest(rebuilt.run))
    if rebuilt.name:
        model = create(rebuilt.name, num_classes=load(config.data).classes, **vars(options.network))
    else:
        model = rebuilt.network()
    return trained(model, config, options, labelled(rebuilt.label, options), rebuilt.place, start)


def evaluate(arguments: list[str]) -> int:
    """Print the errors of a run's newest good checkpoint, or of the weights that --weights names."""
    import jax

    from classicnets.cli import weights
    from classicnets.training import Trained, evaluate
    from classicnets.training.views import evaluate_views

    if early("weights", arguments) is not None:
        return weights.evaluate(arguments)
    options = parse(Eval, arguments, "classicnets eval")
    rebuilt = Rebuilt(runs_root(options.runs), options.run)
    if options.scales and options.view == "centre":
        raise ValueError(
            f"scales must be empty for view centre, whose side is the run's test_side, got {options.scales}"
        )
    join(options.coordinator, options.processes, options.process)
    caches.use_cache()
    model = rebuilt.network()
    if options.view == "centre":
        errors = evaluate(rebuilt.run, model, rebuilt.config)
    else:
        trained = Trained.of(rebuilt.run, model, rebuilt.config)
        with Count(f"evaluating {rebuilt.run.id}") as count:
            views = evaluate_views(trained, options.view, options.scales, progress=count)
        errors = {"step": trained.step, "view": options.view, **views}
    if jax.process_index() == 0:
        _print({"run": rebuilt.run.id, **errors}, options.json)
    return 0


def rerun(arguments: list[str]) -> int:
    """Repeat a run from its record, and say whether every bit is the same."""
    from classicnets.compare.rerun import rerun

    options = parse(OneRun, arguments, "classicnets rerun")
    rebuilt = Rebuilt(runs_root(options.runs), options.run)
    rebuilt.require_numerics("rerun")
    caches.use_cache()
    model = rebuilt.network(**rebuilt.layout)
    with Bar() as bar:
        answer = rerun(rebuilt.run, model, rebuilt.config, rebuilt.execution, rebuilt.start, bar)
    if options.json:
        print(json.dumps(answer))
    elif answer["identical"]:
        print(f"{answer['run']}: bit-identical")
    else:
        where = "" if answer["step"] is None else f" at step {answer['step']}"
        print(f"{answer['run']}: parts{where}: {answer['field']} {answer['recorded']} -> {answer['repeated']}")
    return 0 if answer["identical"] else 1


def trained(
    model: Any,
    config: Config,
    options: Any,
    label: str,
    place: tuple[Path, str],
    start: Start | None = None,
    resumed: Rebuilt | None = None,
) -> int:
    """Train, print the run's status, and return the exit status; place: (runs directory, experiment)."""
    import jax

    from classicnets.training import train

    execution = Execution(**vars(options.execution))
    writer = tensorboard.writer(execution.tensorboard)
    join(options.coordinator, options.processes, options.process)
    caches.use_cache()
    if resumed:
        resumed.require_same_numbers(facts(model, config, execution, start))
        resumed.require_own_place()
    root, experiment = place
    with Bar(root / experiment) as bar:
        run: Run = train(
            model,
            config,
            runs=root,
            experiment=experiment,
            name=f"{label}-s{config.seed}",
            execution=execution,
            progress=bar,
            start=start,
            resumed=resumed.run if resumed else None,
            writer=writer,
        )
    status = run.status
    if jax.process_index() == 0:
        _print({"run": run.id, "directory": str(run.path), **status}, options.json)
    if status["state"] != "diverged":
        return 0
    last = f"the last finite checkpoint is step {status['checkpoint']}" if status["checkpoint"] else "none was saved"
    print(f"classicnets: step {status['step']}: {status['tensor']} is not finite; {last}", file=sys.stderr)
    return EXIT_DIVERGED


def configured(options: Any) -> Config:
    """Return the configuration that options say."""
    return Config(DataConfig(**vars(options.data)), Recipe(**vars(options.recipe)), options.config.seed)


def labelled(name: str, options: Any) -> str:
    """Return the name of a run's directory: the network's, and the options that are given."""
    groups = [vars(options)[name] for name in ("network", "data", "recipe") if name in vars(options)]
    return run_label(name, {field: value for group in groups for field, value in given(group).items()})


def _print(facts: dict, as_json: bool) -> None:
    """Print facts as JSON, or a line each."""
    print(json.dumps(facts) if as_json else "\n".join(f"{name}: {value}" for name, value in facts.items()))

"""The command sweep: every combination of the options' values, trained by an engine."""

import collections
import contextlib
import dataclasses
import itertools
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from classicnets.cli.options import (
    Place,
    RecipeName,
    group,
    leading,
    network,
    parse,
    recipe_of,
    require_one_length,
    run_label,
    runs_root,
    with_groups,
)
from classicnets.cli.runs import listed
from classicnets.complexity.counts import describe
from classicnets.data import DataConfig, load
from classicnets.models import ENTRIES, create
from classicnets.report.progress import Bar
from classicnets.report.text import table
from classicnets.runs import ENDED
from classicnets.sweeps import Job, plan
from classicnets.sweeps.engines import Placement
from classicnets.system import caches
from classicnets.system.accelerators import at_once
from classicnets.system.cores import claim
from classicnets.training import Config, Execution, Recipe
from classicnets.training.recipes import paper
from classicnets.training.step import image_shape


@dataclass(frozen=True, kw_only=True)
class Sweep(Place):
    """Train every combination of the options' values; what exists is not trained again, what stopped is resumed.

    Several values are words apart: --depth 20 32 --lr 0.1 0.01. Of lists each is a word with commas: --boundaries 3,5
    4,6.
    """

    seeds: int | None = None
    """Number of seeds, from 0, in place of seed; none for what seed says."""
    experiment: str = "sweep"
    """Name of the folder of the runs, below the runs directory."""
    paper: RecipeName = None
    """A paper's recipe, whose numbers take the place of the defaults below (`classicnets recipes`); none for none."""
    engine: Literal["local", "ray", "slurm"] = "local"
    """What starts the workers: this machine, a Ray cluster, or Slurm."""
    jobs: int | None = None
    """Number of runs that are trained at once; none for as many as there is room for."""
    cores: int = 1
    """Number of cores of a run."""
    retries: int = 1
    """How often a run whose worker was killed is started again."""
    pack: bool = False
    """Train runs that differ only in seed, rate, momentum and decay as one program."""
    address: str | None = None
    """Address of the Ray cluster; none for one on this machine."""
    slurm: tuple[str, ...] = ()
    """NAME=VALUE options of sbatch, such as partition=gpu."""
    dry_run: bool = False
    """Show what would be trained, how large it is, and what is done."""
    probe: bool = False
    """Train a few steps of each configuration of a dry run, and say how long the sweep would take."""


def sweep(arguments: list[str]) -> int:
    """Train every combination of values, and list the runs."""
    names, rest = leading(arguments)
    if not names:
        raise ValueError(f"name a model first; choose from {', '.join(ENTRIES)}")
    options = _options(names, rest)
    how, root = _placement(options), runs_root(options.runs)
    plan.require_place(options.engine, how)
    if options.probe and not options.dry_run:
        raise ValueError("probe is an option of a dry run: --dry-run --probe")
    jobs = list(_jobs(names, options))
    if options.dry_run:
        return _dry_run(plan.unique(jobs, root), options, how)
    # Ray prints that a worker or a node was lost on standard output, where only the result belongs.
    with Bar() as bar, contextlib.redirect_stdout(sys.stderr):
        rows = plan.sweep(jobs, root, options.engine, how, bar)
    print(json.dumps(rows) if options.json else listed(rows))
    missing = sum(row["state"] not in ENDED for row in rows)
    if missing:
        again = shlex.join(["classicnets", "sweep", *arguments])
        print(f"classicnets: {missing} of {len(rows)} runs are missing; to complete them: {again}", file=sys.stderr)
    return 1 if missing else 0


def _options(names: Sequence[str], arguments: Sequence[str]) -> Any:
    """Return the options, those of the networks that all of them have; () where the default is to be taken."""
    of_each = [{field.name for field in dataclasses.fields(network(name))} for name in names]
    paper = recipe_of(arguments)
    not_of_all = of_each[0] - set.intersection(*of_each)
    groups = {
        "network": network(names[0], several=True, without=["num_classes", *not_of_all]),
        "data": group(DataConfig, paper.defaults("data") if paper else None, several=True),
        "recipe": group(Recipe, paper.defaults("recipe") if paper else None, several=True),
        "config": group(Config, several=True, without=["data", "recipe"]),
        "execution": group(Execution, {"devices": 1}),
    }
    return parse(with_groups(Sweep, **groups), _flags(arguments, groups), f"classicnets sweep {' '.join(names)}")


def _flags(arguments: Sequence[str], groups: dict[str, type]) -> list[str]:
    """Return the words with --no-FLAG as a value of FLAG, so that a command of `train` is one of `sweep`."""
    fields = [field for name in ("network", "data", "recipe") for field in dataclasses.fields(groups[name])]
    flags = {f"--no-{field.name.replace('_', '-')}" for field in fields}
    pairs = [[word.replace("--no-", "--", 1), "False"] if word in flags else [word] for word in arguments]
    return list(itertools.chain(*pairs))


def _placement(options: Any) -> Placement:
    pairs = [pair.partition("=") for pair in options.slurm]
    for pair, (key, _, value) in zip(options.slurm, pairs, strict=True):
        if not (key and value):
            raise ValueError(f"slurm takes NAME=VALUE, got {pair!r}")
    jobs = at_once(options.cores, options.engine) if options.jobs is None else options.jobs
    slurm = tuple((key, value) for key, _, value in pairs)
    return Placement(jobs, options.cores, options.retries, options.pack, options.address, slurm)


def _seeds(options: Any) -> Sequence[int]:
    if options.seeds is None:
        return options.config.seed or (0,)
    if options.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {options.seeds}")
    if options.config.seed:
        raise ValueError(f"seed must not be given beside seeds, got {', '.join(map(str, options.config.seed))}")
    return range(options.seeds)


def _jobs(names: Sequence[str], options: Any) -> Iterator[Job]:
    """Yield one job a combination of values, the seeds of one network side by side."""
    stated_by = paper(options.paper) if options.paper else None
    stated = [{}, stated_by.defaults("data"), stated_by.defaults("recipe")] if stated_by else [{}, {}, {}]
    groups = [vars(group) for group in (options.network, options.data, options.recipe)]
    parts = [
        {field: (value,) for field, value in own.items()} | {field: values for field, values in given.items() if values}
        for own, given in zip(stated, groups, strict=True)
    ]
    require_one_length(stated_by, parts[2].get("steps", ()), options.recipe.epochs)
    values = {field: values for part in parts for field, values in part.items()}
    seeds, execution = _seeds(options), Execution(**vars(options.execution))
    for name, combination in itertools.product(names, itertools.product(*values.values())):
        chosen = dict(zip(values, combination, strict=True))
        fields, data, recipe = ({field: chosen[field] for field in part} for part in parts)
        config = Config(DataConfig(**data), Recipe(**recipe))
        config.check()
        model = create(name, num_classes=load(config.data).classes, **fields)
        label = run_label(
            f"{name}-{stated_by.name}" if stated_by else name,
            {field: chosen[field] for field in values if len(values[field]) > 1},
        )
        for seed in seeds:
            yield Job(model, dataclasses.replace(config, seed=seed), f"{label}-s{seed}", options.experiment, execution)


def _dry_run(planned: list, options: Any, how: Placement) -> int:
    """Print what a sweep would train, how large it is and what is done, and with `probe` how long the rest takes."""
    counts: dict[tuple, dict] = {}
    for job, _ in planned:
        net = (job.model, job.config.data)
        if net not in counts:
            counted = describe(job.model, image_shape(load(job.config.data), job.config.data))
            counts[net] = {key: counted[key] for key in ("parameters", "macs")}
    seconds, total = _probed(planned, how) if options.probe else ({}, None)
    rows = [
        {
            "run": run.id,
            "state": plan.state_of(run),
            **counts[job.model, job.config.data],
            "seconds": seconds.get(run.id),
        }
        for job, run in planned
    ]
    if options.json:
        print(json.dumps({"runs": rows, "seconds": total, "jobs": how.jobs, "cores": how.cores}))
        return 0
    columns = ["run", "state", "parameters", "multiply-adds"]
    cells = [[r["run"], r["state"], f"{r['parameters']:,}", f"{r['macs'] / 1e6:,.2f} M"] for r in rows]
    if options.probe:
        columns.append("time")
        cells = [[*row, f"{r['seconds']:,.1f} s"] for row, r in zip(cells, rows, strict=True)]
    print("\n".join(table(columns, cells)))
    done = sum(row["state"] in ENDED for row in rows)
    rest = "--probe says how long the rest takes" if total is None else f"about {total:,.0f} s for the rest"
    print(f"{len(rows)} runs, {done} done, {how.jobs} at once; {rest}")
    return 0


def _probed(planned: list, how: Placement) -> tuple[dict[str, float], float]:
    """Return the seconds of each run that has not ended (0 of others), and of all of them by `how.jobs` workers.

    A probe takes a worker's time on a worker's cores; it leaves the programs in the cache, from which workers load
    them, once each for all seeds of a configuration.
    """
    from classicnets.training.benchmark import probe

    caches.use_cache()
    shared = "other workers hold the cores: the times are of cores shared with them"
    seconds, costs = {}, {}
    with Bar() as bar, contextlib.ExitStack() as held:
        for file in claim(how.cores, lambda: bar.note(shared), share=True):
            held.enter_context(file)
        for job, run in planned:
            seconds[run.id] = 0.0
            if not run.has_ended:
                programs = _programs_of(job)
                if programs not in costs:
                    bar.note(f"probing {run.id}")
                    costs[programs] = probe(job.model, job.config)
                seconds[run.id] = costs[programs].of(job.config, job.execution)
    tasks = [
        (_programs_of(task[0][0]), sum(seconds[run.id] for _, run in task)) for task in plan.tasks(planned, how.pack)
    ]
    return seconds, _wall(tasks, {programs: cost.start for programs, cost in costs.items()}, how.jobs)


def _programs_of(job: Job) -> tuple:
    """Return what the runs that share a worker's programs have in common: all but the seed."""
    return job.model, job.config.data, job.config.recipe


def _wall(tasks: Sequence[tuple[Any, float]], starts: Mapping[Any, float], workers: int) -> float:
    """Return the seconds of `tasks` (programs, seconds), each one worker's, which starts programs that it has not yet.

    starts: the seconds of a start of each program. At most `workers` tasks of the same programs find them not there.
    """
    counted = collections.Counter()
    spans = [0.0]
    for programs, seconds in tasks:
        counted[programs] += 1
        spans.append(seconds + (starts[programs] if counted[programs] <= workers else 0.0))
    return max(sum(spans) / workers, *spans)

"""A run is trained: found complete, resumed, or begun; one, or several together."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from classicnets.data import load
from classicnets.runs import ENDED, Run, checkpoints, list_runs
from classicnets.runs.identity import digest, is_ours
from classicnets.runs.run import RunLocked
from classicnets.system.environment import differences, environment, sources_sha256
from classicnets.system.settings import pinned
from classicnets.system.writing import require_space
from classicnets.training.config import Config, Execution
from classicnets.training.facts import by_source, facts
from classicnets.training.optimizer import SCALARS
from classicnets.training.processes import agreed, leads, require_equal
from classicnets.training.programs import Trainer, trainer_for
from classicnets.training.session import Member, Progress, Session, Writer
from classicnets.training.start import Start


def train(
    model: Any,
    config: Config,
    *,
    runs: Path | str,
    experiment: str,
    name: str,
    execution: Execution | None = None,
    progress: Progress | None = None,
    start: Start | None = None,
    resumed: Run | None = None,
    writer: Callable[[Run], Writer] | None = None,
) -> Run:
    """The finished run of `model` under `config`: returned if complete, resumed if interrupted, else trained.

    progress(run id, step, steps, last record) is called after every dispatch. A value that is not finite in the loss,
    a gradient, a batch statistic, a parameter or a metric ends the run as "diverged". start: what the run begins with
    beside its seed, which is recorded. writer: what makes the TensorBoard events of `Execution.tensorboard`. Of several
    processes (`jax.distributed`) each calls this with the same arguments; process 0 alone holds the run and writes.
    resumed: a run that an earlier version named by its module's source text, which goes on under its name while that
    text is the same.

    Raises ValueError for a bad configuration, before anything is written; RunLocked if another process trains the run;
    WriteFailed where there is no space for its checkpoints, before anything is compiled, or later if a write fails;
    signals.Interrupted if a signal came. Warns if a finished run comes from other sources than these, or if an
    interrupted one is resumed under other versions, processors, cores or devices.
    """
    options = _Options(Path(runs).expanduser(), experiment, execution or Execution(), progress, start, resumed, writer)
    (run,) = _trained(model, [(name, config)], options)
    return run


def train_packed(
    model: Any,
    configs: Sequence[tuple[str, Config]],
    *,
    runs: Path | str,
    experiment: str,
    execution: Execution | None = None,
    progress: Progress | None = None,
    writer: Callable[[Run], Writer] | None = None,
) -> list[Run]:
    """The finished runs of `model` under each (name, config), trained together as one program.

    The configurations differ in the seed and in the scalars of the recipe, `SCALARS`. Each run is recorded as its own,
    equal to the one that `train` gives, as `programs` says. Those at different steps, as after a kill between two
    saves, go on apart, and no more go together than an accelerator's memory is estimated to hold. Raises and warns as
    `train`.
    """
    if jax.process_count() > 1:
        raise ValueError("several processes train one run, and a pack takes one process")
    first = configs[0][1]
    for _, config in configs:
        like = {name: getattr(first.recipe, name) for name in SCALARS}
        if replace(config, seed=first.seed, recipe=replace(config.recipe, **like)) != first:
            raise ValueError(f"what is packed must differ in the seed and {', '.join(SCALARS)} only, got {config}")
        if len(configs) > 1 and not load(config.data).is_resident:
            raise ValueError(
                f"{config.data.dataset} is read by the host, and runs are packed on data that live on the device only"
            )
    options = _Options(Path(runs).expanduser(), experiment, execution or Execution(), progress, writer=writer)
    return _trained(model, configs, options)


@dataclasses.dataclass(frozen=True)
class _Options:
    """The keywords of `train`."""

    root: Path
    experiment: str
    execution: Execution
    progress: Progress | None
    start: Start | None = None
    resumed: Run | None = None
    writer: Callable[[Run], Writer] | None = None


@pinned()
def _trained(model: Any, configs: Sequence[tuple[str, Config]], options: _Options) -> list[Run]:
    members = _members(model, configs, options)
    recorded = {"runs": [member.facts for member in members], "execution": dataclasses.asdict(options.execution)}
    require_equal(recorded)
    todo = _not_ended(members)
    for member in members:
        if member not in todo and leads():
            _warn_of_other_sources(member.run)
    for member in todo:
        if agreed(lambda member=member: member.run.held):
            raise RunLocked(f"run {member.run.id} is held by {member.run.holder}")
    if not is_ours(model) and leads():
        for member in todo:
            _warn_of_other_names(member)
    while todo:
        # One group a time, since another process can take some of the rest on meanwhile.
        step, group = _alike(todo)
        trainer = _trainer(model, group[0], options)
        _train_group(model, trainer, group[: _room(trainer, len(group))], options, step is None)
        todo = _not_ended(todo)
    return [member.run for member in members]


def _members(model: Any, configs: Sequence[tuple[str, Config]], options: _Options) -> list[Member]:
    """Return the runs that are to be trained; raise ValueError before anything is written."""
    for _, config in configs:
        config.check()
    options.execution.check()
    if options.execution.tensorboard and options.writer is None:
        raise ValueError("tensorboard needs what writes its events: train(..., writer=exports.tensorboard.Events)")
    members = []
    for name, config in configs:
        decided = facts(model, config, options.execution, options.start)
        run = Run.of(options.root, options.experiment, name, decided)
        if options.resumed and run.path != options.resumed.path:
            run, decided = options.resumed, by_source(options.resumed, model)
        members.append(Member(run, config, decided))
    if len({digest(member.facts) for member in members}) < len(members):
        raise ValueError("what is packed must be different runs, got one twice")
    return members


def _trainer(model: Any, member: Member, options: _Options) -> Trainer:
    """Return the programs of one member, which others can share: its recipe's numbers are their constants."""
    frozen = options.start.frozen if options.start else ()
    return trainer_for(model, member.config.recipe, member.config.data, options.execution.devices, frozen)


def _not_ended(members: Sequence[Member]) -> list[Member]:
    return [m for m in members if not agreed(lambda m=m: m.run.status["state"] in ENDED)]


def _alike(members: Sequence[Member]) -> tuple[int | None, list[Member]]:
    """Return the step from which the first member goes on, None for its start, and the members that go on from it."""
    at = [checkpoints.newest_good(member.run.checkpoints) for member in members]
    return at[0], [member for member, step in zip(members, at, strict=True) if step == at[0]]


def _room(trainer: Trainer, members: int) -> int:
    """Return how many of `members` fit a device at once."""
    has = _device_memory(trainer)
    return max(1, min(members, has // trainer.memory())) if has and members > 1 else members


def _train_group(model: Any, trainer: Trainer, group: list[Member], options: _Options, begins: bool) -> None:
    variables = options.start.variables(trainer) if options.start and begins else {}
    execution = options.execution
    # A new checkpoint, those kept, and the best.
    saves = sum(max(execution.keep + 2 - len(checkpoints.steps(m.run.checkpoints)), 1) for m in group)
    require_space(group[0].run.checkpoints, saves * checkpoints.size(trainer.abstract_state()))
    _warn_of_memory(trainer)
    with contextlib.ExitStack() as held:
        for member in group:
            if not agreed(lambda member=member: _acquire(member)):
                raise RunLocked(f"run {member.run.id} is held by {member.run.holder}")
            held.callback(member.run.release)
        # Another process may have ended a run between the first look and the lock.
        left = _not_ended(group)
        if not left:
            return
        if left[0] is not group[0]:  # whose numbers are the constants of the program
            trainer = _trainer(model, left[0], options)
        if leads():
            for member in left:
                _record_environment(member, model, execution, len(left))
        writer = options.writer if execution.tensorboard else None
        try:
            Session(left, trainer, execution, variables, writer).run_to_end(options.progress)
        except ValueError as error:  # no bad input any more: that was refused before
            raise RuntimeError(f"run {', '.join(member.run.id for member in left)} failed") from error


def _device_memory(trainer: Trainer) -> int | None:
    """Bytes; accelerators say how much they have, a host does not."""
    return (trainer.local_devices[0].memory_stats() or {}).get("bytes_limit")


def _warn_of_memory(trainer: Trainer) -> None:
    has = _device_memory(trainer)
    if has and leads() and (needs := trainer.memory()) > has:
        warnings.warn(
            f"a step is estimated to take {needs:,} bytes of a device's {has:,}: a smaller batch_size than "
            f"{trainer.recipe.batch_size} or rematerialisation (flax.linen.remat) of the blocks takes less",
            stacklevel=3,
        )


def _record_environment(member: Member, model: Any, execution: Execution, packed: int) -> None:
    run = member.run
    options = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.metadata.get("execution")}
    how: dict = {"execution": dataclasses.asdict(execution) | options}
    if hasattr(model, "execution"):
        how["resolved"] = model.execution()
    if packed > 1:
        how["packed"] = packed
    segment = {**environment(), **how, "data_sha256": member.facts["data"]["sha256"]}
    differing = differences(run.environment[-1], segment) if run.environment else []
    if differing:
        warnings.warn(
            f"resumed under other conditions, bits can differ from here: {'; '.join(differing)}", stacklevel=3
        )
    run.add_environment(segment)


def _acquire(member: Member) -> bool:
    try:
        member.run.acquire(member.facts)
    except RunLocked:
        return False
    return True


def _warn_of_other_names(member: Member) -> None:
    """Name the run of the same path and fields that another jax, or an earlier version of this package, named."""

    def common(facts: dict) -> dict:
        beside = ("program_sha256", "source_sha256", "jax", "constructor")
        return {**facts, "model": {key: value for key, value in facts["model"].items() if key not in beside}}

    own = member.facts["model"]
    if "program_sha256" not in own:
        return
    for other in list_runs(member.run.path.parent.parent, member.run.path.parent.name):
        try:
            facts = other.facts
            if other.path == member.run.path or common(facts) != common(member.facts):
                continue
        except ValueError:  # a damaged record is named by those who list it
            continue
        version = facts["model"].get("jax")
        if "source_sha256" in facts["model"]:
            how = "was named by its source text, which does not tell what it computes"
        elif version != own.get("jax"):
            how = f"was traced by jax {version}, and this is jax {own.get('jax')}"
        else:
            continue
        warnings.warn(f"{other.id}, of the same module and fields, {how}: {member.run.id} is another run", stacklevel=4)


def _warn_of_other_sources(run: Run) -> None:
    segment = run.environment[-1] if run.environment else None
    if segment and segment["sources_sha256"] != sources_sha256():
        where = f"commit {segment['commit'][:12]}" if segment["commit"] else f"classicnets {segment['classicnets']}"
        warnings.warn(f"a finished run comes from other sources ({where}) of the same NUMERICS", stacklevel=3)

"""Training as a run: found complete, resumed, or begun."""

import contextlib
import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np

from classicnets.data import DataConfig, load
from classicnets.runs import ENDED, Run, checkpoints, list_runs
from classicnets.runs.identity import acting_data, acting_recipe, describe, digest, is_ours, source_sha256
from classicnets.runs.identity import facts as identity_facts
from classicnets.runs.run import RunLocked
from classicnets.system.environment import differences, environment, sources_sha256
from classicnets.system.settings import identifying, pinned
from classicnets.system.writing import require_space
from classicnets.training.config import Config, Execution, Recipe
from classicnets.training.pack import SCALARS, Pack
from classicnets.training.processes import agreed, leads, require_equal
from classicnets.training.program import Fit, fit
from classicnets.training.session import Member, Progress, Session, evaluations
from classicnets.training.step import Trainer, image_shape, require_length


@dataclass(frozen=True)
class Parent:
    """The checkpoint of another run from which parameters and batch statistics start, told by its manifest."""

    run: Run
    step: int
    manifest_sha256: str

    @classmethod
    def newest(cls, run: Run) -> "Parent":
        """The newest good checkpoint of `run`; ValueError if there is none."""
        step = checkpoints.newest_good(run.checkpoints)
        if step is None:
            raise ValueError(f"run {run.id} holds no good checkpoint")
        return cls(run, step, checkpoints.manifest_sha256(run.checkpoints, step))

    @property
    def facts(self) -> dict:
        return {"run": self.run.id, "step": self.step, "manifest_sha256": self.manifest_sha256}

    def variables(self, trainer: Trainer) -> tuple:
        """(params, batch_stats); ValueError if the checkpoint is gone or damaged, or does not fit the trainer's."""
        root = self.run.checkpoints
        whole = self.step in checkpoints.steps(root) and checkpoints.damage(root, self.step) is None
        if not whole or checkpoints.manifest_sha256(root, self.step) != self.manifest_sha256:
            raise ValueError(f"checkpoint {self.step} of {self.run.id}, from which this run starts, is gone or damaged")
        state = trainer.abstract_state()
        return checkpoints.restore_variables(root, self.step, state.params, state.batch_stats)


@pinned()
def facts(model, config: Config, execution: Execution | None = None, parent: Parent | None = None) -> dict:
    """Return all that decides a run's numbers; `runs.identity.digest` of it is the run's identity.

    The number of devices is among them where it changes the algorithm: with batch norm per replica, and for a network
    without the field `axis_name`, whose batch norm and dropout cannot reach over the replicas.

    Raise ValueError, in one sentence, for a network that cannot be trained on the data, or a schedule that cannot act.
    """
    dataset, whole = load(config.data), load(DataConfig(config.data.dataset))
    require_length(config.recipe, dataset)
    devices = _devices_that_count(model, config, execution)
    fitted = _fitted(model, config.recipe, config.data, devices)
    pool = whole.sizes["train"] + whole.sizes["validation"]
    height, width = whole.images.shape[1:3]
    data = acting_data(dataclasses.asdict(config.data), pool, whole.sizes["validation"], height * (height == width))
    return identity_facts(
        model=describe(model, fitted.program_sha256),
        data={**data, "sha256": dataset.sha256},
        recipe=acting_recipe(dataclasses.asdict(config.recipe), fitted.auxiliary),
        seed=config.seed,
        devices=devices,
        settings=identifying(),
        parent=parent.facts if parent else None,
    )


def _devices_that_count(model, config: Config, execution: Execution | None) -> int | None:
    """Return the number of devices where it changes the algorithm, else None."""
    alone = all(f.name != "axis_name" for f in dataclasses.fields(model))
    if config.recipe.batch_norm == "per_replica" or alone:
        return (execution.devices if execution else None) or jax.device_count()
    return None


def _fitted(model, recipe: Recipe, data: DataConfig, devices: int | None) -> Fit:
    """Return what a trace says of the network on the data; devices: over how many a batch norm's batch is spread."""
    if getattr(model, "dtype", None) == np.float64:
        raise ValueError("dtype float64 does not train, since runs compute in 32 bits: choose float32 or bfloat16")
    dataset = load(data)
    return fit(model, image_shape(dataset, data), dataset.classes, max(1, recipe.batch_size // (devices or 1)))


def train(
    model,
    config: Config,
    *,
    runs: Path | str,
    experiment: str,
    name: str,
    execution: Execution | None = None,
    progress: Progress | None = None,
    parent: Parent | None = None,
    resumed: Run | None = None,
) -> Run:
    """The finished run of `model` under `config`: returned if complete, resumed if interrupted, else trained.

    progress(run id, step, steps, last record) is called after every dispatch. A value that is not finite in the loss,
    a gradient, a batch statistic, a parameter or a metric ends the run as "diverged". With `parent` the run starts from
    its checkpoint and records that. Of several processes (`jax.distributed`) each calls this with the
    same arguments; process 0 alone holds the run and writes. resumed: a run that an earlier version named by its
    module's source text, which goes on under its name while that text is the same.

    Raises ValueError for a bad configuration, before anything is written; RunLocked if another process trains the run;
    WriteFailed where there is no space for its checkpoints, before anything is compiled, or later if a write fails;
    signals.Interrupted if a signal came. Warns if a finished run comes from other sources than these, or if an
    interrupted one is resumed under other versions, processors, cores or devices.
    """
    (run,) = _trained(model, [(name, config)], Path(runs), experiment, execution, progress, parent, resumed)
    return run


def train_packed(
    model,
    configs: Sequence[tuple[str, Config]],
    *,
    runs: Path | str,
    experiment: str,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> list[Run]:
    """The finished runs of `model` under each (name, config), trained together as one program.

    The configurations differ in the seed and in the scalars of the recipe, `SCALARS`. Each run is recorded as its own,
    equal to the one that `train` gives as `Pack` says. Those at different steps, as after a kill between two saves,
    go on apart, and no more go together than an accelerator's memory is estimated to hold. Raises and warns as `train`.
    """
    if jax.process_count() > 1:
        raise ValueError("several processes train one run, and a pack takes one process")
    first = configs[0][1]
    for _, config in configs:
        like = {name: getattr(first.recipe, name) for name in SCALARS}
        if replace(config, seed=first.seed, recipe=replace(config.recipe, **like)) != first:
            raise ValueError(f"what is packed must differ in the seed and {', '.join(SCALARS)} only, got {config}")
    return _trained(model, configs, Path(runs), experiment, execution, progress, None, None)


@pinned()
def _trained(model, configs, root: Path, experiment: str, execution, progress, parent, resumed) -> list[Run]:
    root = root.expanduser()
    execution = execution or Execution()
    for _, config in configs:
        config.check()
    execution.check()
    members = []
    for name, config in configs:
        decided = facts(model, config, execution, parent)
        run = Run.of(root, experiment, name, decided)
        if resumed and run.path != resumed.path:
            run, decided = resumed, _by_source(resumed, model)
        members.append(Member(run, config, decided))
    if len({digest(member.facts) for member in members}) < len(members):
        raise ValueError("what is packed must be different runs, got one twice")
    require_equal({"runs": [member.facts for member in members], "execution": dataclasses.asdict(execution)})
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
        step, group = _groups(todo, _trainer(model, todo, execution))[0]
        _train_group(model, group, execution, progress, parent if step is None else None)
        todo = _not_ended(todo)
    return [member.run for member in members]


def _trainer(model, members: Sequence[Member], execution: Execution) -> Trainer:
    """That of the first, which has what all share as constants."""
    return trainer_for(model, members[0].config.recipe, members[0].config.data, execution.devices)


def _not_ended(members: Sequence[Member]) -> list[Member]:
    return [m for m in members if not agreed(lambda m=m: m.run.status["state"] in ENDED)]


def _groups(members: Sequence[Member], trainer: Trainer) -> list[tuple[int | None, list[Member]]]:
    """(step, those that go on from it, as many at once as fit the device)."""
    at: dict[int | None, list[Member]] = {}
    for member in members:
        at.setdefault(checkpoints.newest_good(member.run.checkpoints), []).append(member)
    has = _device_memory(trainer)
    most = max(1, has // trainer.memory()) if has and len(members) > 1 else len(members)
    return [(step, group[i : i + most]) for step, group in at.items() for i in range(0, len(group), most)]


def _train_group(model, group: list[Member], execution: Execution, progress, parent) -> None:
    trainer = _trainer(model, group, execution)
    inherited = parent.variables(trainer) if parent else None
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
        group = _not_ended(group)
        if not group:
            return
        if leads():
            for member in group:
                _record_environment(member, model, execution, len(group))
        try:
            Session(group, _trainer(model, group, execution), execution, inherited).run_to_end(progress)
        except ValueError as error:  # no bad input any more: that was refused before
            raise RuntimeError(f"run {', '.join(member.run.id for member in group)} failed") from error


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


def _record_environment(member: Member, model, execution: Execution, packed: int) -> None:
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


def trainer_for(model, recipe: Recipe, data: DataConfig, devices: int | None) -> Trainer:
    """Return the programs for all seeds of a network, compiled once a process for what the network computes."""
    alone = all(f.name != "axis_name" for f in dataclasses.fields(model))
    spread = (devices or jax.device_count()) if alone or recipe.batch_norm == "per_replica" else None
    # Equal modules can compute different things: a global of a foreign one may have changed.
    return _trainer_for(model, recipe, data, devices, _fitted(model, recipe, data, spread))


@lru_cache(maxsize=2)
def _trainer_for(model, recipe: Recipe, data: DataConfig, devices: int | None, _: Fit) -> Trainer:
    every = jax.devices()
    if devices is not None and devices > len(every):
        raise ValueError(f"devices must be at most {len(every)}, got {devices}")
    if devices is not None and jax.process_count() > 1:
        raise ValueError(f"devices must be None for several processes, which share all {len(every)}, got {devices}")
    return Trainer(model, recipe, load(data), data, every[:devices])


@pinned()
def evaluate(run: Run, model, config: Config, splits: tuple[str, ...] = ("train", "validation", "test")) -> dict:
    """Loss and error, in percent, of the newest good checkpoint of `run` on whole splits; nothing is written.

    Warns of a newer checkpoint that is damaged. Raises ValueError if none is good.
    """
    step = newest_good(run)
    batch = config.recipe.batch_size
    devices = max(n for n in range(1, jax.device_count() + 1) if batch % n == 0)
    trainer = trainer_for(model, config.recipe, config.data, devices)
    abstract = trainer.abstract_state()
    trained = checkpoints.restore_variables(run.checkpoints, step, abstract.params, abstract.batch_stats)
    params, batch_stats = map(trainer.replicate, trained)
    state = trainer.initial_state(config.seed).replace(params=params, batch_stats=batch_stats)
    (found,) = evaluations(Pack(trainer, [config]), state, splits)
    return {"step": step, **found}


def newest_good(run: Run) -> int:
    """Return the step of the newest good checkpoint; warn of a newer damaged one, raise ValueError if none is good."""
    step = checkpoints.newest_good(run.checkpoints)
    if step is None:
        raise ValueError(f"run {run.id} holds no good checkpoint")
    newest = checkpoints.steps(run.checkpoints)[-1]
    if step < newest:
        warnings.warn(f"checkpoint {newest} of {run.id} is damaged; this is step {step}", stacklevel=3)
    return step


def require_same_program(run: Run, model, config: Config) -> None:
    """Raise ValueError if a module that is not ours computes something else than what `run` was trained with.

    Where another jax traced it, that cannot be told: warn of it.
    """
    recorded = run.facts["model"]
    if is_ours(model):
        return
    if "program_sha256" not in recorded:
        _by_source(run, model)
        return
    fitted = _fitted(model, config.recipe, config.data, run.facts.get("devices"))
    if fitted.program_sha256 == recorded["program_sha256"]:
        return
    if recorded.get("jax") != jax.__version__:
        warnings.warn(
            f"{recorded['module']} of {run.id} was traced by jax {recorded.get('jax')}; whether it is the same under "
            f"jax {jax.__version__} cannot be told",
            stacklevel=3,
        )
        return
    raise ValueError(f"{recorded['module']} computes something else now than when {run.id} was trained")


def _acquire(member: Member) -> bool:
    try:
        member.run.acquire(member.facts)
    except RunLocked:
        return False
    return True


def _by_source(run: Run, model) -> dict:
    """Return the facts of a run that is named by its module's source text; raise ValueError if that has changed."""
    recorded = run.facts["model"].get("source_sha256")
    if recorded is None or source_sha256(type(model)) != recorded:
        raise ValueError(
            f"{run.facts['model'].get('module')} computes something else now than when {run.id} was begun: it cannot "
            "be continued to the same numbers"
        )
    return run.facts


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

"""Training as a run: found complete, resumed, or begun."""

import dataclasses
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jax

from classicnets.data import DataConfig, load
from classicnets.runs import Run, checkpoints
from classicnets.runs.environment import differences, environment, sources_sha256
from classicnets.runs.store import RunLocked
from classicnets.runs.writing import require_space
from classicnets.training.config import NUMERICS, Config, Execution, Recipe, describe_model
from classicnets.training.processes import agreed, leads, require_equal
from classicnets.training.session import Progress, Session, evaluation
from classicnets.training.step import Trainer

ENDED = ("complete", "diverged")


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


def facts(model, config: Config, execution: Execution | None = None, parent: Parent | None = None) -> dict:
    """All that decides a run's numbers; its hash is the run's identity.

    The number of devices is among them where it changes the algorithm: with batch norm per replica, and for a network
    without the field `axis_name`, whose batch norm and dropout cannot reach over the replicas.
    """
    decided = {
        "numerics": NUMERICS,
        "model": describe_model(model),
        "data": {**dataclasses.asdict(config.data), "sha256": load(config.data).sha256},
        "recipe": dataclasses.asdict(config.recipe),
        "seed": config.seed,
    }
    alone = all(f.name != "axis_name" for f in dataclasses.fields(model))
    if config.recipe.batch_norm == "per_replica" or alone:
        decided["devices"] = (execution.devices if execution else None) or jax.device_count()
    if parent:
        decided["parent"] = parent.facts
    return decided


def train(
    model,
    config: Config,
    *,
    runs: Path,
    experiment: str,
    name: str,
    execution: Execution | None = None,
    progress: Progress | None = None,
    parent: Parent | None = None,
) -> Run:
    """The finished run of `model` under `config`: returned if complete, resumed if interrupted, else trained.

    progress(run id, step, steps, last record) is called after every dispatch. A value that is not finite in the loss,
    a gradient, a batch statistic, a parameter or a metric ends the run as "diverged". With `parent` the run starts from
    its checkpoint and records that. Of several processes (`jax.distributed`) each calls this with the
    same arguments; process 0 alone holds the run and writes.

    Raises ValueError for a bad configuration, before anything is written; RunLocked if another process trains the run;
    WriteFailed where there is no space for its checkpoints, before anything is compiled, or later if a write fails;
    signals.Interrupted if a signal came. Warns if a finished run comes from other sources than these, or if an
    interrupted one is resumed under other versions, cores or devices.
    """
    execution = execution or Execution()
    config.check()
    execution.check()
    decided = facts(model, config, execution, parent)
    run = Run.of(runs, experiment, name, decided)
    require_equal({**decided, "execution": dataclasses.asdict(execution)})
    if agreed(lambda: run.status["state"] in ENDED):
        if leads():
            _warn_of_other_sources(run)
        return run
    if agreed(lambda: run.held):
        raise RunLocked(f"run {run.id} is held by {run.holder}")
    trainer = trainer_for(model, config.recipe, config.data, execution.devices)
    begun = checkpoints.newest_good(run.checkpoints) is not None
    inherited = parent.variables(trainer) if parent and not begun else None
    saves = execution.keep + 2 - len(checkpoints.steps(run.checkpoints))  # a new one, those kept, and the best
    require_space(run.checkpoints, max(saves, 1) * checkpoints.size(trainer.abstract_state()))
    _warn_of_memory(trainer)
    if not agreed(lambda: _acquire(run, decided)):
        raise RunLocked(f"run {run.id} is held by {run.holder}")
    try:
        if agreed(lambda: run.status["state"] in ENDED):
            # Another process ended the run between the first look and the lock.
            return run
        if leads():
            _record_environment(run, model, execution, decided)
        Session(run, trainer, config, execution, inherited).run_to_end(progress)
    except ValueError as error:
        raise RuntimeError(f"run {run.id} failed") from error  # no bad input any more: that was refused before
    finally:
        run.release()
    return run


def _warn_of_memory(trainer: Trainer) -> None:
    """Accelerators say how much they have; a host does not."""
    has = (trainer.local_devices[0].memory_stats() or {}).get("bytes_limit")
    if has and leads() and (needs := trainer.memory()) > has:
        warnings.warn(
            f"a step is estimated to take {needs:,} bytes of a device's {has:,}: a smaller batch_size than "
            f"{trainer.recipe.batch_size} or rematerialisation (flax.linen.remat) of the blocks takes less",
            stacklevel=3,
        )


def _record_environment(run: Run, model, execution: Execution, decided: dict) -> None:
    options = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.metadata.get("execution")}
    how = {"execution": dataclasses.asdict(execution) | options}
    if hasattr(model, "execution"):
        how["resolved"] = model.execution()
    segment = {**environment(), **how, "data_sha256": decided["data"]["sha256"]}
    differing = differences(run.environment[-1], segment) if run.environment else []
    if differing:
        warnings.warn(
            f"resumed under other conditions, bits can differ from here: {'; '.join(differing)}", stacklevel=3
        )
    run.add_environment(segment)


@lru_cache(maxsize=2)
def trainer_for(model, recipe: Recipe, data: DataConfig, devices: int | None) -> Trainer:
    """Compiled once for all seeds of a network."""
    every = jax.devices()
    if devices is not None and devices > len(every):
        raise ValueError(f"devices must be at most {len(every)}, got {devices}")
    if devices is not None and jax.process_count() > 1:
        raise ValueError(f"devices must be None for several processes, which share all {len(every)}, got {devices}")
    return Trainer(model, recipe, load(data), data, every[:devices])


def evaluate(run: Run, model, config: Config, splits: tuple[str, ...] = ("train", "validation", "test")) -> dict:
    """Loss and error, in percent, of the newest good checkpoint of `run` on whole splits; nothing is written.

    Warns of a newer checkpoint that is damaged. Raises ValueError if none is good.
    """
    step = checkpoints.newest_good(run.checkpoints)
    if step is None:
        raise ValueError(f"run {run.id} holds no good checkpoint")
    newest = checkpoints.steps(run.checkpoints)[-1]
    if step < newest:
        warnings.warn(f"checkpoint {newest} of {run.id} is damaged; this is step {step}", stacklevel=2)
    batch = config.recipe.batch_size
    devices = max(n for n in range(1, jax.device_count() + 1) if batch % n == 0)
    trainer = trainer_for(model, config.recipe, config.data, devices)
    state = trainer.replicate(checkpoints.restore(run.checkpoints, step, trainer.abstract_state()))
    return {"step": step, **evaluation(trainer, state, splits)}


def _acquire(run: Run, decided: dict) -> bool:
    try:
        run.acquire(decided)
    except RunLocked:
        return False
    return True


def _warn_of_other_sources(run: Run) -> None:
    segment = run.environment[-1] if run.environment else None
    if segment and segment["sources_sha256"] != sources_sha256():
        where = f"commit {segment['commit'][:12]}" if segment["commit"] else f"classicnets {segment['classicnets']}"
        warnings.warn(f"a finished run comes from other sources ({where}) of the same NUMERICS", stacklevel=3)

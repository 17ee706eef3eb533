"""Training as a run: found complete, resumed, or begun."""

import dataclasses
import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from classicnets.data import DataConfig, load
from classicnets.runs import Run, checkpoints
from classicnets.runs.environment import environment, sources_sha256
from classicnets.runs.store import RunLocked
from classicnets.training.config import NUMERICS, Config, Execution, Recipe, describe_model
from classicnets.training.step import Trainer

ENDED = ("complete", "diverged")
Progress = Callable[[str, int, int, dict], None]


def facts(model, config: Config, execution: Execution | None = None) -> dict:
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
) -> Run:
    """The finished run of `model` under `config`: returned if complete, resumed if interrupted, else trained.

    progress(run id, step, steps, last record) is called after every dispatch. A loss that is not finite ends
    the run as "diverged". Of several processes (`jax.distributed`) each calls this with the same arguments;
    process 0 alone holds the run and writes. Raises ValueError for a bad configuration, before anything is written,
    and RunLocked if another process trains the run. Warns if a finished run comes from other sources than these.
    """
    execution = execution or Execution()
    config.check()
    execution.check()
    decided = facts(model, config, execution)
    run = Run.of(runs, experiment, name, decided)
    _require_equal({**decided, "execution": dataclasses.asdict(execution)})
    if _agreed(lambda: run.status["state"] in ENDED):
        if _leads():
            _warn_of_other_sources(run)
        return run
    trainer = trainer_for(model, config.recipe, config.data, execution.devices)
    if not _agreed(lambda: _acquire(run, decided)):
        raise RunLocked(f"run {run.id} is held by {run.holder}")
    try:
        if _agreed(lambda: run.status["state"] in ENDED):
            # Another process ended the run between the first look and the lock.
            return run
        if _leads():
            options = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.metadata.get("execution")}
            how = {"execution": dataclasses.asdict(execution) | options}
            if hasattr(model, "execution"):
                how["resolved"] = model.execution()
            run.add_environment({**environment(), **how, "data_sha256": decided["data"]["sha256"]})
        _train(run, trainer, config, execution, progress)
    except ValueError as error:
        raise RuntimeError(f"run {run.id} failed") from error  # no bad input any more: that was refused before
    finally:
        run.release()
    return run


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
    return {"step": step, **_evaluation(trainer, state, splits)}


def _leads() -> bool:
    return jax.process_index() == 0


def _require_equal(decided: dict) -> None:
    """ValueError in every process if the processes were not all started to compute the same."""
    if jax.process_count() > 1:
        digest = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).digest()
        every = np.asarray(multihost_utils.process_allgather(np.frombuffer(digest, np.uint8)))
        if (every != every[0]).any():
            raise ValueError("the processes of a run must have the same options, got different ones")


def _agreed(decide: Callable[[], bool]) -> bool:
    """What process 0 finds, in all processes; if it raises there, all raise."""
    if jax.process_count() == 1:
        return decide()
    found, error = False, None
    if _leads():
        try:
            found = decide()
        except Exception as raised:
            error = raised
    code = int(multihost_utils.broadcast_one_to_all(np.int32(2 if error else found)))
    if error:
        raise error
    if code == 2:
        raise RuntimeError("process 0 failed; its output says why")
    return bool(code)


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


def _restored(run: Run, trainer: Trainer, seed: int):
    """(step, replicated state) to go on from; the record is cut back to it."""
    step, state = 0, None
    if _leads():
        checkpoints.clean(run.checkpoints)
        found, state, skipped = checkpoints.restore_newest(run.checkpoints, trainer.abstract_state())
        step = found or 0
        run.cut_metrics(step)
        run.set_status("running", step=step, skipped={str(k): v for k, v in skipped.items()})
    if jax.process_count() > 1:
        step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
        if step:
            blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), trainer.abstract_state())
            state = multihost_utils.broadcast_one_to_all(blank if state is None else state)
    return step, trainer.initial_state(seed) if step == 0 else trainer.replicate(state)


def _train(run: Run, trainer: Trainer, config: Config, execution: Execution, progress: Progress | None) -> None:
    leads = _leads()
    step, state = _restored(run, trainer, config.seed)
    per_epoch = trainer.steps_per_epoch
    total = config.recipe.total_steps(per_epoch)
    saved = logged = time.monotonic()
    logged_step = step
    record: dict = run.metrics[-1] if leads and run.metrics else {}
    while step < total:
        count = min(execution.steps_per_dispatch, per_epoch - step % per_epoch, total - step)
        state = trainer.train(state, config.seed, count)
        step += count
        if step % per_epoch == 0 or step == total:
            jax.block_until_ready(state.sums)  # dispatch does not wait, and the clock is read next
            record = _record(trainer, state, step, step - logged_step, time.monotonic() - logged)
            finite = record["train_loss_running"] is not None
            epoch = -(-step // per_epoch)
            if finite and (epoch % execution.evaluate_every == 0 or step == total):
                record |= _evaluation(trainer, state)
                finite = record["train_loss"] is not None
            if leads:
                run.log(record)
            if not finite:
                if leads:
                    run.set_status("diverged", step=step)
                return
            logged, logged_step = time.monotonic(), step
        if progress and leads:
            progress(run.id, step, total, record)
        if leads and (step == total or time.monotonic() - saved >= execution.checkpoint_seconds):
            checkpoints.save(run.checkpoints, step, trainer.unreplicate(state))
            saved = time.monotonic()
    batch_error = trainer.evaluate(state, "train", "batch").error
    if leads:
        # A run that was killed after its last save finds its results in the log.
        results = {k: v for k, v in record.items() if k.endswith(("_error", "_loss"))}
        results["train_error_batch_statistics"] = batch_error
        digest = checkpoints.parameters_sha256(trainer.unreplicate(state).params)
        run.set_status("complete", step=step, **results, parameters_sha256=digest)
    _agreed(lambda: True)  # no process returns before the record is whole


def _record(trainer: Trainer, state, step: int, done: int, seconds: float) -> dict:
    """What was summed since the epoch began; speed over the `done` steps that took `seconds`."""
    per_epoch = trainer.steps_per_epoch
    since = (step - 1) % per_epoch + 1
    loss, error, norm = (float(v) / since for v in trainer.unreplicate(state.sums))
    finite = math.isfinite(loss) and math.isfinite(norm)
    return {
        "step": step,
        "epoch": step / per_epoch,
        "train_loss_running": loss if finite else None,
        "train_error_running": 100 * error,
        "gradient_norm": norm if finite else None,
        "learning_rate": trainer.learning_rate(step - 1),
        "seconds": seconds,
        "images_per_second": done * trainer.recipe.batch_size / seconds,
    }


def _evaluation(trainer: Trainer, state, splits=("train", "validation", "test")) -> dict:
    record = {}
    for split in splits:
        if trainer.dataset.sizes[split]:
            loss, error = trainer.evaluate(state, split)
            record |= {f"{split}_loss": loss if math.isfinite(loss) else None, f"{split}_error": error}
    return record

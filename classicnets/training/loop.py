"""Training as a run: found complete, resumed, or begun."""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import jax

from classicnets.data import DataConfig, load
from classicnets.runs import Run, checkpoints
from classicnets.runs.environment import environment
from classicnets.training.config import NUMERICS, Config, Execution, Recipe, describe_model
from classicnets.training.step import Trainer

ENDED = ("complete", "diverged")
Progress = Callable[[str, int, int, dict], None]


def facts(model, config: Config) -> dict:
    """All that decides a run's numbers; its hash is the run's identity."""
    return {
        "numerics": NUMERICS,
        "model": describe_model(model),
        "data": {**dataclasses.asdict(config.data), "sha256": load(config.data).sha256},
        "recipe": dataclasses.asdict(config.recipe),
        "seed": config.seed,
    }


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
    the run as "diverged". Raises ValueError for a bad configuration and RunLocked if another process trains it.
    """
    execution = execution or Execution()
    config.check()
    execution.check()
    decided = facts(model, config)
    run = Run.of(runs, experiment, name, decided)
    if run.status["state"] in ENDED:
        return run
    trainer = trainer_for(model, config.recipe, config.data, execution.devices)
    run.acquire(decided)
    try:
        if run.status["state"] in ENDED:
            # Another process ended the run between the first look and the lock.
            return run
        run.add_environment({**environment(), "execution": dataclasses.asdict(execution)})
        _train(run, trainer, config, execution, progress)
    finally:
        run.release()
    return run


@lru_cache(maxsize=2)
def trainer_for(model, recipe: Recipe, data: DataConfig, devices: int | None) -> Trainer:
    """Compiled once for all seeds of a network."""
    local = jax.local_devices()
    if devices is not None and devices > len(local):
        raise ValueError(f"devices must be at most {len(local)}, the local devices, got {devices}")
    return Trainer(model, recipe, load(data), data.augment, local[:devices])


def _train(run: Run, trainer: Trainer, config: Config, execution: Execution, progress: Progress | None) -> None:
    checkpoints.clean(run.checkpoints)
    step, restored, skipped = checkpoints.restore_newest(run.checkpoints, trainer.abstract_state())
    run.cut_metrics(step or 0)
    run.set_status("running", step=step or 0, skipped={str(k): v for k, v in skipped.items()})
    state = trainer.initial_state(config.seed) if restored is None else trainer.replicate(restored)
    step = step or 0
    per_epoch = trainer.steps_per_epoch
    total = config.recipe.epochs * per_epoch
    saved = epoch_began = time.monotonic()
    record: dict = run.metrics[-1] if run.metrics else {}
    while step < total:
        count = min(execution.steps_per_dispatch, per_epoch - step % per_epoch)
        state = trainer.train(state, config.seed, count)
        step += count
        if step % per_epoch == 0:
            record = _epoch_record(trainer, state, step, per_epoch, time.monotonic() - epoch_began)
            if record["train_loss_running"] is None:
                run.log(record)
                run.set_status("diverged", step=step)
                return
            epoch = step // per_epoch
            if epoch % execution.evaluate_every == 0 or step == total:
                record |= _evaluation(trainer, state)
            run.log(record)
            epoch_began = time.monotonic()
        if progress:
            progress(run.id, step, total, record)
        if step == total or time.monotonic() - saved >= execution.checkpoint_seconds:
            checkpoints.save(run.checkpoints, step, trainer.unreplicate(state))
            saved = time.monotonic()
    final = trainer.unreplicate(state)
    results = {k: v for k, v in record.items() if k.endswith(("_error", "_loss"))}
    batch_error = trainer.evaluate(state, "train", "batch").error
    digest = checkpoints.parameters_sha256(final.params)
    run.set_status("complete", step=step, **results, train_error_batch_statistics=batch_error, parameters_sha256=digest)


def _epoch_record(trainer: Trainer, state, step: int, per_epoch: int, seconds: float) -> dict:
    loss, error, norm = (float(v) / per_epoch for v in trainer.unreplicate(state.sums))
    rate = trainer.learning_rate(step - 1)
    finite = math.isfinite(loss) and math.isfinite(norm)
    return {
        "step": step,
        "epoch": step // per_epoch,
        "train_loss_running": loss if finite else None,
        "train_error_running": 100 * error,
        "gradient_norm": norm if finite else None,
        "learning_rate": rate,
        "seconds": seconds,
        "images_per_second": per_epoch * trainer.recipe.batch_size / seconds,
    }


def _evaluation(trainer: Trainer, state) -> dict:
    record = {}
    for split in ("train", "validation", "test"):
        loss, error = trainer.evaluate(state, split)
        record |= {f"{split}_loss": loss if math.isfinite(loss) else None, f"{split}_error": error}
    return record

"""One process's part of a run: dispatches, evaluations, checkpoints, and how it ends."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from classicnets import signals
from classicnets.runs import Run, checkpoints
from classicnets.runs.writing import WriteFailed
from classicnets.training.config import Config, Execution
from classicnets.training.processes import agreed, leads
from classicnets.training.step import Trainer

Progress = Callable[[str, int, int, dict], None]
# Seconds that a dispatch may take, so that a signal is answered soon, and beyond which an evaluation is not begun with
# anything unsaved.
PATIENCE = 2.0
# What a record lacks when an interrupted evaluation is done again.
TIMING = ("seconds", "images_per_second")


class Session:
    """One process's part of a run, from its newest checkpoint to its end.

    Signals are held back while there is a finished step that is not saved; at any other time the process may end.
    """

    def __init__(self, run: Run, trainer: Trainer, config: Config, execution: Execution, inherited: tuple | None):
        self.run, self.trainer, self.config, self.execution = run, trainer, config, execution
        self.leads = leads()
        self.total = config.recipe.total_steps(trainer.steps_per_epoch)
        self.step, self.state = self._restored(inherited)
        self.saved = self.logged = self.step
        self.saved_at = self.logged_at = time.monotonic()
        self.metrics = run.metrics if self.leads else []
        self.seconds_per_step = self.evaluation_seconds = math.inf

    def run_to_end(self, progress: Progress | None) -> None:
        try:
            while True:
                if self._is_boundary() and not self._is_logged() and not self._log():
                    return
                if self.step == self.total:
                    break
                self._advance()
                bad = self.trainer.fault(self.state)
                if bad:
                    self._diverge(*bad)
                    return
                if progress and self.leads:
                    progress(self.run.id, self.step, self.total, self.metrics[-1] if self.metrics else {})
                if self._is_asked_to_end():
                    self._save()
                    raise signals.Interrupted
                if self.step == self.total or time.monotonic() - self.saved_at >= self.execution.checkpoint_seconds:
                    self._save()
            self._complete()
        except signals.Interrupted:
            self._set_status("interrupted", step=self.saved)
            raise
        except WriteFailed:
            raise
        except checkpoints.NotFinite as error:
            self._diverge(self.step, str(error))
        except (Exception, KeyboardInterrupt) as error:
            self._save_what_there_is()
            with contextlib.suppress(WriteFailed):
                self._set_status("failed", step=self.saved, error=sentence(error))
            raise

    def _restored(self, inherited: tuple | None):
        """(step, replicated state) to go on from; the record is cut back to it."""
        run, trainer, step, state = self.run, self.trainer, 0, None
        if self.leads:
            checkpoints.clean(run.checkpoints)
            found, state, skipped = checkpoints.restore_newest(run.checkpoints, trainer.abstract_state())
            for bad, file in skipped.items():
                warnings.warn(f"checkpoint {bad} of {run.id} is damaged ({file}) and was set aside", stacklevel=2)
            step = found or 0
            run.cut_metrics(step)
            run.set_status("running", step=step, skipped={str(k): v for k, v in skipped.items()})
        if jax.process_count() > 1:
            step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
            if step:
                blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), trainer.abstract_state())
                state = multihost_utils.broadcast_one_to_all(blank if state is None else state)
        if step == 0:
            return step, self._initial(inherited)
        return step, trainer.replicate(state)

    def _initial(self, inherited: tuple | None):
        """The state before the first step, with the parameters and batch statistics `inherited` from a parent."""
        state = self.trainer.initial_state(self.config.seed)
        if inherited:
            params, batch_stats = map(self.trainer.replicate, inherited)
            state = state.replace(params=params, batch_stats=batch_stats)
        return state

    def _advance(self) -> None:
        """One dispatch: it ends at a boundary, or after about PATIENCE seconds."""
        per_epoch, how = self.trainer.steps_per_epoch, self.execution
        count = min(how.steps_per_dispatch, per_epoch - self.step % per_epoch, self.total - self.step)
        if jax.process_count() == 1:
            count = max(1, min(count, int(PATIENCE / self.seconds_per_step)))
        begun = time.monotonic()
        self.state = jax.block_until_ready(self.trainer.train(self.state, self.config.seed, count))
        if jax.process_count() == 1:
            signals.hold()
        self.seconds_per_step = (time.monotonic() - begun) / count
        self.step += count

    def _is_boundary(self) -> bool:
        return self.step > 0 and (self.step % self.trainer.steps_per_epoch == 0 or self.step == self.total)

    def _is_logged(self) -> bool:
        return agreed(lambda: bool(self.metrics) and self.metrics[-1]["step"] == self.step)

    def _is_asked_to_end(self) -> bool:
        asked = signals.requested()
        return asked if jax.process_count() == 1 else multihost_utils.process_allgather(np.int32(asked)).any().item()

    def _log(self) -> bool:
        """Adds a line to the record; False if a metric is not finite, which ends the run."""
        done = self.step - self.logged
        record = _record(self.trainer, self.state, self.step, done, time.monotonic() - self.logged_at)
        epoch = -(-self.step // self.trainer.steps_per_epoch)
        if epoch % self.execution.evaluate_every == 0 or self.step == self.total:
            if self.evaluation_seconds > PATIENCE:  # as it is taken to be before the first one, which is compiled
                self._save()
            begun = time.monotonic()
            record |= evaluation(self.trainer, self.state)
            self.evaluation_seconds = time.monotonic() - begun
        bad = next((name for name, value in record.items() if value is None and name not in TIMING), None)
        if self.leads:
            self.run.log(record)
            self.metrics.append(record)
        self.logged, self.logged_at = self.step, time.monotonic()
        if bad:
            self._diverge(self.step, bad)
            return False
        every = self.execution.keep_every
        if (every and epoch % every == 0) or (self.execution.keep_best and self.step == self._best()):
            self._save()
        return True

    def _best(self) -> int | None:
        """The first step of the least validation error."""
        errors = [(r["validation_error"], r["step"]) for r in self.metrics if r.get("validation_loss") is not None]
        return min(errors)[1] if errors else None

    def _save(self) -> None:
        if self.leads and self.saved < self.step:
            best = self._best() if self.execution.keep_best else None
            kept = set() if best is None else {best}
            if self.execution.keep_every:
                kept |= set(range(0, self.total, self.execution.keep_every * self.trainer.steps_per_epoch))
            state = self.trainer.unreplicate(self.state)
            checkpoints.save(self.run.checkpoints, self.step, state, self.execution.keep, kept)
        self.saved, self.saved_at = self.step, time.monotonic()
        self._let_go()

    def _let_go(self) -> None:
        if jax.process_count() == 1:
            signals.let_go()

    def _save_what_there_is(self) -> None:
        """After an error: the last finished step, unless the error was in a step, which had taken its buffers."""
        if self.leads and self.saved < self.step and not self.state.step.is_deleted():
            with contextlib.suppress(Exception):
                self._save()

    def _diverge(self, step: int, tensor: str) -> None:
        newest = max(checkpoints.steps(self.run.checkpoints), default=None)
        self._set_status("diverged", step=step, tensor=tensor, checkpoint=newest)
        self._let_go()

    def _set_status(self, state: str, **found) -> None:
        if self.leads:
            self.run.set_status(state, **found)

    def _complete(self) -> None:
        """Verified, evaluated once more with the batches' own statistics, and recorded."""
        self._save()
        if self.leads and checkpoints.damage(self.run.checkpoints, self.step):
            raise WriteFailed(f"{self.run.checkpoints / str(self.step)} does not hold what was written to it")
        batch_error = self.trainer.evaluate(self.state, "train", "batch").error
        if self.leads:
            # A run that was killed after its last save finds its results in the log.
            results = {k: v for k, v in self.metrics[-1].items() if k.endswith(("_error", "_loss"))}
            results |= {"train_error_batch_statistics": batch_error, "best_step": self._best()}
            digest = checkpoints.parameters_sha256(self.trainer.unreplicate(self.state).params)
            self.run.set_status("complete", step=self.step, **results, parameters_sha256=digest)
        agreed(lambda: True)  # no process returns before the record is whole


def sentence(error: BaseException) -> str:
    """An error as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:500]}"


def _record(trainer: Trainer, state, step: int, done: int, seconds: float) -> dict:
    """What was summed since the epoch began; speed over the `done` steps that took `seconds`, None for no steps."""
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
        "seconds": seconds if done else None,
        "images_per_second": done * trainer.recipe.batch_size / seconds if done else None,
    }


def evaluation(trainer: Trainer, state, splits=("train", "validation", "test")) -> dict:
    record = {}
    for split in splits:
        if trainer.dataset.sizes[split]:
            loss, error = trainer.evaluate(state, split)
            record |= {f"{split}_loss": loss if math.isfinite(loss) else None, f"{split}_error": error}
    return record

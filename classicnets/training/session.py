"""One process's part of a run, or of several packed ones: dispatches, evaluations, checkpoints, and how it ends."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from classicnets.runs import TIMING, Run, checkpoints
from classicnets.system import signals
from classicnets.system.writing import WriteFailed
from classicnets.training.config import Config, Execution, Recipe
from classicnets.training.optimizer import SCALARS, Plateau, observed, part_of, schedule, with_part
from classicnets.training.processes import agreed, leads
from classicnets.training.programs import Trainer, stacked, unstacked
from classicnets.training.start import started
from classicnets.training.step import TrainState

SPLITS = ("train", "validation", "test")
# Seconds that a dispatch may take, so that a signal is answered soon, and beyond which an evaluation is not begun with
# anything unsaved.
PATIENCE = 2.0


class Progress(Protocol):
    """What shows the progress of runs."""

    def __call__(self, run: str, step: int, total: int, record: dict) -> None:
        """Show a run that has made `step` of `total` steps; record: the last line of its log, {} for none."""

    def note(self, text: str) -> None:
        """Show a line of text."""


class Writer(Protocol):
    """What a run's log is also written to, as it grows."""

    def log(self, record: dict) -> None:
        """Add a line of the log."""

    def close(self, results: dict) -> None:
        """End with the run's final status."""


@dataclass
class Member:
    """One run of a session: what decides its numbers, its log, whether it goes on, and what its log is written to."""

    run: Run
    config: Config
    facts: dict
    metrics: list[dict] = field(default_factory=list)
    going: bool = True
    writer: Writer | None = None

    def is_logged(self, step: int) -> bool:
        return bool(self.metrics) and self.metrics[-1]["step"] == step

    def log(self, record: dict) -> None:
        self.run.log(record)
        self.metrics.append(record)
        if self.writer:
            self.writer.log(record)

    def end(self, state: str, **found) -> None:
        """Complete or diverged; said last, since what has ended is not looked at again."""
        if self.writer:
            self.writer.close({"state": state, **found})
        self.run.set_status(state, **found)

    def best(self) -> int | None:
        """The first step of the least validation error."""
        errors = [(r["validation_error"], r["step"]) for r in self.metrics if r.get("validation_loss") is not None]
        return min(errors)[1] if errors else None


class Session:
    """One process's part of runs that advance together, from their newest checkpoint to their ends.

    Signals are held back while there is a finished step that is not saved; at any other time the process may end.
    """

    def __init__(
        self,
        members: Sequence[Member],
        trainer: Trainer,
        execution: Execution,
        variables: Mapping[str, Any],
        writer: Callable[[Run], Writer] | None = None,
    ):
        self.members, self.trainer, self.execution = members, trainer, execution
        self.recipe, self.leads = trainer.recipe, leads()
        seeds = [member.config.seed for member in members]
        self.seeds = seeds[0] if len(seeds) == 1 else seeds
        numbers = {name: [getattr(member.config.recipe, name) for member in members] for name in SCALARS}
        # What all have in common stays a constant of the program.
        self.scalars = {name: of_each for name, of_each in numbers.items() if len(set(of_each)) > 1}
        self.total = self.recipe.total_steps(trainer.steps_per_epoch)
        self.step, self.state = self._restored(variables)
        if writer and self.leads:
            for member in members:
                member.writer = writer(member.run)
        self.saved = self.logged = self.step
        self.saved_at = self.logged_at = time.monotonic()
        self.seconds_per_step = self.evaluation_seconds = math.inf

    @property
    def going(self) -> list[Member]:
        return [member for member in self.members if member.going]

    def run_to_end(self, progress: Progress | None) -> None:
        self.progress = progress if self.leads else None
        self._show()
        try:
            self._observe()
            while self.going:
                if self._is_boundary() and not agreed(lambda: all(m.is_logged(self.step) for m in self.going)):
                    self._log()
                    self._observe()
                elif self.step == self.total:
                    self._complete()
                else:
                    self._advance()
                    self._after_dispatch()
        except signals.Interrupted:
            self._set_status("interrupted", step=self.saved)
            raise
        except WriteFailed:
            raise
        except (Exception, KeyboardInterrupt) as error:
            self._save_what_there_is()
            with contextlib.suppress(WriteFailed):
                self._set_status("failed", step=self.saved, error=sentence(error))
            raise
        finally:
            self.trainer.feed.close()

    def _restored(self, variables: Mapping[str, Any]) -> tuple[int, TrainState]:
        """(step, replicated state) to go on from; the records are cut back to it."""
        step: int = 0
        states: list[Any] = [None] * len(self.members)
        if self.leads:
            found = [self._newest(member) for member in self.members]
            step, states = found[0][0], [state for _, state in found]
            if any(other != step for other, _ in found):
                raise RuntimeError(f"packed runs are at different steps: {sorted({other for other, _ in found})}")
        if jax.process_count() > 1:
            step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
            if step:
                blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.trainer.abstract_state())
                states = [multihost_utils.broadcast_one_to_all(blank if state is None else state) for state in states]
        if step == 0:
            states = [started(self.trainer.init(member.config.seed), variables) for member in self.members]
        return step, self.trainer.replicate(stacked(states))

    def _each(self, tree: Any) -> list:
        """Return the first replica of each member's part, on the host."""
        return unstacked(self.trainer.unreplicate(tree), len(self.members))

    def _newest(self, member: Member):
        """(step, state) of the newest good checkpoint, (0, None) if there is none."""
        run = member.run
        checkpoints.clean(run.checkpoints)
        found, state, skipped = checkpoints.restore_newest(run.checkpoints, self.trainer.abstract_state())
        for bad, file in skipped.items():
            warnings.warn(f"checkpoint {bad} of {run.id} is damaged ({file}) and was set aside", stacklevel=2)
        step = found or 0
        run.cut_metrics(step)
        if run.metrics and _not_finite(run.metrics[-1]):
            # A kill came before the run was said to have diverged: the line is written again.
            run.cut_metrics(run.metrics[-1]["step"] - 1)
        member.metrics = run.metrics
        run.set_status("running", step=step, skipped={str(k): v for k, v in skipped.items()})
        return step, state

    def _advance(self) -> None:
        """One dispatch: it ends at a boundary, or after about PATIENCE seconds."""
        per_epoch, how = self.trainer.steps_per_epoch, self.execution
        count = min(how.steps_per_dispatch, per_epoch - self.step % per_epoch, self.total - self.step)
        if jax.process_count() == 1:
            count = max(1, min(count, int(PATIENCE / self.seconds_per_step)))
        begun = time.monotonic()
        self.state = jax.block_until_ready(self.trainer.train(self.state, self.seeds, count, self.scalars))
        if jax.process_count() == 1:
            signals.hold()
        self.seconds_per_step = (time.monotonic() - begun) / count
        self.step += count

    def _show(self) -> None:
        if self.progress is None:
            return
        for member in self.going:
            self.progress(member.run.id, self.step, self.total, member.metrics[-1] if member.metrics else {})

    def _after_dispatch(self) -> None:
        for member, fault in zip(self.members, self._each(self.state.fault), strict=True):
            if member.going and (named := self.trainer.named(fault)):
                self._diverge(member, *named)
        if not self.going:
            return
        self._show()
        if self._is_asked_to_end():
            self._save()
            raise signals.Interrupted
        if self.step == self.total or time.monotonic() - self.saved_at >= self.execution.checkpoint_seconds:
            self._save()

    def _is_boundary(self) -> bool:
        return self.step > 0 and (self.step % self.trainer.steps_per_epoch == 0 or self.step == self.total)

    def _is_asked_to_end(self) -> bool:
        asked = signals.requested()
        return asked if jax.process_count() == 1 else multihost_utils.process_allgather(np.int32(asked)).any().item()

    def _log(self) -> None:
        """Adds a line to each record that lacks it; a metric that is not finite ends its run."""
        done, seconds = self.step - self.logged, time.monotonic() - self.logged_at
        plateaus = self._each(part_of(self.state.opt_state, Plateau))
        records = [
            _record(member.config.recipe, self.trainer.steps_per_epoch, sums, self.step, done, seconds, plateau)
            for member, sums, plateau in zip(self.members, self._each(self.state.sums), plateaus, strict=True)
        ]
        epoch = -(-self.step // self.trainer.steps_per_epoch)
        if epoch % self.execution.evaluate_every == 0 or self.step == self.total or self.recipe.schedule == "plateau":
            if self.evaluation_seconds > PATIENCE:  # as it is taken to be before the first one, which is compiled
                self._save()
            begun = time.monotonic()
            for record, found in zip(records, evaluations(self.trainer, self.state), strict=True):
                record |= found
            self.evaluation_seconds = time.monotonic() - begun
        for member, record in zip(self.members, records, strict=True):
            if not member.going or member.is_logged(self.step):
                continue
            if self.leads:
                member.log(record)
            if bad := _not_finite(record):
                self._diverge(member, self.step, bad)
        self.logged, self.logged_at = self.step, time.monotonic()
        self._show()
        every, how = self.execution.keep_every, self.execution
        is_best = how.keep_best and any(member.best() == self.step for member in self.going)
        if is_best or (every and epoch % every == 0 and self.going):
            self._save()

    def _observe(self) -> None:
        """Tell schedule plateau the validation error of an epoch that has ended, once.

        A checkpoint at the end of an epoch may come before that or after; a resumed run looks it up in its log.
        """
        plateau = part_of(self.state.opt_state, Plateau)
        if plateau is None or self.step == 0 or self.step % self.trainer.steps_per_epoch:
            return
        seen = self.trainer.unreplicate(plateau)
        known = agreed(lambda: all(m.is_logged(self.step) for m in self.going))
        if not known or (seen.observed == self.step).all():
            return
        # Of what has diverged the last error that was finite, if any: it is trained no more.
        last = [m.metrics[-1].get("validation_error", math.inf) if m.metrics else math.inf for m in self.members]
        errors = np.asarray(last, np.float32).reshape(seen.factor.shape)
        if jax.process_count() > 1:
            errors = multihost_utils.broadcast_one_to_all(errors)
        new = self.trainer.replicate(observed(seen, self.step, errors, self.recipe))
        self.state = self.state.replace(opt_state=with_part(self.state.opt_state, new))

    def _save(self) -> None:
        """A checkpoint of each run that goes on; a value in it that is not finite ends its run."""
        if self.leads and self.saved < self.step:
            for member, state in zip(self.members, self._each(self.state), strict=True):
                if member.going:
                    try:
                        checkpoints.save(
                            member.run.checkpoints, self.step, state, self.execution.keep, self._kept(member)
                        )
                    except checkpoints.NotFinite as error:
                        self._diverge(member, self.step, str(error))
        self.saved, self.saved_at = self.step, time.monotonic()
        self._let_go()

    def _kept(self, member: Member) -> set[int]:
        """The steps that stay beside the newest."""
        best = member.best() if self.execution.keep_best else None
        kept = set() if best is None else {best}
        if self.execution.keep_every:
            kept |= set(range(0, self.total, self.execution.keep_every * self.trainer.steps_per_epoch))
        return kept

    def _let_go(self) -> None:
        if jax.process_count() == 1:
            signals.let_go()

    def _save_what_there_is(self) -> None:
        """After an error: the last finished step, unless the error was in a step, which had taken its buffers."""
        if self.leads and self.saved < self.step and not self.state.step.is_deleted():
            with contextlib.suppress(Exception):
                self._save()

    def _diverge(self, member: Member, step: int, tensor: str) -> None:
        newest = max(checkpoints.steps(member.run.checkpoints), default=None)
        if self.leads:
            member.end("diverged", step=step, tensor=tensor, checkpoint=newest)
        member.going = False
        if not self.going:
            self._let_go()

    def _set_status(self, state: str, **found) -> None:
        """Of the runs that have not ended."""
        for member in self.going if self.leads else []:
            member.run.set_status(state, **found)

    def _complete(self) -> None:
        """Verified, evaluated once more with the batches' own statistics, and recorded."""
        self._save()
        for member in self.going if self.leads else []:
            if checkpoints.damage(member.run.checkpoints, self.step):
                raise WriteFailed(f"{member.run.checkpoints / str(self.step)} does not hold what was written to it")
        errors = self.trainer.evaluate(self.state, "train", "batch")
        states = self._each(self.state)
        for member, found, state in zip(self.members, errors, states, strict=True):
            if member.going and self.leads:
                # A run that was killed after its last save finds its results in the log.
                results = {k: v for k, v in member.metrics[-1].items() if k.endswith(("_error", "_loss"))}
                results |= {"train_error_batch_statistics": found.error, "best_step": member.best()}
                digest = checkpoints.parameters_sha256(state.params)
                member.end("complete", step=self.step, **results, parameters_sha256=digest)
            member.going = False
        agreed(lambda: True)  # no process returns before the record is whole


def sentence(error: BaseException) -> str:
    """An error as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:500]}"


def _record(
    recipe: Recipe,
    per_epoch: int,
    sums: np.ndarray,
    step: int,
    done: int,
    seconds: float,
    plateau: Plateau | None = None,
) -> dict:
    """What was summed since the epoch began; speed over the `done` steps that took `seconds`, None for no steps."""
    since = (step - 1) % per_epoch + 1
    loss, error, norm = (float(v) / since for v in sums)
    finite = math.isfinite(loss) and math.isfinite(norm)
    rate = np.asarray(schedule(recipe, per_epoch)(step - 1)).item()
    return {
        "step": step,
        "epoch": step / per_epoch,
        "train_loss_running": loss if finite else None,
        "train_error_running": 100 * error,
        "gradient_norm": norm if finite else None,
        "learning_rate": rate if plateau is None else rate * plateau.factor.item(),
        "seconds": seconds if done else None,
        "images_per_second": done * recipe.batch_size / seconds if done else None,
    }


def _not_finite(record: dict) -> str | None:
    """The first metric that was not."""
    return next((name for name, value in record.items() if value is None and name not in TIMING), None)


def evaluations(trainer: Trainer, state: TrainState, splits: Sequence[str] = SPLITS) -> list[dict]:
    """Return loss and error of each member on whole splits, in percent; None for a loss that is not finite."""
    records: list[dict] = []
    for split in splits:
        if trainer.dataset.sizes[split]:
            errors = trainer.evaluate(state, split)
            records = records or [{} for _ in errors]
            for record, (loss, error) in zip(records, errors, strict=True):
                record |= {f"{split}_loss": loss if math.isfinite(loss) else None, f"{split}_error": error}
    return records

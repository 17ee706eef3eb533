"""Two recorded runs, built again and trained again to find where they part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from classicnets.compare import networks
from classicnets.runs import Record, checkpoints
from classicnets.runs.identity import NUMERICS
from classicnets.system.settings import pinned
from classicnets.training.config import Config
from classicnets.training.predict import state_at
from classicnets.training.programs import Trainer, trainer_for
from classicnets.training.start import Start, started
from classicnets.training.step import evaluated_params


@dataclass(frozen=True)
class Side:
    """One of the two: its record, and the network, configuration and start that the caller built of it."""

    record: Record
    model: Any
    config: Config
    start: Start | None = None

    @cached_property
    def trainer(self) -> Trainer:
        """Return the programs of the run on one device."""
        frozen = self.start.frozen if self.start else ()
        return trainer_for(self.model, self.config.recipe, self.config.data, 1, frozen)

    @cached_property
    def good(self) -> list[int]:
        """Return the steps of the good checkpoints."""
        root = self.record.checkpoints
        return [step for step in checkpoints.steps(root) if not checkpoints.damage(root, step)]

    def variables(self, step: int) -> dict:
        """Return {"params", "batch_stats"} of a checkpoint."""
        state = self.trainer.abstract_state()
        params, batch_stats = checkpoints.restore_variables(
            self.record.checkpoints, step, state.params, state.batch_stats
        )
        return {"params": params, "batch_stats": batch_stats}

    def evaluated(self, step: int) -> dict:
        """Return {"params", "batch_stats"} of a checkpoint as evaluation takes them: averaged where the recipe says."""
        state = state_at(self.record, step, self.trainer)
        return {"params": evaluated_params(state), "batch_stats": state.batch_stats}

    def state(self, step: int) -> Any:
        """Return the replicated state of a checkpoint, or for step 0 the one that the run began with.

        Raise ValueError for step 0 of a fork whose parent's checkpoint is gone.
        """
        if step:
            state = checkpoints.restore(self.record.checkpoints, step, self.trainer.abstract_state())
            return self.trainer.replicate(state)
        variables = self.start.variables(self.trainer) if self.start else {}
        return self.trainer.replicate(started(self.trainer.init(self.config.seed), variables))


@pinned()
def in_depth(one: Side, other: Side, recorded: dict, most: int, progress: Callable[[int], None]) -> dict:
    """Return {"parting", "disagreement", "cka", "weights", "at"} of two runs.

    parting: `recorded`, which is what the records tell, with "tensor", the first that differs, and "exact": whether the
    step is where the two part when trained again, one step at a time, from where they are equal; `most` such steps are
    done, of which `progress` is told, and where more were needed "again" says how many. Where that repetition does not
    part, as after a change of the record or of the machine, the steps of the records stand. at: the steps of the newest
    good checkpoints, to which the rest applies.
    """
    sides = (one, other)
    parting = recorded if recorded["identical"] else _refined(sides, recorded, most, progress)
    if not all(side.good for side in sides):
        return {"parting": parting, "disagreement": None, "cka": {}, "weights": {}, "at": None}
    at = [side.good[-1] for side in sides]
    trained = [(side.trainer, side.evaluated(step)) for side, step in zip(sides, at, strict=True)]
    return {"parting": parting, **networks.compare_networks(trained), "at": at}


def _refined(sides: Sequence[Side], recorded: dict, most: int, progress: Callable[[int], None]) -> dict:
    """Return what the records tell of a parting, narrowed down by checkpoints and by training again between them."""

    def difference(step: int) -> str | None:
        return networks.first_difference(*(side.variables(step) for side in sides))

    common = [step for step in sides[0].good if step in sides[1].good]
    saved = min(side.record.status.get("step", 0) for side in sides)
    end = recorded["step"] or max(recorded["after"], saved)
    start, tensor = 0, None
    for step in reversed([step for step in common if step <= end]):
        differing = difference(step)
        if differing is None:
            start = step
            break
        end, tensor = step, differing
    parting = {**recorded, "tensor": tensor, "exact": False, "checkpoint": start or None}
    if tensor:  # equal logs do not prove equal bits: these had parted before
        after = max(start, recorded["after"] if recorded["after"] < end else 0)
        parting |= {"identical": False, "after": after, "step": end}
    if end > start and _repeatable(sides, start, end):
        if end - start > most:
            parting["again"] = end - start
        elif exactly := _trained_again(sides, start, end, progress):
            step, tensor = exactly
            parting |= {"identical": False, "step": step, "tensor": tensor, "exact": True}
    if parting["step"] and not parting["tensor"]:
        parting["tensor"] = next(filter(None, (difference(step) for step in common if step > end)), None)
    return parting


def _repeatable(sides: Sequence[Side], start: int, end: int) -> bool:
    """Return whether to train both again from step `start` to `end` may show where they part.

    The same program from the same state does not part, batch norm per replica takes the devices of the record, what
    another version trained has other bits here, and schedule plateau is told the validation error between two epochs.
    """
    for side in sides:
        per_epoch = side.trainer.steps_per_epoch
        if side.config.recipe.schedule == "plateau" and start // per_epoch != (end - 1) // per_epoch:
            return False
    facts = [side.record.facts for side in sides]
    same = facts[0] == facts[1] and sides[0].trainer.model == sides[1].trainer.model
    return not same and all(run.get("devices", 1) == 1 and run.get("numerics") == NUMERICS for run in facts)


def _trained_again(
    sides: Sequence[Side], start: int, end: int, progress: Callable[[int], None]
) -> tuple[int, str] | None:
    """Return (step, tensor) at which the two part when both are trained again from step `start` up to `end`.

    Parameters and batch statistics are compared after each step. None if they do not part, or cannot be trained again,
    as a fork whose parent is gone.
    """
    try:
        states = [side.state(start) for side in sides]
    except ValueError:
        return None
    for step in range(start, end + 1):
        progress(step)
        plain = [side.trainer.unreplicate(state) for side, state in zip(sides, states, strict=True)]
        name = networks.first_difference(*((state.params, state.batch_stats) for state in plain))
        if name is not None:
            return step, name.split("/", 1)[1]
        if step < end:
            states = [
                jax.block_until_ready(side.trainer.train(state, side.config.seed, 1))
                for side, state in zip(sides, states, strict=True)
            ]
    return None

"""Two recorded runs, built again and set side by side."""

from collections.abc import Callable

from classicnets.cli.recorded import Record
from classicnets.compare import networks as similarity
from classicnets.runs import checkpoints
from classicnets.system.settings import pinned
from classicnets.training.programs import trainer_for
from classicnets.training.start import started


class Side:
    """One of the two: its trainer, its good checkpoints, and its state at a step."""

    def __init__(self, record: Record):
        self.record, self.root, self.seed = record, record.run.checkpoints, record.config.seed
        frozen = record.start.frozen if record.start else ()
        network = record.network(**record.layout)
        self.trainer = trainer_for(network, record.config.recipe, record.config.data, 1, frozen)
        self.good = [s for s in checkpoints.steps(self.root) if not checkpoints.damage(self.root, s)]

    def variables(self, step: int) -> dict:
        """{"params", "batch_stats"} of a checkpoint."""
        return similarity.variables_at(self.trainer, self.root, step)

    def state(self, step: int):
        """The replicated state of a checkpoint, or for step 0 the one that the run began with.

        Raises ValueError for step 0 of a fork whose parent's checkpoint is gone.
        """
        if step:
            return self.trainer.replicate(checkpoints.restore(self.root, step, self.trainer.abstract_state()))
        variables = self.record.start.variables(self.trainer) if self.record.start else {}
        return self.trainer.replicate(started(self.trainer.init(self.seed), variables))


@pinned()
def in_depth(one: Record, other: Record, found: dict, most: int, progress: Callable[[int], None]) -> dict:
    """{"parting", "disagreement", "cka", "weights", "at"} of two runs of classicnets' own networks.

    parting: `found`, which is what the records tell, with "tensor", the first that differs, and "exact": whether the
    step is where the two part when trained again, one step at a time, from where they are equal; `most` such steps are
    done, and where more were needed "again" says how many. Where that repetition does not part, as after a change of
    the record or of the machine, the steps of the records stand. at: the steps of the newest good checkpoints, to which
    the rest applies.
    """
    sides = [Side(one), Side(other)]
    if not found["identical"]:
        found = found | _parting(sides, found, most, progress)
    if not all(side.good for side in sides):
        return {"parting": found, "disagreement": None, "cka": {}, "weights": {}, "at": None}
    at = [side.good[-1] for side in sides]
    pairs = [(side.trainer, side.variables(step)) for side, step in zip(sides, at, strict=True)]
    return {"parting": found, **similarity.compare_networks(pairs), "at": at}


def _parting(sides: list[Side], found: dict, most: int, progress: Callable[[int], None]) -> dict:
    """What is to be told of a parting beside the records, or instead of them."""

    def difference(step: int) -> str | None:
        return similarity.first_difference(*(side.variables(step) for side in sides))

    common = [step for step in sides[0].good if step in sides[1].good]
    saved = min(side.record.run.status.get("step", 0) for side in sides)
    start, end, told = 0, found["step"] or max(found["after"], saved), {"tensor": None, "exact": False}
    for step in reversed([step for step in common if step <= end]):
        tensor = difference(step)
        if tensor is None:
            start = step
            break
        # Equal logs do not prove equal bits: these had parted before.
        end, told = step, told | {"identical": False, "step": step, "tensor": tensor}
    told["checkpoint"] = start or None
    if told["tensor"]:
        told["after"] = max(start, found["after"] if found["after"] < end else 0)
    if end > start and _repeatable(sides):
        told |= {"again": end - start} if end - start > most else _again(sides, start, end, progress)
    if found["step"] and not told["tensor"]:
        told["tensor"] = next((tensor for step in common if step > end and (tensor := difference(step))), None)
    return told


def _repeatable(sides: list[Side]) -> bool:
    """Whether to train both again may show where they part.

    The same program from the same state does not part, and batch norm per replica takes the devices of the record.
    """
    facts = [side.record.run.facts for side in sides]
    same = facts[0] == facts[1] and sides[0].trainer.model == sides[1].trainer.model
    return not same and all(one.get("devices", 1) == 1 for one in facts)


def _again(sides: list[Side], start: int, end: int, progress: Callable[[int], None]) -> dict:
    """The step and tensor at which the two part when both are trained again; {} if they do not, or cannot be."""
    try:
        states = [side.state(start) for side in sides]
    except ValueError:  # of a fork whose parent is gone
        return {}
    trainers = [(side.trainer, side.seed) for side in sides]
    exactly = similarity.part_in_training(trainers, states, start, end, progress)
    if exactly is None:
        return {}
    step, tensor = exactly
    return {"identical": False, "step": step, "tensor": tensor, "exact": True}

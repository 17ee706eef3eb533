"""Two recorded runs, built again and set side by side."""

from classicnets.analysis import similarity
from classicnets.analysis.comparison import parting
from classicnets.models import create
from classicnets.record import Record
from classicnets.runs import checkpoints
from classicnets.training.loop import trainer_for


class Side:
    """One of the two: its trainer, and its state at a step."""

    def __init__(self, record: Record):
        self.record, self.run, self.seed = record, record.run, record.config.seed
        layout = {k: v for k, v in record.execution.items() if k in ("conv", "unroll")}
        model = create(record.model, **record.fields | layout)
        self.trainer = trainer_for(model, record.config.recipe, record.config.data, 1)
        self.good = [
            s for s in checkpoints.steps(self.run.checkpoints) if not checkpoints.damage(self.run.checkpoints, s)
        ]

    def state(self, step: int):
        """The replicated state of a checkpoint, or the initial one for step 0."""
        if step == 0:
            return self.trainer.initial_state(self.seed)
        found = checkpoints.restore(self.run.checkpoints, step, self.trainer.abstract_state())
        return self.trainer.replicate(found)

    @property
    def variables(self) -> dict | None:
        """Those of the newest good checkpoint."""
        return similarity.variables_at(self.trainer, self.run.checkpoints, self.good[-1]) if self.good else None


def in_depth(one: Record, other: Record, exact: bool = True) -> dict:
    """{"parting", "disagreement", "cka", "weights"} of two runs of classicnets' own networks.

    parting: as the records tell; with `exact` the steps between the last that is equal and the first that is not are
    trained again, one by one, and "tensor" names the first that differs, "exact" is True. Where that repetition does
    not part, as after a change of the record or of the machine, the interval of the records stands.
    """
    sides = [Side(one), Side(other)]
    found = parting(one.run, other.run)
    if not found["identical"]:
        found |= _tensor(sides, found, exact)
    variables = [side.variables for side in sides]
    if all(variables):
        similar = similarity.compare_networks([(s.trainer, v) for s, v in zip(sides, variables, strict=True)])
    else:
        similar = {"disagreement": None, "cka": {}, "weights": {}}
    return {"parting": found, **similar}


def _tensor(sides: list[Side], found: dict, exact: bool) -> dict:
    """What is to be told of a parting beside the records: {"step", "tensor", "exact"}."""
    common = [step for step in sides[0].good if step in sides[1].good]
    end = found["step"] or min(side.run.status.get("step", 0) for side in sides)
    start = max((step for step in common if step <= found["after"]), default=0)
    begun_alike = not any(side.record.parent for side in sides)
    if exact and (start or begun_alike):
        trainers = [(side.trainer, side.seed) for side in sides]
        exactly = similarity.part_in_training(trainers, [side.state(start) for side in sides], start, end)
        if exactly:
            return {"step": exactly[0], "tensor": exactly[1], "exact": True}
    for step in (step for step in common if step >= end):
        states = [side.trainer.unreplicate(side.state(step)) for side in sides]
        name = similarity.first_difference(*(state.params for state in states))
        if name:
            return {"tensor": name, "exact": False}
    return {"tensor": None, "exact": False}

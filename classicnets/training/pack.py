"""Runs of one network that advance together: one alone, or several as one program."""

from collections.abc import Sequence

import jax
import numpy as np

from classicnets.training.config import Config
from classicnets.training.step import Errors, Trainer, TrainState

# The fields of a recipe in which the members of a pack may differ, beside the seed.
SCALARS = ("learning_rate", "momentum", "weight_decay")


class Pack:
    """The programs of a trainer for members that differ in the seed and in SCALARS only.

    One member alone has the trainer's own programs, and their bits. Several agree with separate runs to rounding under
    vmap, and on a CPU, where they take turns, in every bit unless their momenta differ. Their replicated state has an
    axis of members after that of devices. What is returned has one entry a member.
    """

    def __init__(self, trainer: Trainer, configs: Sequence[Config]):
        self.trainer = trainer
        self.seeds = [config.seed for config in configs]
        values = {name: [getattr(config.recipe, name) for config in configs] for name in SCALARS}
        # What all have in common with the trainer's recipe stays a constant of the program.
        self.scalars = {
            name: of_each for name, of_each in values.items() if set(of_each) != {getattr(trainer.recipe, name)}
        }
        self.alone = len(configs) == 1 and not self.scalars

    def replicate(self, states: Sequence[TrainState]) -> TrainState:
        """The states of all members on all devices."""
        one = states[0] if self.alone else jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        return self.trainer.replicate(one)

    def unreplicate(self, tree) -> list:
        """The first replica of each member's part, on the host."""
        host = self.trainer.unreplicate(tree)
        if self.alone:
            return [host]
        return [jax.tree.map(lambda leaf, i=i: leaf[i], host) for i in range(len(self.seeds))]

    def train(self, state: TrainState, steps: int) -> TrainState:
        """`steps` more steps, which must end in the epoch in which they begin."""
        if self.alone:
            return self.trainer.train(state, self.seeds[0], steps)
        return self.trainer.train_packed(state, self.seeds, self.scalars, steps)

    def evaluate(self, state: TrainState, split: str, statistics: str = "running") -> list[Errors]:
        """As `Trainer.evaluate`."""
        if self.alone:
            return [self.trainer.evaluate(state, split, statistics)]
        return self.trainer.evaluate_packed(state, split, statistics)

    def faults(self, state: TrainState) -> list[tuple[int, str] | None]:
        """(step, name) of the first tensor that was not finite, None if all were."""
        return [self.trainer.named(fault) for fault in self.unreplicate(state.fault)]

"""How long a run will take, from a few of its steps."""

import time
from dataclasses import dataclass

import jax

from classicnets.system.settings import pinned
from classicnets.training.config import Config, Execution
from classicnets.training.loop import trainer_for

# Seconds that the timed steps take at least.
LONG_ENOUGH = 0.3


@dataclass(frozen=True)
class Cost:
    """Seconds of a step and of an evaluation of everything, once compiled."""

    step: float
    evaluation: float
    steps_per_epoch: int

    def of(self, config: Config, execution: Execution) -> float:
        """Seconds of a whole run, without compilation and checkpoints."""
        steps = config.recipe.total_steps(self.steps_per_epoch)
        evaluations = -(-steps // (self.steps_per_epoch * execution.evaluate_every))
        return self.step * steps + self.evaluation * evaluations


@pinned()
def probe(model, config: Config) -> Cost:
    """The cost of training on one device, measured here on the run's own data."""
    trainer = trainer_for(model, config.recipe, config.data, 1)
    state = jax.block_until_ready(trainer.train(trainer.initial_state(config.seed), config.seed, 1))
    steps = took = 0
    while took < LONG_ENOUGH and 2 * steps < trainer.steps_per_epoch:
        steps = 2 * steps or 1
        state = jax.block_until_ready(trainer.initial_state(config.seed))
        begun = time.monotonic()
        state = jax.block_until_ready(trainer.train(state, config.seed, steps))
        took = time.monotonic() - begun
    trainer.evaluate(state, "test")
    begun = time.monotonic()
    trainer.evaluate(state, "test")
    sizes = trainer.dataset.sizes
    evaluation = (time.monotonic() - begun) * sum(sizes.values()) / sizes["test"]
    return Cost(took / steps, evaluation, trainer.steps_per_epoch)

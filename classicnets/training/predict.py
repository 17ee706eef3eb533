"""A trained network: its variables, what it says of images, and its errors."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from classicnets.runs import Record, Run, checkpoints
from classicnets.runs.identity import NUMERICS
from classicnets.system.settings import pinned
from classicnets.training.config import Config
from classicnets.training.programs import Trainer, trainer_for
from classicnets.training.session import SPLITS, evaluations
from classicnets.training.step import TrainState, evaluated_params


@dataclass(frozen=True)
class Trained:
    """The network of a run at its newest good checkpoint.

    model: the Flax module; run: its record; config: what it was trained on and how; step: of the checkpoint.
    """

    run: Run
    model: Any
    config: Config
    step: int

    @classmethod
    def of(cls, run: Run, model: Any, config: Config) -> Self:
        """Return the newest state of `run`; raise ValueError if it has no good checkpoint, warn of a newer damaged."""
        return cls(run, model, config, newest_good(run))

    @cached_property
    @pinned()
    def variables(self) -> dict:
        """{"params": tree, "batch_stats": tree}, as `model.apply` takes them."""
        state = state_at(self.run, self.step, self.trainer)
        return {"params": evaluated_params(state), "batch_stats": state.batch_stats}

    @pinned()
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return float logits [n, classes] of uint8 images [n, h, w, c], 0 to 255, in inference mode.

        The images are normalised with the moments of the run's training images, and resized if the run did so. Raise
        ValueError for other images than those of the run's data set in type or shape.
        """
        images, shape = np.asarray(images), self.trainer.dataset.shape
        if images.dtype != np.uint8 or images.shape[1:] != shape or images.ndim != 4:
            form = " x ".join(map(str, images.shape))
            expected = " x ".join(map(str, shape))
            raise ValueError(f"images must be uint8, n x {expected}, as they were read, got {images.dtype}, {form}")
        batch = min(self.config.recipe.batch_size, max(1, len(images)))
        parts = [images[i : i + batch] for i in range(0, len(images), batch)] or [images]
        return np.concatenate([np.asarray(self._apply(self.variables, jnp.asarray(part))) for part in parts])

    @cached_property
    def _apply(self) -> Callable:
        return jax.jit(lambda variables, x: self.model.apply(variables, self.trainer.prepared(x), train=False))

    @cached_property
    def trainer(self) -> Trainer:
        """Return the programs of the run on one device, or on those of all processes where there are several."""
        return trainer_for(self.model, self.config.recipe, self.config.data, None if jax.process_count() > 1 else 1)


@pinned()
def evaluate(run: Run, model: Any, config: Config, splits: tuple[str, ...] = SPLITS) -> dict:
    """Return loss and error, in percent, of the newest good checkpoint of `run` on whole splits; nothing is written.

    Warn of a newer checkpoint that is damaged; raise ValueError if none is good.
    """
    step = newest_good(run)
    batch = config.recipe.batch_size
    devices = max(n for n in range(1, jax.device_count() + 1) if batch % n == 0)
    trainer = trainer_for(model, config.recipe, config.data, None if jax.process_count() > 1 else devices)
    (record,) = evaluations(trainer, trainer.replicate(state_at(run, step, trainer)), splits)
    return {"step": step, **record}


def state_at(run: Run | Record, step: int, trainer: Trainer) -> TrainState:
    """Return the state of a checkpoint; of an earlier NUMERICS its variables alone, under the names of today."""
    abstract = trainer.abstract_state()
    if run.facts.get("numerics") == NUMERICS:
        return checkpoints.restore(run.checkpoints, step, abstract)
    params, batch_stats = checkpoints.restore_variables(run.checkpoints, step, abstract.params, abstract.batch_stats)
    return trainer.init(0).replace(params=params, batch_stats=batch_stats)


def newest_good(run: Run) -> int:
    """Return the step of the newest good checkpoint; warn of a newer damaged one, raise ValueError if none is good."""
    step = checkpoints.newest_good(run.checkpoints)
    if step is None:
        raise ValueError(f"run {run.id} holds no good checkpoint")
    newest = checkpoints.steps(run.checkpoints)[-1]
    if step < newest:
        warnings.warn(f"checkpoint {newest} of {run.id} is damaged; this is step {step}", stacklevel=3)
    return step

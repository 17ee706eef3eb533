"""The classic convolutional networks, exact, and experiments with them that repeat bit for bit."""

from typing import Any

__version__ = "0.1.0"


def create(name: str, **fields: Any) -> Any:
    """The network `name`, a Flax module, with `fields` set: create("resnet50", num_classes=10).

    Raises ValueError naming the nearest valid name or field. `classicnets models` lists the names.
    """
    from classicnets import models  # jax is imported when the first network is made

    return models.create(name, **fields)


def load(run: str, runs: str = "runs") -> Any:
    """Return the trained network of a run, named by its id below `runs`, or by its directory.

    `load("RUN").logits(images)` takes uint8 images [n, h, w, c] and normalises them as in training; `.model` is the
    Flax module, `.variables` are its parameters and batch statistics at the newest good checkpoint, `.step`, `.config`
    and `.run` say where they come from. Raise ValueError for a run that is not there, holds no good checkpoint, or
    whose module computes something else now.
    """
    from pathlib import Path

    from classicnets.cli.recorded import Rebuilt
    from classicnets.training.predict import Trained

    rebuilt = Rebuilt(Path(runs).expanduser(), str(run))
    return Trained.of(rebuilt.run, rebuilt.network(), rebuilt.config)

"""The classic convolutional networks, exact, and experiments with them that repeat bit for bit."""

from typing import Any

__version__ = "0.1.0"


def create(name: str, **fields: Any) -> Any:
    """The network `name`, a Flax module, with `fields` set: create("resnet50", num_classes=10).

    Raises ValueError naming the nearest valid name or field. `classicnets models` lists the names.
    """
    from classicnets import models  # jax is imported when the first network is made

    return models.create(name, **fields)

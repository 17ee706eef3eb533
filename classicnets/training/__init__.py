"""Training of any Flax module."""

from classicnets.training.config import Config, Execution, Recipe
from classicnets.training.loop import train

__all__ = ["Config", "Execution", "Recipe", "train"]

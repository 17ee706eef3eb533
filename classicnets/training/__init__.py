"""Training of any Flax module."""

from classicnets.training.config import Config, Execution, Recipe, config_of
from classicnets.training.loop import evaluate, facts, train

__all__ = ["Config", "Execution", "Recipe", "config_of", "evaluate", "facts", "train"]

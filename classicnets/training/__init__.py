"""Training of any Flax module."""

from classicnets.training.config import Config, Execution, Recipe, config_of
from classicnets.training.loop import Parent, evaluate, facts, train, train_packed

__all__ = ["Config", "Execution", "Parent", "Recipe", "config_of", "evaluate", "facts", "train", "train_packed"]

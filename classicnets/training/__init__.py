"""Training of any Flax module."""

from classicnets.training.config import Config, Execution, Recipe, config_of
from classicnets.training.facts import facts
from classicnets.training.predict import Trained, evaluate
from classicnets.training.start import Made, Parent, Start, Weights
from classicnets.training.train import train, train_packed

__all__ = [
    "Config",
    "Execution",
    "Made",
    "Parent",
    "Recipe",
    "Start",
    "Trained",
    "Weights",
    "config_of",
    "evaluate",
    "facts",
    "train",
    "train_packed",
]

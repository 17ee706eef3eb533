"""Data sets as arrays, and augmentation inside jit."""

from classicnets.data.dataset import DATASETS, DataConfig, Dataset, check, listing, load, sizes
from classicnets.data.prepare.tfds import prepare

__all__ = ["DATASETS", "DataConfig", "Dataset", "check", "listing", "load", "prepare", "sizes"]

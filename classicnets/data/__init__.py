"""Data sets as arrays, and augmentation inside jit."""

from classicnets.data.sources import DATASETS, DataConfig, Dataset, check, load

__all__ = ["DATASETS", "DataConfig", "Dataset", "check", "load"]

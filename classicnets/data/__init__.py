"""Data sets as arrays, and augmentation inside jit."""

from classicnets.data.dataset import DATASETS, DataConfig, Dataset, listing, load, sizes

__all__ = ["DATASETS", "DataConfig", "Dataset", "listing", "load", "sizes"]

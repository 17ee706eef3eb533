"""Data sets by name, and augmentation."""

from classicnets.data.dataset import DATASETS, DataConfig, Dataset, listing, load, sizes

__all__ = ["DATASETS", "DataConfig", "Dataset", "listing", "load", "sizes"]

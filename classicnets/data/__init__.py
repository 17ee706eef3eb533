"""Data sets by name, and augmentation."""

from classicnets.data.dataset import DataConfig, Dataset, listing, load, sizes
from classicnets.data.sources import DATASETS

__all__ = ["DATASETS", "DataConfig", "Dataset", "listing", "load", "sizes"]

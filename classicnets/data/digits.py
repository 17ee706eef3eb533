"""The data set that comes with the package."""

import gzip
import hashlib
from functools import cache
from importlib import resources

import numpy as np

from classicnets.data.arrays import Arrays

SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
# Examples that are not for test. They keep the order that they had before sets stood in that of their content.
POOL = 1_537


@cache
def read() -> Arrays:
    """Return UCI's optical recognition of handwritten digits, the test file: 1,797 images of 8x8, grey 0 to 16.

    Alpaydin & Kaynak 1998, https://doi.org/10.24432/C50P49, CC BY 4.0, in the row format of scikit-learn's
    copy (64 pixels, label). The order of the examples is by SHA-256 of their row number; by default the first
    1,408 (11 batches of 128) are for training, then 129 for validation and 260 for test.
    """
    packed = (resources.files("classicnets.data") / "digits.csv.gz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise ValueError("the package's digits.csv.gz is damaged: its SHA-256 differs; install classicnets again")
    rows = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float64).astype(np.uint8)
    rows = rows[sorted(range(len(rows)), key=lambda i: hashlib.sha256(str(i).encode()).digest())]
    images, labels = rows[:, :64].reshape(-1, 8, 8, 1), rows[:, 64].astype(np.int32)
    return Arrays(images, labels, POOL, SHA256)

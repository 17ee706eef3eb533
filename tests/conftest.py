"""Four forced CPU devices, rank promotion raises, programs compiled once for the tests and all that they start."""

import os
import tempfile
from pathlib import Path

os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir()) / "classicnets-test-cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

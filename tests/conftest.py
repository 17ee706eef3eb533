"""Four forced CPU devices, rank promotion raises, programs compiled once for the tests and all that they start."""

import os
import tempfile
from pathlib import Path

os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir()) / "classicnets-test-cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

import jax  # it reads the environment as it is imported
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def without_expensive_passes():
    """Compile without XLA's expensive passes, for programs that run once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", autouse=True)
def let_go_of_programs():
    """Unload what a file compiled: a program takes hundreds of memory maps, and Linux allows a process 65,530."""
    yield
    jax.clear_caches()

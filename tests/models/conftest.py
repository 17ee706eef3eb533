"""Compile the networks' programs without XLA's expensive passes: here they run once, on tiny images."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _without_expensive_passes():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)

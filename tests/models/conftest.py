"""Compile quickly: what is tested here are shapes, counts and values of single passes, not speed."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
    """Leave out most of XLA's optimisations, as long as tests of this folder run."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)

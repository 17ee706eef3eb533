"""The networks' programs run once here, on tiny images."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _once(without_expensive_passes):
    pass

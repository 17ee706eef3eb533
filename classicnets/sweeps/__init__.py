"""Many runs: jobs, the processes that train them, and the engines that start those."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`Job`, `sweep` and `ENGINES`, imported when first used: a worker binds its cores before it imports jax."""
    if name not in ("ENGINES", "Job", "sweep"):
        raise AttributeError(f"module 'classicnets.sweeps' has no attribute {name!r}")
    from classicnets.sweeps import jobs, plan

    return jobs.Job if name == "Job" else getattr(plan, name)

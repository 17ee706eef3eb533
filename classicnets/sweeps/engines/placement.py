"""How tasks are placed, and what comes of one."""

from collections.abc import Callable
from dataclasses import dataclass

Ended = tuple[int, dict] | None


@dataclass(frozen=True)
class Placement:
    """How jobs are placed: `jobs` at once on `cores` cores each, again after `retries` deaths of their workers.

    pack: those that differ in the seed and scalars of the recipe only are one task, and one program.

    address: of a Ray cluster, None for one that is started here and ends with the sweep. slurm: submitit's parameters,
    such as {"slurm_partition": "gpu"}; {"cluster": "local"} runs the array here.
    """

    jobs: int = 1
    cores: int = 1
    retries: int = 1
    pack: bool = False
    address: str | None = None
    slurm: tuple[tuple[str, str], ...] = ()


def failed(error: str) -> dict:
    """Return the outcome of a task whose worker is no more."""
    return {"error": error}


def result_of(get: Callable[[], dict]) -> dict:
    """Return get(), or the outcome of a task that raises there."""
    try:
        return get()
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return failed(lines[-1].strip()[:500])

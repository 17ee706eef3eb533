"""Array jobs of Slurm."""

import contextlib
import shutil
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from classicnets.sweeps import worker
from classicnets.sweeps.engines.placement import Ended, Placement, failed, result_of


def slurm(texts: Sequence[str], root: Path, how: Placement) -> Generator[Ended, None, None]:
    """A job array of Slurm, `how.jobs` of it at once; what a preempted job has not finished, the next start does."""
    try:
        import submitit
    except ImportError:
        raise ValueError("the engine slurm needs the extra 'slurm': pip install 'classicnets[slurm]'") from None
    options = {"cluster": "slurm", **dict(how.slurm)}
    cluster = options.pop("cluster")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ValueError("slurm cannot be used: sbatch is not here; '--slurm cluster=local' runs the array without it")
    count = len(texts)
    try:
        executor = submitit.AutoExecutor(folder=root / ".slurm", cluster=cluster)
        numbers = {key: _number(value) for key, value in options.items()}
        executor.update_parameters(cpus_per_task=how.cores, slurm_array_parallelism=how.jobs, **numbers)
        submitted = executor.map_array(
            worker.train_in_process_of_its_own, texts, [str(root)] * count, [how.cores] * count
        )
    except Exception as error:  # what submitit and sbatch object to has no class of its own
        raise ValueError(f"slurm cannot be used: {_reason(error)}") from None
    tries = dict.fromkeys(range(count), 0)
    waiting = dict(enumerate(submitted))
    while waiting:
        for index, job in list(waiting.items()):
            if not job.done():
                continue
            found = result_of(job.result)
            if "errors" not in found and tries[index] < how.retries:
                tries[index] += 1
                try:
                    waiting[index] = executor.submit(
                        worker.train_in_process_of_its_own, texts[index], str(root), how.cores
                    )
                    continue
                except Exception as error:  # as when the queue takes no more
                    found = failed(f"{found['error']}; not submitted again: {_reason(error)}")
            del waiting[index]
            yield index, found
        time.sleep(0.5)
        yield None


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return next((text for line in str(error).splitlines() if (text := line.strip())), type(error).__name__)[:500]


def _number(word: str) -> int | float | str:
    """What submitit takes for the word: most of its parameters are checked for their kind."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word

"""Where tasks are trained: worker processes here, tasks of a Ray cluster, or array jobs of Slurm.

An engine is a function of the tasks' texts that yields (index, outcome) as they end, and None at least once a second.
The outcome is the worker's, or {"error": ...} where the worker died more often than `retries` allow.
"""

import contextlib
import importlib.util
import itertools
import json
import logging
import os
import pkgutil
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from classicnets.sweeps import worker
from classicnets.system.cores import available

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
    return {"error": error}


def local(texts: Sequence[str], root: Path, how: Placement) -> Generator[Ended, None, None]:
    """`how.jobs` worker processes that live as long as there is something to do, each with one accelerator."""
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, dict]] = queue.SimpleQueue()
    for index in range(len(texts)):
        left.put(index)
    slots = [threading.Thread(target=_slot, args=(i, texts, root, how, left, ended)) for i in range(how.jobs)]
    for slot in slots:
        slot.daemon = True
        slot.start()
    for _ in texts:
        while True:
            try:
                yield ended.get(timeout=1)
                break
            except queue.Empty:
                if not any(slot.is_alive() for slot in slots) and ended.empty():
                    raise RuntimeError("the threads that start workers have failed") from None
                yield None
    for slot in slots:
        slot.join()


def _slot(
    number: int,
    texts: Sequence[str],
    root: Path,
    how: Placement,
    left: "queue.SimpleQueue[int]",
    ended: "queue.SimpleQueue[tuple[int, dict]]",
) -> None:
    """One worker process after another, until no job is left."""
    seen = devices()
    own = seen[number % len(seen)] if seen else {}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": worker.environment() | own}
    process = None
    with tempfile.TemporaryFile("w+", errors="replace") as complaint, contextlib.suppress(queue.Empty):
        while True:
            index, found = left.get_nowait(), {}
            for _ in range(1 + how.retries):
                if process is None:
                    complaint.seek(0)
                    complaint.truncate()
                    try:
                        process = subprocess.Popen(worker.command(root, how.cores), stderr=complaint, **pipes)
                    except OSError as error:  # as when there is no memory for another process
                        found = failed(f"no worker could be started: {error.strerror}")
                        continue
                answer = worker.ask(process, texts[index])
                if answer:
                    found = json.loads(answer)
                    break
                code = process.wait()
                with contextlib.suppress(BrokenPipeError):
                    process.communicate()
                complaint.seek(0)
                found, process = failed(worker.cause(code, complaint.read())), None
            ended.put((index, found))
    if process is not None:
        process.communicate(f"{worker.END}\n")


def devices(dev: Path = Path("/dev")) -> list[dict[str, str]]:
    """What the environment of a process says for it to see one accelerator alone, for each that this one may use.

    Empty where jax computes on the CPU: JAX_PLATFORMS says so, or neither its CUDA plugin nor libtpu is installed.
    CUDA_VISIBLE_DEVICES, or TPU_VISIBLE_CHIPS, name those that this process may use; otherwise they are counted in
    /dev. Without the bounds, a process that sees one TPU chip still locks all of them (the environment is
    that of jax's own tests with several processes, jax/_src/test_multiprocess.py).
    """
    platforms = set(os.environ.get("JAX_PLATFORMS", "").split(",")) - {""}
    if platforms and not platforms & {"cuda", "gpu", "tpu"}:
        return []
    gpus = _named("CUDA_VISIBLE_DEVICES", dev.glob("nvidia[0-9]*")) if _has_cuda() else []
    if gpus or importlib.util.find_spec("libtpu") is None:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    chips = _named("TPU_VISIBLE_CHIPS", [*dev.glob("accel[0-9]*"), *dev.glob("vfio/[0-9]*")])
    return [
        {
            "TPU_VISIBLE_CHIPS": chip,
            "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_ADDRESSES": f"localhost:{8476 + number}",
            "TPU_PROCESS_PORT": str(8476 + number),
            "CLOUD_TPU_TASK_ID": "0",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
        for number, chip in enumerate(chips)
    ]


def at_once(cores: int, engine: str = "local") -> int:
    """How many workers on `cores` cores this machine has room for: local ones, one for each accelerator that it has."""
    room = available() // max(1, cores)
    return max(1, min(room, len(devices()) or room) if engine == "local" else room)


def _has_cuda() -> bool:
    """Whether jax would find its plugin for CUDA, which it looks for in this namespace."""
    spec = importlib.util.find_spec("jax_plugins")
    places = (spec.submodule_search_locations if spec else None) or []
    return any("cuda" in module.name for module in pkgutil.iter_modules(list(places)))


def _named(variable: str, files: Iterable[Path]) -> list[str]:
    """The devices that an environment variable names, by their numbers in /dev if it is not set."""
    if variable in os.environ:
        names = [name.strip() for name in os.environ[variable].split(",")]
        return list(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))
    return sorted((re.sub("[^0-9]", "", file.name) for file in files), key=int)


def ray(texts: Sequence[str], root: Path, how: Placement) -> Generator[Ended, None, None]:
    """Tasks of a Ray cluster, each on `how.cores` of its CPUs and, where there are some, one of its GPUs."""
    try:
        import ray
    except ImportError:
        raise ValueError("the engine ray needs the extra 'ray': pip install 'classicnets[ray]'") from None
    if how.address:
        _require_answer(how.address)
    begun = not ray.is_initialized()
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    if begun:
        own = {} if how.address else {"num_cpus": how.jobs * how.cores, "include_dashboard": False}
        try:
            ray.init(address=how.address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"no Ray cluster answers at {how.address!r}: {str(error).splitlines()[0]}") from None
    try:
        most = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=0)
        if how.cores > most:  # an autoscaler may still start one
            warnings.warn(f"tasks of {how.cores} cores wait: no node of the cluster has more than {most}", stacklevel=2)
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        # A task is tried again by Ray when its node is lost, and when it raises, as it does when its worker dies.
        task = ray.remote(num_cpus=how.cores, num_gpus=gpus, max_retries=how.retries, retry_exceptions=True)(
            worker.train_in_process_of_its_own
        )
        waiting = {task.remote(text, str(root), how.cores): index for index, text in enumerate(texts)}
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=1)
            for future in done:
                yield waiting.pop(future), _result(lambda future=future: ray.get(future))
            if not done:
                yield None
    finally:
        if begun:
            ray.shutdown()


def _require_answer(address: str) -> None:
    """ValueError if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise ValueError(f"no Ray cluster answers at {address!r}: {error}") from None


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
            found = _result(job.result)
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


def _result(get: Callable[[], dict]) -> dict:
    try:
        return get()
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return failed(lines[-1].strip()[:500])


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return next((text for line in str(error).splitlines() if (text := line.strip())), type(error).__name__)[:500]


def _number(word: str) -> int | float | str:
    """What submitit takes for the word: most of its parameters are checked for their kind."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word


ENGINES: dict[str, Callable[[Sequence[str], Path, Placement], Generator[Ended, None, None]]] = {
    "local": local,
    "ray": ray,
    "slurm": slurm,
}

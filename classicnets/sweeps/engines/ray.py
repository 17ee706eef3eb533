"""Tasks of a Ray cluster."""

import logging
import os
import socket
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path

from classicnets.sweeps import worker
from classicnets.sweeps.engines.placement import Ended, Placement, result_of


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
                yield waiting.pop(future), result_of(lambda future=future: ray.get(future))
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

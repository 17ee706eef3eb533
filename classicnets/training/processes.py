"""What several processes of one run (`jax.distributed`) do as one."""

import hashlib
import json
import re
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from classicnets.system import signals


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Become number `process` of `processes` that train one run; alone if nothing is given.

    coordinator: HOST:PORT of the first. Raises ValueError, in one sentence, for values that name no such place.
    """
    if coordinator is None and processes is None and process is None:
        return
    if coordinator is None or processes is None or process is None:
        raise ValueError("coordinator, processes and process are given together: HOST:PORT, how many, and which one")
    if not 0 <= process < processes:
        raise ValueError(f"process must be in [0, {processes - 1}], got {process}")
    if not re.fullmatch(r"[^:\s]+:\d{1,5}", coordinator):
        raise ValueError(f"coordinator must be HOST:PORT, got {coordinator!r}")
    jax.distributed.initialize(coordinator, processes, process)
    signals.take()
    signals.hold()  # none of several processes may end alone: they agree on a step


def leads() -> bool:
    return jax.process_index() == 0


def require_equal(decided: dict) -> None:
    """ValueError in every process if the processes were not all started to compute the same."""
    if jax.process_count() > 1:
        digest = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).digest()
        every = np.asarray(multihost_utils.process_allgather(np.frombuffer(digest, np.uint8)))
        if (every != every[0]).any():
            raise ValueError("the processes of a run must have the same options, got different ones")


def agreed(decide: Callable[[], bool]) -> bool:
    """What process 0 finds, in all processes; if it raises there, all raise."""
    if jax.process_count() == 1:
        return decide()
    found, error = False, None
    if leads():
        try:
            found = decide()
        except Exception as raised:
            error = raised
    code = int(multihost_utils.broadcast_one_to_all(np.int32(2 if error else found)))
    if error:
        raise error
    if code == 2:
        raise RuntimeError("process 0 failed; its output says why")
    return bool(code)

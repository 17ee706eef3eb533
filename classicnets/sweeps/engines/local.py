"""Worker processes on this machine."""

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from classicnets.sweeps import worker
from classicnets.sweeps.engines.placement import Ended, Placement, failed
from classicnets.system import accelerators


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
    seen = accelerators.visible()
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
